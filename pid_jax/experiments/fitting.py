# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whether the programs of a run fit on TPUs or GPUs, without having any.

The compiler says what memory a program needs at its peak; for TPUs it refuses
one that needs more than a chip has. What would make it fit is advice, from what
takes the most.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re
import time
from typing import Any

import gin
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax import trainer
from pid_jax.experiments import aot
from pid_jax.experiments import chips
from pid_jax.experiments import costs
from pid_jax.experiments import hlo
from pid_jax.experiments.layouts import Sizes
from pid_jax.trainer import setup

_GIB = 2**30
_UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30, 'T': 2**40}
# 'Used 20.50G of 15.75G hbm', and of one array: 'required for HLO temporaries
# (8.00T) exceeds available HBM (15.75G)'.
_USED = re.compile(
  r'Used ([\d.]+)([KMGT]) of|required for.*?\(([\d.]+)([KMGT])\)'
)


@dataclasses.dataclass(frozen=True)
class Run:
  """What gin gives `trainer.train`, and the mesh.

  Attributes:
    arguments: of `trainer.train`.
    partitioner: the run's, on the devices to compile for.
  """

  arguments: Mapping[str, Any]
  partitioner: partitioning.Partitioner

  @property
  def config(self) -> config_lib.T5Config:
    return self.arguments['model'].module.config

  @property
  def decoding_config(self) -> config_lib.T5Config:
    """With layers scanned or not as inference has them there."""
    scan_layers = platforms.of(self.partitioner.mesh).scan_layers
    return dataclasses.replace(self.config, scan_layers=scan_layers)

  @property
  def num_microbatches(self) -> int:
    return self.arguments.get('num_microbatches', 1)

  @property
  def sizes(self) -> Sizes:
    """Of a batch in evaluation; text-to-text is one prompt of no token."""
    cfg = self.arguments.get('infer_eval_dataset_cfg')
    cfg = cfg or self.arguments['train_dataset_cfg']
    lengths = cfg.task_feature_lengths
    return Sizes(
      num_inputs=cfg.batch_size,
      num_prompts=lengths.get('subtasks', 1),
      input_length=lengths['inputs'],
      prompt_length=lengths.get('prompts', 0),
      new_tokens=lengths['targets'],
    )

  def programs(
    self, names: Collection[str], param_dtype: str = 'float32'
  ) -> Iterator[aot.Program]:
    """Traces the programs of some names, each when it is asked for.

    Args:
      names: some of 'train', 'encode', 'prefill', 'step' and 'generate'.
      param_dtype: of the parameters in decoding.

    Raises:
      UserError: the mesh does not divide the model or a batch.
    """
    if set(names) - {'train'}:  # Before anything is compiled.
      self.partitioner.check_batch_size(self.sizes.num_inputs)
    if 'train' in names:
      yield aot.train_program(self.arguments, self.partitioner)
    decoded = (
      self.decoding_config,
      self.partitioner,
      self.sizes,
      jnp.dtype(param_dtype),
    )
    if set(names) - {'train', 'generate'}:
      for program in aot.decode_programs(*decoded):
        if program.name in names:
          yield program
    if 'generate' in names:
      yield aot.generate_program(*decoded)


def from_gin(devices: Sequence[Any]) -> Run:
  """Reads the configuration that gin has parsed.

  Args:
    devices: of the mesh.

  Raises:
    UserError: no run or no model is configured, or the mesh does not match the
      devices.
  """
  try:
    arguments = gin.get_bindings(trainer.train, resolve_references=False)
  except ValueError:  # No gin file has named it.
    arguments = {}
  if not {'model', 'train_dataset_cfg'} <= arguments.keys():
    raise errors.UserError(
      'the gin files do not configure trainer.train: include '
      "'runs/train_base.gin'"
    )
  arguments = gin.get_bindings(trainer.train)
  partitioner = arguments.get('partitioner') or partitioning.Partitioner()
  partitioner = dataclasses.replace(partitioner, devices=devices)
  model = setup.choose_scanning(arguments['model'], partitioner)
  return Run({**arguments, 'model': model}, partitioner)


