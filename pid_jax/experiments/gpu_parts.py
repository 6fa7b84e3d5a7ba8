# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The parts of `gpu_check`: what each measures on one GPU.

This module is a script, each run of which is a process of one part (of all
parts where sizes are tiny). A part is a generator of `Row`s, which are printed
as lines of JSON when they come, so that a part that is stopped has told what it
knew. Nothing here needs TensorFlow, SeqIO or a vocabulary. Without transformers
and PyTorch the rows of other libraries say so.
"""

import argparse
from collections.abc import Callable
from collections.abc import Iterator
from concurrent import futures
import dataclasses
import functools
import json
import os
import pathlib
import time
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pid_jax import checkpoints
from pid_jax import compilation
from pid_jax import config as config_lib
from pid_jax import decoding
from pid_jax import inference
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import platforms
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.checkpoints import hugging_face
from pid_jax.experiments import baselines as baselines_lib
from pid_jax.experiments import benchmarking
from pid_jax.experiments import layouts
from pid_jax.experiments import machine
from pid_jax.experiments import profiling
from pid_jax.experiments import synthetic
from pid_jax.experiments import timer
from pid_jax.experiments import variants
from pid_jax.experiments import workloads
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

# The environment variable that says when a part's process was started.
STARTED = 'PID_JAX_STARTED'
# Milliseconds that TensorRT-LLM publishes for `flan_t5_xl` on one H100, by
# batch: inputs of 260 to 440 tokens, 128 new tokens.
_TENSORRT_LLM = {32: 706, 64: 1137, 128: 1999}
# Relative error of logits: rounding of sums in float32, and of TF32 and
# bfloat16, which lie one and two orders of magnitude above.
_MAX_ERROR = {'float32': 1e-4, 'bfloat16': 3e-2}


@dataclasses.dataclass(frozen=True)
class Row:
  """A line of the table.

  Attributes:
    what: was measured.
    value: of it; None: there is none.
    unit: of the value, or why there is none.
    wanted: what it should be, as text; empty: anything.
    reached: whether it is; None where nothing is wanted.
  """

  what: str
  value: float | None
  unit: str
  wanted: str = ''
  reached: bool | None = None


def at_most(what: str, value: float, unit: str, most: float) -> Row:
  """Returns the row of a value that should be at most `most`."""
  return Row(what, value, unit, f'<= {most:g}', value <= most)


def at_least(what: str, value: float, unit: str, least: float) -> Row:
  """Returns the row of a value that should be at least `least`."""
  return Row(what, value, unit, f'>= {least:g}', value >= least)


def failure(what: str, error: Exception) -> Row:
  """Returns the row of something that failed."""
  said = ' '.join(f'{type(error).__name__}: {error}'.split())[:200]
  return Row(what, None, said, 'no error', False)


@dataclasses.dataclass(frozen=True)
class Check:
  """Sizes, and the folder that parts share.

  Attributes:
    folder: for checkpoints.
    tiny: whether models and jobs are tiny, for a rehearsal on a CPU.
  """

  folder: pathlib.Path
  tiny: bool

  def config(self, size: str, **fields: Any) -> config_lib.T5Config:
    """Returns a named size, or a tiny model in its place."""
    if self.tiny:
      fields |= dict(
        num_encoder_layers=1,
        num_decoder_layers=1,
        emb_dim=32,
        num_heads=2,
        head_dim=16,
        mlp_dim=64,
        vocab_size=512,
        num_tokens=500,
      )
    scan = platforms.of().scan_layers
    return config_lib.T5Config(size=size, **{'scan_layers': scan, **fields})

  def pick(self, full: Any, tiny: Any) -> Any:
    """Returns one of two sizes."""
    return tiny if self.tiny else full

  def job(self, name: str, **sizes: int) -> workloads.Job:
    """Returns a job with these sizes; a tiny one if `tiny`."""
    job = workloads.JOBS[name].with_sizes(**sizes)
    small = dict(num_inputs=1, input_length=32, num_prompts=4, new_tokens=6)
    return job.with_sizes(**small) if self.tiny else job

  @property
  def settings(self) -> benchmarking.Settings:
    """How long jobs are timed: nothing else uses the card."""
    return benchmarking.Settings(
      num_rounds=self.pick(3, 1),
      budget=self.pick(15.0, 0.0),
      least=self.pick(0.05, 0.0),
      pause=0.0,
      phases=False,
    )

  def base(self) -> inference.PromptInDecoder:
    """Loads the model that `prepare` wrote, in bfloat16."""
    return inference.PromptInDecoder.from_pretrained(
      self.folder / baselines_lib.EXPORTED,
      dtype='bfloat16',
      vocabulary=vocabulary_lib.ByteVocabulary(),
      param_dtype='bfloat16',
      layout='pid',
    )

  def base_decoder(self) -> variants.Decoder:
    """Returns the same for jobs of token ids."""
    engine = self.base().engine
    return variants.Decoder(engine.module.config, engine.params)


def prepare(check: Check) -> Iterator[Row]:
  """Writes a checkpoint of base, random, without the GPU."""
  config = check.config('t5_1_1_base', scan_layers=True)
  with jax.default_device(jax.devices('cpu')[0]):
    params = synthetic.make_params(config, 'random')
  _export(config, params, check.folder)
  size = sum(x.nbytes for x in jax.tree.leaves(params))
  yield Row('checkpoint of base', size / 1e9, 'GB')


def _export(config, params, folder: pathlib.Path) -> None:
  """Writes parameters for us and for transformers."""
  pretrained = checkpoints.Pretrained(config, params, None, {}, 0)
  checkpoints.save(
    folder / baselines_lib.EXPORTED, pretrained, format='hugging_face'
  )


# --- First answer ---


def _first(check: Check, most: float, kind: str) -> Iterator[Row]:
  """One text, 30 prompts: from the start of the process to the answers."""
  start = float(os.environ.get(STARTED, time.time()))
  elapsed = lambda: time.time() - start
  yield Row(f'{kind}: Python, JAX and this library', elapsed(), 's')
  model = check.base()
  yield Row(f'{kind}: model loaded after', elapsed(), 's')
  length, num_prompts, new_tokens = check.pick((505, 30, 8), (30, 3, 4))
  prompts = [f'slot {i:02d}' for i in range(num_prompts)]

  def answer():
    model.generate(
      ['x' * length], [prompts], new_tokens, min_new_tokens=new_tokens
    )

  answer()
  what = f'{kind}: first answer after (programs: {model.num_programs})'
  yield at_most(what, elapsed(), 's', most)
  seconds = timer.median_seconds(answer, 3)
  yield Row(f'{kind}: the next answer takes', seconds * 1e3, 'ms')


# --- Against transformers ---

_PEERS = (workloads.TRANSFORMERS_TILED, workloads.TRANSFORMERS_PIE)


def dst_batch(check: Check) -> Iterator[Row]:
  """16 dialogues, 30 slots each, against transformers in turns."""
  job = dataclasses.replace(
    check.job('dst', num_inputs=16),
    variants=(workloads.PID, workloads.PIE),
    baselines=_PEERS,
  )
  decoder = check.base_decoder()
  baselines = _baselines(decoder.config, check.folder)
  least = {_PEERS[0]: 5, _PEERS[1]: 20}
  yield from _job_rows(check, job, decoder, baselines, least)


def compiled(check: Check) -> Iterator[Row]:
  """The same against transformers with a static cache and torch.compile."""
  job = dataclasses.replace(
    check.job('dst', num_inputs=16),
    variants=(workloads.PID,),
    baselines=(workloads.TRANSFORMERS_COMPILED,),
  )
  decoder = check.base_decoder()
  baselines = _baselines(decoder.config, check.folder)
  yield from _job_rows(check, job, decoder, baselines, {})


def jobs(check: Check) -> Iterator[Row]:
  """The benchmark's jobs in bfloat16, against transformers in turns."""
  decoder = check.base_decoder()
  baselines = _baselines(decoder.config, check.folder)
  # A rehearsal has seen `dst`.
  for name in ('dst', 'qa', 'multiwoz', 'skewed')[check.tiny :]:
    job = dataclasses.replace(check.job(name), baselines=_PEERS)
    if name != 'multiwoz':  # Its variants are what it is about.
      job = dataclasses.replace(job, variants=(workloads.PID,))
    if job.weights == 'synthetic':
      config = dataclasses.replace(decoder.config, scan_layers=True)
      params = synthetic.make_params(config, job.weights)
      folder = check.folder / job.weights
      folder.mkdir(exist_ok=True)
      if not _torch_is_missing():
        _export(config, params, folder)
      baselines = _baselines(decoder.config, folder)
      params = jax.tree.map(
        lambda x: jnp.asarray(x, jnp.bfloat16), jax.device_put(params)
      )
      runner = variants.Decoder(config, params)
    else:
      runner = decoder
    yield from _job_rows(check, job, runner, baselines, {})


