# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is read in a compiled program is what runs; verdicts follow from it."""

import dataclasses
import functools
import pathlib
import re
import subprocess
import sys

import eight_devices
import jax
import jax.numpy as jnp
import pytest

from pid_jax import cli
from pid_jax import config
from pid_jax import partitioning
from pid_jax import precompile
from pid_jax.experiments import aot
from pid_jax.experiments import chips
from pid_jax.experiments import costs
from pid_jax.experiments import fitting
from pid_jax.experiments import gpu
from pid_jax.experiments import hlo
from pid_jax.experiments import topologies
from pid_jax.experiments import tpu
from pid_jax.experiments.layouts import Sizes
from pid_jax.trainer import step as step_lib

GIB = 2**30


@pytest.fixture(scope='module')
def compiled():
  """What a child process with eight devices reads in its programs."""
  return eight_devices.run('experiments_aot_child.py')


def test_collectives_in_a_loop_are_counted_as_often_as_they_run(compiled):
  """Five layers, each gathering a float32 [64, 64]; then a sum of scalars."""
  assert compiled['loop']['collectives'] == {
    'all-gather': [5, 5 * 64 * 64 * 4],
    'all-reduce': [1, 4],
  }
  assert compiled['loop']['unknown'] == 0
  assert compiled['loop']['flops'] == 5 * 2 * 8 * 64 * 64


@pytest.mark.parametrize('program', ['train', 'generate'])
def test_no_device_ever_holds_a_whole_parameter_tree(compiled, program):
  """Parameters over eight devices: one kernel at a time is gathered."""
  facts = compiled[program]
  kernel = 64 * 256 * 4  # Of the feed-forward block, and the embedding.
  assert facts['largest_gather'] == kernel
  assert 40 * kernel < facts['whole']
  # An eighth of parameters, and of second moments in training.
  copies = 2 if program == 'train' else 1
  assert facts['arguments'] < 1.01 * copies * facts['whole'] / 8
  # All else at the peak, activations among it.
  assert facts['temporary'] < 0.6 * facts['whole']


# A loop of three turns within one of four, as TPUs' programs are written: an
# asynchronous gather is begun in the outer loop and helped along by two fusions
# in the inner one. %copy stays on the chip.
_TPU = (pathlib.Path(__file__).parent / 'experiments_tpu.hlo').read_text()


def test_a_program_of_a_tpu_by_hand():
  summary = hlo.summarise(_TPU)
  assert {
    k: (c.count, c.num_bytes) for k, c in summary.collectives.items()
  } == {
    # One channel, begun once in each turn of the outer loop.
    'all-gather': (4, 4 * 16 * 8 * 2),
    'collective-permute': (4 * 3, 4 * 3 * 2 * 8 * 2),
    'all-reduce': (1, 8 * 2 * 4 + 4),  # Two arrays in one.
    'reduce-scatter': (1, 4 * 2 * 2 * 4),  # Of four devices.
  }
  assert summary.cycles == 4 * (100 + 3 * (10 + 20)) + 1000
  assert summary.num_unknown_loops == 0
  # The outer loop reads an index, one row of six, and a constant; the entry %g,
  # and the scalar that is reduced; all else is on the chip.
  assert summary.num_bytes == 4 * (4 + 40 + 2 * 8 * 2) + 8 * 2 * 4 + 4


# A step of a GPU's program, in a loop of three turns: a product of cuBLAS with
# scratch memory, one of Triton, one that XLA computes itself, and a kernel of
# Triton that multiplies nothing.
_GPU = (pathlib.Path(__file__).parent / 'experiments_gpu.hlo').read_text()


def test_a_program_of_a_gpu_by_hand():
  summary = hlo.summarise(_GPU)
  assert (summary.num_kernels, summary.num_launches) == (4, 3 * 4)
  libraries = [p.library for p in summary.products]
  assert libraries == ['cuBLAS', 'Triton', 'XLA']
  assert {p.result.shape for p in summary.products} == {(8, 4)}
  x, w, y = 8 * 16 * 2, 16 * 4 * 2, 8 * 4 * 2
  assert summary.num_bytes == 3 * (2 * x + 3 * (x + w + y))
  twice = hlo.summarise(_GPU.replace('"n":"3"', '"n":"6"'))
  assert twice.products == summary.products
  assert twice.num_launches == 2 * summary.num_launches