@dataclasses.dataclass(frozen=True)
class Result:
  """What the compiler says of a program; numbers are those of one device.

  Attributes:
    name: of the program.
    fits: whether a chip has memory enough.
    seconds: that compiling took, on this machine.
    resident_bytes: of parameters, and in training of the optimizer's state.
    peak_bytes: of memory at the peak; 0 if the compiler did not say.
    memory_bytes: that a program may use.
    flops: of matrix products, as many on each device.
    summary: of the program's text, None if the compiler refused it.
    estimated_seconds: that a run takes, without waiting for other devices: by
      the compiler's estimate of cycles, or where it makes none the greater of
      `flops` and of the bytes moved at the device's rates.
    advice: what would make it fit; '' if it does.
  """

  name: str
  fits: bool
  seconds: float
  resident_bytes: int
  peak_bytes: int
  memory_bytes: int
  flops: float
  summary: hlo.Summary | None = None
  estimated_seconds: float = 0.0
  advice: str = ''


def compile_program(
  program: aot.Program,
  chip: chips.Chip,
  config: config_lib.T5Config,
  num_microbatches: int = 1,
) -> Result:
  """Compiles a program for the devices of its mesh.

  Args:
    program: which.
    chip: what the devices are.
    config: of the model, for advice.
    num_microbatches: of a train step, for advice.
  """
  began = time.monotonic()
  facts: dict[str, Any] = dict(
    name=program.name,
    resident_bytes=program.resident_bytes,
    memory_bytes=chip.memory_bytes,
    flops=program.flops / program.partitioner.mesh.size,
  )
  try:
    compiled = program.compile()
  except jax.errors.JaxRuntimeError as e:
    if 'RESOURCE_EXHAUSTED' not in str(e):
      raise
    return Result(
      fits=False,
      seconds=time.monotonic() - began,
      peak_bytes=used_bytes(str(e)),
      advice=advise(program, config, chip.memory_bytes, num_microbatches),
      **facts,
    )
  seconds = time.monotonic() - began
  memory = compiled.memory_analysis()
  # Not a sum of the other figures: outputs reuse memory that is no longer
  # needed.
  peak_bytes = memory.peak_memory_in_bytes
  fits = peak_bytes <= chip.memory_bytes
  summary = hlo.summarise(compiled.as_text())
  estimated_seconds = summary.cycles * chip.seconds_per_cycle
  if chip.flop_rates:
    work = costs.Work(facts['flops'], summary.num_bytes)
    flop_rate = chip.flop_rates[config.dtype]
    estimated_seconds = work.seconds(flop_rate, chip.bandwidth)
  advice = ''
  if not fits:
    advice = advise(program, config, chip.memory_bytes, num_microbatches)
  return Result(
    fits=fits,
    seconds=seconds,
    peak_bytes=peak_bytes,
    summary=summary,
    estimated_seconds=estimated_seconds,
    advice=advice,
    **facts,
  )


def used_bytes(message: str) -> int:
  """Reads the memory that a program needs from the compiler's refusal.

  Args:
    message: of the error.

  Returns:
    Bytes, 0 if it does not say.
  """
  found = _USED.search(message)
  if not found:
    return 0
  amount, unit = found[1] or found[3], found[2] or found[4]
  return int(float(amount) * _UNITS[unit])