def _torch_is_missing() -> list[str]:
  return baselines_lib.missing(_PEERS[0])


def _has_gpu() -> bool:
  return jax.default_backend() == 'gpu'


def _baselines(config, folder: pathlib.Path) -> baselines_lib.Baselines | None:
  if _torch_is_missing():
    return None
  device = 'cuda' if _has_gpu() else 'cpu'
  return baselines_lib.Baselines(config, None, folder, device, 'bfloat16')


def _job_rows(
  check: Check,
  job: workloads.Job,
  decoder: variants.Decoder,
  baselines: baselines_lib.Baselines | None,
  least: dict[str, float],
) -> Iterator[Row]:
  """Times a job; ratios of `least` are wanted of its baselines."""
  peers, shown = job.baselines, f'{job.name}, {_sizes(job.sizes)}'
  alone = dataclasses.replace(job, baselines=())
  run = lambda job: benchmarking.run_job(
    job, decoder, baselines, machine.DeviceProbe(), check.settings
  )
  try:
    result = run(alone if baselines is None else job)
  except Exception as e:  # Theirs, most likely: ours is timed in any case.
    yield failure(shown, e)
    result, peers = run(alone), ()
  for name, row in result['contenders'].items():
    yield Row(f'{shown}: {name}', row['seconds']['median'] * 1e3, 'ms')
    if row['equal_tokens'] is not None:
      equal = 100 * row['equal_tokens']
      yield Row(f'{shown}: {name}, equal tokens', equal, '%')
  for name in peers:
    what = f'{shown}: {name} against PiD'
    if baselines is None:
      yield Row(what, None, 'transformers or torch is not installed')
      continue
    ratio = result['contenders'][name]['ratio']['median']
    if name in least:
      yield at_least(what, ratio, 'x', least[name])
    else:
      yield Row(what, ratio, 'x')