def test_the_largest_array_is_none_of_the_vocabulary():
  text = """
ENTRY %main (a: bf16[30,8,64]) -> bf16[30,8,64] {
  %a = bf16[30,8,64]{2,1,0} parameter(0)
  %g = f32[32128,768]{1,0} custom-call()
  ROOT %f = bf16[30,8,64]{2,1,0} copy(%a)
}
"""
  assert hlo.largest_array(text, vocab_size=32128) == 30 * 8 * 64


def test_loops_of_unknown_length_are_told():
  text = _TPU.replace('s32[] constant(4)', 's32[] negate(%x.3)')
  summary = hlo.summarise(text)
  assert summary.num_unknown_loops == 1
  assert summary.collectives['all-gather'].count == 1
  known = text.replace(
    'condition=%outer_condition, body=%outer_body',
    'condition=%outer_condition, body=%outer_body, '
    'backend_config={"known_trip_count":{"n":"5"}}',
  )
  assert hlo.summarise(known).collectives['all-gather'].count == 5


def test_arrays_of_a_type():
  arrays = hlo.parse_arrays(
    '(pred[3], s4[4]{0}, bf16[2,3]{1,0:T(8,128)(2,1)S(1)}, f8e4m3fn[5], u32[])'
  )
  assert [a.num_bytes for a in arrays] == [3, 2, 12, 5, 4]
  assert [a.on_chip for a in arrays] == [False, False, True, False, False]


CONFIG = dict(
  vocab_size=256,
  emb_dim=32,
  num_heads=4,
  head_dim=8,
  num_encoder_layers=2,
  num_decoder_layers=3,
  mlp_dim=64,
  mlp_activations=('gelu', 'linear'),
)


@pytest.mark.parametrize('scan_layers', [False, True])
def test_flops_of_decoding_are_those_of_the_formulas(scan_layers):
  cfg = config.T5Config(**CONFIG, scan_layers=scan_layers)
  sizes = Sizes(4, 24, 3, 5, 6)
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  flops = {
    p.name: p.flops for p in aot.decode_programs(cfg, partitioner, sizes)
  }
  assert flops['encode'] == costs.encode(cfg, 4, 24).flops
  decode = functools.partial(
    costs.decode, cfg, batch=4, length=24, rows=12, cache_length=11
  )
  assert flops['prefill'] == decode(queries=6).flops
  assert flops['step'] == decode(queries=1).flops


def test_flops_of_branches_and_loops():
  def run(x):
    x = jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)
    return jax.lax.fori_loop(0, 7, lambda _, x: x @ x, x)

  jaxpr = jax.make_jaxpr(run)(jnp.ones((3, 3))).jaxpr
  assert aot.count_flops(jaxpr) == (2 + 7) * 2 * 27


def test_what_a_program_needs_is_read_from_the_refusal():
  used = fitting.used_bytes
  whole = 'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used '
  assert used(whole + '20.50G of 15.75G hbm. Exceeded') == 20.5 * GIB
  one = (
    'the total memory required for HLO temporaries (8.00T) exceeds available'
  )
  assert used(one) == 8 * 1024 * GIB
  assert used('RESOURCE_EXHAUSTED') == 0


def advice(name, mesh, resident_gib, batch, micro=1, remat='full'):
  """Advice about a program on a mesh that holds so much on each device."""
  num_data, num_fsdp, num_model = mesh
  size = num_data * num_fsdp * num_model
  partitioner = partitioning.Partitioner(
    num_model, num_fsdp, devices=jax.devices()[:1] * size
  )
  leaf = jax.ShapeDtypeStruct(
    (int(resident_gib * GIB),), jnp.int8, sharding=partitioner.replicated
  )
  resident = leaf
  if name == 'train':
    resident = step_lib.TrainState(step=None, params=leaf, opt_state=None)
  program = aot.Program(name, None, partitioner, resident, batch)
  cfg = config.T5Config(vocab_size=128, remat_policy=remat)
  return fitting.advise(program, cfg, 16 * GIB, micro)