def advise(
  program: aot.Program,
  config: config_lib.T5Config,
  memory_bytes: int,
  num_microbatches: int = 1,
) -> str:
  """Says what would make a program fit, what helps most first.

  Args:
    program: that does not fit.
    config: of the model.
    memory_bytes: of a device.
    num_microbatches: of a train step.

  Returns:
    Names of gin with values, joined by '; or '.
  """
  mesh = program.partitioner.mesh
  num_data, num_fsdp, num_model = mesh.devices.shape
  is_training = program.name == 'train'
  if num_data == 1 and program.least_bytes >= memory_bytes:
    least = -(-program.least_bytes * mesh.size // memory_bytes)
    what = 'parameters, state and gradients' if is_training else 'parameters'
    return f'a greater slice ({what} alone fill {least} devices)'
  ways = []
  if is_training and config.remat_policy != 'full':
    ways.append("network.T5Config.remat_policy = 'full'")
  if num_data > 1 and is_training:
    ways.append(f'NUM_FSDP = {num_fsdp * num_data}')
  more = 2 * num_model
  can_divide = config.num_heads % more == 0 and num_data * num_fsdp % 2 == 0
  if (
    not is_training
    and program.resident_bytes > memory_bytes // 4
    and can_divide
  ):
    # To gather parameters for each token would cost more than to divide them.
    ways.append(f'NUM_PARTITIONS = {more}')
  rows = program.batch_size // (num_data * num_fsdp * num_microbatches)
  part = rows if rows % 2 else 2
  if rows > 1 and is_training:
    ways.append(f'trainer.train.num_microbatches = {num_microbatches * part}')
  elif rows > 1:
    ways.append(f'EVAL_BATCH_SIZE = {program.batch_size // part}')
  elif is_training and num_data == 1 and can_divide:
    # As many rows for twice the devices.
    ways.append(f'NUM_PARTITIONS = {more}, NUM_FSDP = {num_fsdp // 2}')
  return '; or '.join([*ways, 'a greater slice'])


def describe_result(result: Result) -> str:
  """Returns a result as lines of text."""
  gib = lambda size: f'{size / _GIB:.2f} GiB'
  memory = f'{result.memory_bytes / _GIB:.2f}'
  if result.fits:
    verdict = (
      f'fits: {result.peak_bytes / _GIB:.2f} of {memory} GiB at the peak'
    )
  else:
    needed = f'{result.peak_bytes / _GIB:.2f}' if result.peak_bytes else 'more'
    verdict = f'does not fit: needs {needed} of {memory} GiB'
  has_state = result.name == 'train'
  facts = {
    'compiled in': f'{result.seconds:.0f} s',
    'parameters and state' if has_state else 'parameters': gib(
      result.resident_bytes
    ),
    'matrix products': f'{result.flops / 1e12:.4g} TFLOP',
  }
  if result.summary is not None:
    facts |= _measures(result)
  if result.advice:
    facts['would fit with'] = result.advice
  lines = [f'{result.name}: {verdict}']
  lines += [f'  {name:<22}{value}' for name, value in facts.items()]
  return '\n'.join(lines)


def _measures(result: Result) -> dict[str, str]:
  summary = result.summary
  moved = ', '.join(
    f'{c.count} {kind} of {c.num_bytes / 1e9:.4g} GB'
    for kind, c in sorted(summary.collectives.items())
  )
  unknown = summary.num_unknown_loops
  counted = f' ({unknown} loops of unknown length counted once)' * (unknown > 0)
  estimate = f'{result.estimated_seconds * 1e3:.4g} ms{counted}'
  facts = {
    'to and from memory': f'{summary.num_bytes / 1e9:.4g} GB',
    'collectives': moved or 'none',
  }
  if summary.cycles:
    millions = f'{summary.cycles / 1e6:.4g} million cycles'
    return facts | {'estimate': f'{millions}, {estimate}'}
  products = summary.products
  kinds = collections.Counter(p.library for p in products)
  facts['kernels'] = (
    f'{summary.num_kernels} in the program, {summary.num_launches} run'
  )
  facts['products'] = (
    f'{len(products)}, {len(set(products))} of them different: '
    + ', '.join(f'{count} {kind}' for kind, count in kinds.most_common())
  )
  return facts | {'roofline': f'at least {estimate}'}


def describe_run(run: Run, topology: str, chip: chips.Chip) -> str:
  """Says in a few lines what will be compiled."""
  mesh = ' x '.join(f'{k} {v}' for k, v in run.partitioner.mesh.shape.items())
  cfg, sizes = run.arguments['train_dataset_cfg'], run.sizes
  config = run.config
  lengths = ', '.join(f'{k} {v}' for k, v in cfg.task_feature_lengths.items())
  return (
    f'{topology}: {chip.num_devices} x {chip.kind}, mesh {mesh}\n'
    f'  {cfg.mixture_or_task_name}: {lengths}; batch {cfg.batch_size}, in '
    f'decoding {sizes.num_inputs} inputs of {sizes.num_prompts} prompts\n'
    f'  {config.dtype}, remat_policy {config.remat_policy!r}, scan_layers '
    f'{config.scan_layers}, in decoding {run.decoding_config.scan_layers}; '
    f'{run.num_microbatches} microbatches'
  )