def _sizes(sizes: layouts.Sizes) -> str:
  return (
    f'B={sizes.num_inputs} S={sizes.input_length} U={sizes.num_prompts} '
    f'P={sizes.prompt_length} T={sizes.new_tokens}'
  )


# --- Numerics ---


def numerics(check: Check) -> Iterator[Row]:
  """Network and decoding of a small model, against the CPU in this process."""
  config = check.config('t5_1_1_small', dropout_rate=0.0, scan_layers=True)
  cpu, here = jax.devices('cpu')[0], jax.devices()[0]
  with jax.default_device(cpu):
    params = synthetic.random_params(config)
  batch = _training_batch(
    config, *check.pick((4, 128, 8, 6, 6), (2, 24, 3, 2, 3))
  )
  prompts = np.concatenate([batch.prompts, batch.prompts[:, ::-1]], axis=1)
  prompts[:, ::2, -2:] = 0  # Of different lengths.
  packed = jax.tree.map(np.asarray, batch.pid)

  def logits(device, dtype):
    module = network.Transformer(dataclasses.replace(config, dtype=dtype))
    model = model_lib.EncoderDecoderModel(module)
    run = _jit(lambda p, b: model.logits(p, b, None), device)
    found = run(*jax.device_put((params, packed), device))
    return np.asarray(found, np.float64)[..., : config.num_tokens]

  expected = logits(cpu, 'float32')
  for dtype, most in _MAX_ERROR.items():
    found = logits(here, dtype)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    what = f'packed rows, {dtype}: relative error of logits'
    yield at_most(what, float(error), '', most)
    equal = np.mean(found.argmax(-1) == expected.argmax(-1))
    yield Row(f'packed rows, {dtype}: equal argmax', 100 * float(equal), '%')

  new_tokens = check.pick(12, 4)
  lookup = decoding.PromptLookup()
  greedy = {'num_compactions': 0}
  for name, dtype, options in (
    ('greedy', 'float32', greedy),
    ('compacted', 'float32', {'num_compactions': 2}),
    ('prompt lookup', 'float32', greedy | {'prompt_lookup': lookup}),
    ('greedy', 'bfloat16', greedy),
  ):
    module = network.Transformer(dataclasses.replace(config, dtype=dtype))
    generate = functools.partial(
      decoding.generate, module, max_new_tokens=new_tokens, **options
    )
    on_cpu, found = (
      np.asarray(
        _jit(generate, device)(
          *jax.device_put((params, batch.inputs, prompts), device)
        ).tokens
      )
      for device in (cpu, here)
    )
    what = f"{name}, {dtype}: outputs equal to the CPU's"
    equal = 100 * float(np.mean((found == on_cpu).all(-1)))
    if dtype == 'float32':
      yield at_least(what, equal, '%', 100)
    else:
      yield Row(what, equal, '%')