def test_advice():
  split = 'NUM_FSDP = 8; or '
  remat = "network.T5Config.remat_policy = 'full'; or "
  more = 'trainer.train.num_microbatches = {}; or '
  slice = 'a greater slice'
  assert advice('train', (8, 1, 1), 6, 8, remat='none') == remat + split + slice
  assert advice('train', (2, 4, 1), 6, 8) == split + slice
  assert advice('train', (1, 8, 1), 6, 64) == more.format(2) + slice
  assert advice('train', (1, 8, 1), 6, 64, 2) == more.format(4) + slice
  fewer = 'NUM_PARTITIONS = 2, NUM_FSDP = 4; or '
  assert advice('train', (1, 8, 1), 6, 64, 8) == fewer + slice
  assert advice('train', (1, 8, 1), 6, 24) == more.format(3) + slice
  # Gradients need as much as parameters: 2 x 20 GiB on each of 8.
  state = (
    'a greater slice (parameters, state and gradients alone fill 20 devices)'
  )
  assert advice('train', (1, 4, 2), 20, 64) == state
  assert advice('step', (1, 1, 4), 2, 64) == 'EVAL_BATCH_SIZE = 32; or ' + slice
  assert advice('step', (4, 1, 1), 20, 4) == 'NUM_PARTITIONS = 2; or ' + slice
  assert advice('encode', (1, 1, 2), 18, 4) == (
    'a greater slice (parameters alone fill 3 devices)'
  )


def test_a_result_is_told():
  facts = dict(
    name='train',
    seconds=12.4,
    resident_bytes=3 * GIB,
    memory_bytes=16 * GIB,
    flops=2.5e12,
  )
  fits = fitting.Result(
    fits=True,
    peak_bytes=8 * GIB,
    summary=hlo.summarise(_TPU),
    estimated_seconds=0.25,
    **facts,
  )
  text = fitting.describe_result(fits)
  assert text.startswith('train: fits: 8.00 of 16.00 GiB at the peak\n')
  for value in ('12 s', '3.00 GiB', '2.5 TFLOP', '4 all-gather', '250 ms'):
    assert value in text
  not_fit = fitting.Result(
    fits=False, peak_bytes=20 * GIB, advice='more memory', **facts
  )
  text = fitting.describe_result(not_fit)
  assert text.startswith('train: does not fit: needs 20.00 of 16.00 GiB\n')
  assert 'more memory' in text


@pytest.mark.parametrize('spare', [1, -1])
def test_verdict_and_roofline_of_a_gpu(spare):
  """It compiles programs that need more memory than a card has."""
  cfg = config.T5Config(**CONFIG)
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  program = next(aot.decode_programs(cfg, partitioner, Sizes(4, 24, 3, 5, 6)))
  needed = program.compile().memory_analysis().peak_memory_in_bytes
  assert needed > program.resident_bytes
  chip = chips.Chip(
    'a card',
    1,
    needed + spare,
    flop_rates={'float32': 1e6, 'bfloat16': 1e9},
    bandwidth=1e12,
  )
  result = fitting.compile_program(program, chip, cfg)
  assert result.fits == (spare > 0)
  assert result.peak_bytes == needed
  assert bool(result.advice) == (spare < 0)
  # Bound by arithmetic.
  assert result.estimated_seconds == costs.encode(cfg, 4, 24).flops / 1e6
  text = fitting.describe_result(result)
  assert ('does not fit' in text) == ('would fit with' in text) == (spare < 0)
  assert 'roofline' in text and 'cycles' not in text
  # By memory.
  slow = dataclasses.replace(chip, bandwidth=1.0)
  result = fitting.compile_program(program, slow, cfg)
  assert result.estimated_seconds == result.summary.num_bytes


# ------------------- The command ----------------------------------------------
_QUICKSTART = ('--gin_file=runs/quickstart.gin',)


def run_command(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'pid_jax.precompile', *flags],
    capture_output=True,
    text=True,
    check=False,
  )


@pytest.mark.parametrize(
  'topology, message',
  [
    ('v5e', 'names are KIND:SIDExSIDE'),
    ('v5e:0x2', 'names are KIND:SIDExSIDE'),
    ('v5e:32x32', 'a slice of v5e has at most 16 chips on a side'),
  ],
)
def test_topologies_that_cannot_be(topology, message):
  with pytest.raises(tpu.errors.UserError) as caught:
    tpu.find_chip(topology)
  told = str(caught.value)
  assert told.startswith(f'unknown topology {topology!r}; TPUs are KIND:SIDE')
  assert message in told