def _jit(function: Callable[..., Any], device: jax.Device):
  """Returns a function that is compiled as inference is on a device."""
  options = dict(platforms.of(device).compiler_options)
  return jax.jit(function, compiler_options=options or None)


# --- Training ---


@dataclasses.dataclass(frozen=True)
class _TrainingBatch:
  """The same subtasks in two layouts.

  Attributes:
    inputs: int32 [B, S].
    prompts: int32 [B, U, P].
    pid: features of packed rows, one for each input.
    pie: int32 encoder inputs [B * U, P + S] and targets [B * U, T].
  """

  inputs: np.ndarray
  prompts: np.ndarray
  pid: dict[str, np.ndarray]
  pie: tuple[np.ndarray, np.ndarray]


def _training_batch(
  config: config_lib.T5Config,
  num_inputs: int,
  input_length: int,
  num_prompts: int,
  prompt_length: int,
  target_length: int,
) -> _TrainingBatch:
  b, s, u, p, t = (
    num_inputs, input_length, num_prompts, prompt_length, target_length
  )  # fmt: skip
  rng = np.random.default_rng(1)
  draw = lambda *shape: rng.integers(
    2, config.num_tokens, shape, dtype=np.int32
  )
  inputs, prompts, targets = draw(b, s), draw(b, u, p), draw(b, u, t)
  whole = np.concatenate([prompts, targets], axis=2)
  starts = np.zeros((b, u, 1), np.int32)
  read = np.concatenate([starts, whole[:, :, :-1]], axis=2)
  weights = np.concatenate([np.zeros((b, u, p)), np.ones((b, u, t))], axis=2)
  rows = lambda x, dtype=np.int32: np.ascontiguousarray(
    np.broadcast_to(x, whole.shape).reshape(b, -1), dtype
  )
  pid = {
    'encoder_input_tokens': inputs,
    'encoder_segment_ids': np.ones_like(inputs),
    'decoder_input_tokens': rows(read),
    'decoder_target_tokens': rows(whole),
    'decoder_loss_weights': rows(weights, np.float32),
    'decoder_segment_ids': rows(1),
    'decoder_subtask_ids': rows(np.arange(1, u + 1)[None, :, None]),
    'decoder_positions': rows(np.arange(p + t)),
  }
  encoded, _ = layouts.to_layout('pie', inputs, prompts)
  return _TrainingBatch(inputs, prompts, pid, (encoded, targets.reshape(-1, t)))