@pytest.mark.parametrize(
  'topology, module, extra',
  [('v5e:2x2', tpu, 'tpu'), ('h100:8', gpu, 'cuda13')],
)
def test_what_compiles_is_asked_for_where_it_is_missing(
  topology, module, extra, monkeypatch
):
  monkeypatch.setattr(module, 'is_installed', lambda: False)
  with pytest.raises(
    tpu.errors.UserError, match=rf"pip install 'pid_jax\[{extra}\]'"
  ):
    topologies.find_chip(topology)


@pytest.mark.parametrize(
  'topology, number',
  [('h100', 1), ('h200:1', 1), ('a100:8', 8), ('l4:3', 3), ('h100:32', 32)],
)
def test_gpus_by_name(topology, number, monkeypatch):
  monkeypatch.setattr(gpu, 'is_installed', lambda: True)
  monkeypatch.delenv('XLA_PYTHON_CLIENT_MEM_FRACTION', raising=False)
  monkeypatch.delenv('XLA_CLIENT_MEM_FRACTION', raising=False)
  chip = topologies.find_chip(topology)
  card = gpu.CARDS[topology.partition(':')[0]]
  assert (chip.kind, chip.num_devices) == (card.name, number)
  # JAX takes three quarters, or what it is told to.
  assert chip.memory_bytes == int(0.75 * card.memory_bytes)
  monkeypatch.setenv('XLA_CLIENT_MEM_FRACTION', '.5')
  half = topologies.find_chip(topology)
  assert half.memory_bytes == int(0.5 * card.memory_bytes)


@pytest.mark.parametrize(
  'topology', ['h100:', 'h100:0', 'h100:2x2', 'h100:12', 'h100:-1', 'b52', '']
)
def test_gpus_that_cannot_be(topology, monkeypatch):
  monkeypatch.setattr(gpu, 'is_installed', lambda: True)
  with pytest.raises(tpu.errors.UserError, match='h100:8') as caught:
    topologies.find_chip(topology)
  assert f'unknown topology {topology!r}' in str(caught.value)


@pytest.mark.parametrize('fraction', ['0', '1.5', 'much'])
def test_fractions_of_memory_that_cannot_be(fraction, monkeypatch):
  monkeypatch.setattr(gpu, 'is_installed', lambda: True)
  monkeypatch.setenv('XLA_CLIENT_MEM_FRACTION', fraction)
  with pytest.raises(tpu.errors.UserError, match='XLA_CLIENT_MEM_FRACTION'):
    topologies.find_chip('h100')


@pytest.mark.parametrize('name', gpu.CARDS)
def test_facts_of_cards_agree(name):
  """Rates follow from processors and clock; tensor cores are much faster."""
  card = gpu.CARDS[name]
  units = card.num_cores * card.fpus_per_core
  rates = card.flop_rates
  assert rates['float32'] == pytest.approx(
    2 * units * card.clock_ghz * 1e9, rel=0.01
  )
  assert rates['bfloat16'] == pytest.approx(
    2 * rates['tensorfloat32'], rel=0.02
  )
  assert 3 < rates['bfloat16'] / rates['float32'] < 20
  assert card.threads_per_core * card.num_cores > units
  # Reading all of its memory takes 20 to 100 ms.
  assert 0.02 < card.memory_bytes / card.bandwidth < 0.1
  # As sold, in GB: CUDA reports a little more or less.
  sold = {'h200': 141, 'l4': 24, 'a100_40gb': 40}.get(name, 80)
  assert 0.97 * sold < card.memory_bytes / 1e9 < 1.08 * sold


@pytest.mark.parametrize(
  'flags, message',
  [
    (('--programs=train,steps', *_QUICKSTART), "unknown program 'steps'; did"),
    ((), 'error: name a --gin_file'),
    (('--gin_file=pods/scanned.gin',), 'do not configure trainer.train'),
    (
      (*_QUICKSTART, '--gin.NUM_PARTITIONS=8'),
      '4 devices cannot be split into groups of num_partitions=8',
    ),
    (
      (
        *_QUICKSTART,
        '--gin.network.T5Config.num_heads=6',
        '--gin.NUM_PARTITIONS=4',
      ),
      'num_heads=6 by 4 (model)',
    ),
    (
      (*_QUICKSTART, '--gin.BATCH_SIZE=6'),
      'global batch of 6 is not divisible by 4',
    ),
  ],
)
def test_bad_launches(flags, message, monkeypatch, capsys):
  """Each is found before anything is compiled."""
  import gin

  chip = chips.Chip('TPU v5 lite', 4, 15 * GIB, 1e-9)
  monkeypatch.setattr(topologies, 'find_chip', lambda _: chip)
  monkeypatch.setattr(topologies, 'devices', lambda _: jax.devices()[:1] * 4)
  monkeypatch.setattr(aot.Program, 'compile', None)
  try:
    with pytest.raises(SystemExit) as caught:
      cli.run(
        precompile.main,
        doc=precompile.__doc__,
        flags=precompile.add_flags,
        use_gin=True,
        compute_on=None,
        argv=['--topology=v5e:2x2', *flags],
      )
  finally:
    gin.clear_config()
  assert caught.value.code == 2
  told = capsys.readouterr().err
  assert message in told and told.startswith('error: ')
  assert told.count('\n') == 1