def training(check: Check) -> Iterator[Row]:
  """A training step of base on packed rows, against transformers' PiE."""
  config = check.config('t5_1_1_base', dtype='bfloat16', scan_layers=True)
  sizes = check.pick((4, 512, 30, 8, 4), (2, 24, 3, 2, 3))
  batch = _training_batch(config, *sizes)
  model = model_lib.EncoderDecoderModel(network.Transformer(config))
  optimizer = optimizers.adafactor(1e-3)
  begin = functools.partial(step_lib.state_from_params, model, optimizer)
  state = jax.jit(begin, donate_argnums=0)(synthetic.random_params(config))
  features = jax.device_put(batch.pid)
  step = jax.jit(
    functools.partial(
      step_lib.train_step,
      model=model,
      optimizer=optimizer,
      rng=jax.random.key(1),
    ),
    donate_argnums=0,
  )
  start = time.perf_counter()
  compiled = step.lower(state, features).compile()
  yield Row('PiD: compiled in', time.perf_counter() - start, 's')
  kept = [state]

  def run():
    kept[0], _ = compiled(kept[0], features)
    jax.block_until_ready(kept[0].step)

  run()
  repeats = check.pick(5, 1)
  ours = timer.median_seconds(run, repeats)
  shown = 'B={} S={} U={} P={} T={}'.format(*sizes)
  yield Row(f'PiD, packed rows, {shown}', ours * 1e3, 'ms')
  yield Row('PiD: temporaries', _temporaries(compiled), 'MB')
  kept.clear()
  del state
  if _torch_is_missing():
    missing = 'transformers or torch is not installed'
    yield Row('transformers, PiE, against PiD', None, missing)
    return
  theirs = timer.median_seconds(_torch_step(config, *batch.pie), repeats)
  yield Row(f'transformers, PiE, {shown}', theirs * 1e3, 'ms')
  yield Row('transformers, PiE, against PiD', theirs / ours, 'x')


def _torch_step(config, inputs, targets) -> Callable[[], None]:
  """A step of transformers with random weights in bfloat16, run once."""
  import torch
  import transformers

  device = 'cuda' if _has_gpu() else 'cpu'
  of_torch = transformers.T5Config(**hugging_face.config_fields(config))
  with torch.device(device):
    model = transformers.T5ForConditionalGeneration(of_torch)
  model = model.to(torch.bfloat16).train()
  optimizer = torch.optim.AdamW(
    model.parameters(), lr=1e-4, fused=device == 'cuda'
  )
  inputs, targets = (
    torch.from_numpy(x).long().to(device) for x in (inputs, targets)
  )

  def run():
    optimizer.zero_grad(set_to_none=True)
    model(input_ids=inputs, labels=targets).loss.backward()
    optimizer.step()
    if device == 'cuda':
      torch.cuda.synchronize()

  run()
  return run


# --- Flan-T5 XL ---