@pytest.mark.gpu_aot
def test_a_small_run_is_compiled_for_gpus():
  done = run_command(
    '--topology=h100:2',
    *_QUICKSTART,
    '--gin.network.T5Config.num_encoder_layers=1',
    '--gin.network.T5Config.num_decoder_layers=1',
    '--gin.network.T5Config.dtype="bfloat16"',
    '--gin.NUM_FSDP=2',
    '--programs=train,generate',
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  first, *_ = done.stdout.splitlines()
  assert first.startswith('h100:2: 2 x NVIDIA H100 80GB HBM3, mesh data 1 x')
  found = re.findall(r'^(\w+): fits: ([\d.]+) of 59.33 GiB', done.stdout, re.M)
  assert [name for name, _ in found] == ['train', 'generate']
  assert 'all-gather' in done.stdout  # Of parameters over fsdp.
  # In decoding cuBLAS multiplies, and in nothing else.
  assert re.search(
    r'products +\d+, \d+ of them different: \d+ cuBLAS$', done.stdout, re.M
  )


@pytest.mark.gpu_aot
def test_what_does_not_fit_on_a_card_is_told(monkeypatch):
  monkeypatch.setenv('XLA_CLIENT_MEM_FRACTION', '0.001')
  done = run_command('--topology=l4', *_QUICKSTART, '--programs=encode')
  assert done.returncode == 1, done.stderr
  assert 'encode: does not fit: needs 0.' in done.stdout
  assert 'would fit with' in done.stdout


@pytest.mark.tpu_aot
def test_a_small_run_is_compiled_for_a_tpu():
  done = run_command(
    '--topology=v5e:2x2',
    *_QUICKSTART,
    '--gin.network.T5Config.num_encoder_layers=1',
    '--gin.network.T5Config.num_decoder_layers=1',
    '--gin.NUM_FSDP=2',
    '--programs=train,step',
  )
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  first, *_ = done.stdout.splitlines()
  assert first == 'v5e:2x2: 4 x TPU v5 lite, mesh data 2 x fsdp 2 x model 1'
  found = re.findall(r'^(\w+): fits: ([\d.]+) of 15.75 GiB', done.stdout, re.M)
  assert [name for name, _ in found] == ['train', 'step']
  assert 'all-gather' in done.stdout  # Of parameters over fsdp.
  assert 'all-reduce' in done.stdout  # Of gradients over data.


@pytest.mark.tpu_aot
def test_a_topology_that_libtpu_does_not_know():
  done = run_command('--topology=v9:2x2', *_QUICKSTART)
  assert done.returncode == 2
  assert done.stderr.startswith("error: unknown topology 'v9:2x2'; TPUs are")
  assert 'Invalid TPU external name' in done.stderr


@pytest.mark.tpu_aot
@pytest.mark.slow
def test_what_does_not_fit_is_told():
  done = run_command(
    '--topology=v5e:1x1',
    '--gin_file=runs/finetune.gin',
    '--gin_file=models/t5_1_1_xl.gin',
    '--gin_file=pods/scanned.gin',
    '--gin_file=tasks/multiwoz24_slot.gin',
    '--programs=train',
  )
  assert done.returncode == 1, done.stderr
  needed = re.search(
    r'train: does not fit: needs ([\d.]+) of 15.75', done.stdout
  )
  assert float(needed[1]) > 20  # Parameters and gradients are 2 x 10.6 GiB.
  assert 'state and gradients alone fill 2 devices' in done.stdout