def xl(check: Check) -> Iterator[Row]:
  """Long outputs of the shape of `flan_t5_xl`, one prompt, all in bfloat16."""
  config = check.config('flan_t5_xl', dtype='bfloat16', scan_layers=True)
  params = synthetic.random_params(config, dtype='bfloat16')
  decoder = variants.Decoder(config, params)
  length, new_tokens = check.pick((440, 128), (24, 4))
  batches = check.pick(tuple(_TENSORRT_LLM), (2,))
  runs = {}
  for batch_size in batches:
    sizes = layouts.Sizes(batch_size, length, 1, 0, new_tokens)
    job = workloads.Job('xl', 'long outputs', sizes, (workloads.PID,))
    batch = synthetic.make_batch(config, job)
    rng = np.random.default_rng(0)
    lengths = rng.integers(length * 260 // 440, length + 1, batch_size)
    lengths[0] = length
    inputs = np.where(np.arange(length) < lengths[:, None], batch.inputs, 0)
    batch = dataclasses.replace(batch, inputs=inputs)
    runs[batch_size] = functools.partial(decoder.compile, job, batch)
  with futures.ThreadPoolExecutor() as pool:
    made = {b: pool.submit(compile_) for b, compile_ in runs.items()}
    for batch_size, future in made.items():
      program, run = future.result()
      run()
      seconds = timer.median_seconds(run, check.pick(3, 1))
      what = (
        f'{batch_size} inputs of {lengths.min()} to {length}, {new_tokens} new '
        'tokens'
      )
      most = _TENSORRT_LLM.get(batch_size, float('inf'))
      yield at_most(what, seconds * 1e3, 'ms', most)
      yield Row(f'{what}: temporaries', _temporaries(program), 'MB')


# --- The step, the encoder and the card ---


def steps(check: Check) -> Iterator[Row]:
  """A step of base: seconds, launches (of command buffers, too) and gaps."""
  decoder = check.base_decoder()
  times = {}
  for new_tokens in (8, 40):
    job = check.job('dst', num_inputs=16)
    job = dataclasses.replace(job, variants=(workloads.PID,))
    job = job.with_sizes(new_tokens=new_tokens)
    batch = synthetic.make_batch(decoder.config, job)
    _, run = decoder.compile(job, batch)
    run()
    times[new_tokens] = timer.median_seconds(run, check.pick(5, 1))
  step = (times[40] - times[8]) / 32
  yield Row('a step, 16 inputs with 30 prompts', step * 1e6, 'us')
  kernels, launches = profiling.profile_gpu(run)
  for name, number in launches.items():
    # With command buffers a step is few graphs, and next to no kernels.
    yield Row(f'40 tokens: calls of {name}', number, '')
  if not kernels:
    yield Row('kernels', None, 'nothing ran on a GPU')
    return
  found = profiling.gaps(kernels)
  yield Row('40 tokens: kernels and copies', len(kernels), '')
  yield Row('40 tokens: busy', 100 * found.busy / found.span, '%')
  yield Row('40 tokens: median gap between kernels', found.median * 1e6, 'us')
  yield Row('40 tokens: longest gap', found.longest * 1e6, 'us')
  total: dict[str, list[float]] = {}
  for kernel in kernels:
    total.setdefault(kernel.name, []).append(kernel.nanoseconds)
  longest = sorted(total.items(), key=lambda item: -sum(item[1]))
  for name, times_of in longest[:8]:
    what = f'40 tokens: {len(times_of)} x {name[:60]}'
    yield Row(what, sum(times_of) / 1e6, 'ms')


def encoder(check: Check) -> Iterator[Row]:
  """The encoder of base by length, keys and values included."""
  decoder = check.base_decoder()
  for length in check.pick((512, 2048, 8192), (32, 64)):
    job = check.job('dst').with_sizes(input_length=length)
    batch = synthetic.make_batch(decoder.config, job)
    encode, _ = decoder.parts(workloads.PID, job, batch)
    encode()
    seconds = timer.median_seconds(encode, check.pick(5, 1))
    yield Row(f'one input of {length} tokens', seconds * 1e3, 'ms')
    yield Row(f'tokens of {length}', length / seconds / 1e3, 'k/s')


def rates(check: Check) -> Iterator[Row]:
  """What the card does at best."""
  size = check.pick(8192, 128)
  for dtype, precision in (
    ('bfloat16', None), ('float32', 'tensorfloat32'), ('float32', 'highest')
  ):  # fmt: skip
    rate = machine.product_rate(size, dtype, precision)
    what = f'products of {size}, {dtype}, {precision or "default"}'
    yield Row(what, rate / 1e12, 'TFLOP/s')
  rate = machine.copy_rate(check.pick(1 << 31, 1 << 20))
  yield Row('a copy, read and written', rate / 1e12, 'TB/s')


def _temporaries(program: Any) -> float:
  """MB of memory beside arguments and results."""
  return program.memory_analysis().temp_size_in_bytes / 1e6


# In the order of their importance; `prepare` writes what others read.
PARTS: dict[str, Callable[[Check], Iterator[Row]]] = {
  'prepare': prepare,
  'first_cold': lambda check: _first(check, 60, 'nothing compiled'),
  'first_warm': lambda check: _first(check, 10, 'from the cache'),
  'dst_batch': dst_batch,
  'numerics': numerics,
  'jobs': jobs,
  'training': training,
  'xl': xl,
  'steps': steps,
  'encoder': encoder,
  'rates': rates,
  'compiled': compiled,
}


def main(argv: list[str] | None = None) -> None:
  """Runs the parts that the command line names; prints a line for each row."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('parts', nargs='+', choices=PARTS)
  parser.add_argument('--folder', type=pathlib.Path, required=True)
  parser.add_argument('--tiny', action='store_true')
  args = parser.parse_args(argv)
  compilation.use_cache()
  check = Check(args.folder, args.tiny)
  for name in args.parts:
    try:
      for row in PARTS[name](check):
        _say(name, row)
    except Exception as e:  # pylint: disable=broad-except
      traceback.print_exc()
      _say(name, failure('the whole part', e))


def _say(part: str, row: Row) -> None:
  print(json.dumps({'part': part, **dataclasses.asdict(row)}), flush=True)


if __name__ == '__main__':
  main()
