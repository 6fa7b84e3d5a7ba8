# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The programs of a run that gin configures, on devices of another place."""

from collections.abc import Collection
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import gin
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import partitioning
from pid_jax import trainer
from pid_jax.programs import lowering
from pid_jax.programs import tpu


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
  def num_microbatches(self) -> int:
    return self.arguments.get('num_microbatches', 1)

  @property
  def sizes(self) -> lowering.Sizes:
    """Of a batch in evaluation; text-to-text is one prompt of no token."""
    cfg = self.arguments.get('infer_eval_dataset_cfg')
    cfg = cfg or self.arguments['train_dataset_cfg']
    lengths = cfg.task_feature_lengths
    return lowering.Sizes(
      batch_size=cfg.batch_size,
      num_prompts=lengths.get('subtasks', 1),
      input_length=lengths['inputs'],
      prompt_length=lengths.get('prompts', 0),
      new_tokens=lengths['targets'],
    )

  def programs(
    self, names: Collection[str], param_dtype: str = 'float32'
  ) -> Iterator[lowering.Program]:
    """Traces the programs of some names, each when it is asked for.

    Args:
      names: some of 'train', 'encode', 'prefill' and 'step'.
      param_dtype: of the parameters in decoding.

    Raises:
      UserError: the mesh does not divide the model or a batch.
    """
    if set(names) - {'train'}:  # Before anything is compiled.
      self.partitioner.check_batch_size(self.sizes.batch_size)
    if 'train' in names:
      yield lowering.train_program(self.arguments, self.partitioner)
    if set(names) - {'train'}:
      for program in lowering.decode_programs(
        self.config, self.partitioner, self.sizes, jnp.dtype(param_dtype)
      ):
        if program.name in names:
          yield program


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
  _ = partitioner.mesh  # Complains.
  return Run(arguments, partitioner)


def describe(run: Run, topology: str, chip: tpu.Chip) -> str:
  """Says in a few lines what will be compiled."""
  mesh = ' x '.join(f'{k} {v}' for k, v in run.partitioner.mesh.shape.items())
  cfg, sizes = run.arguments['train_dataset_cfg'], run.sizes
  config = run.config
  lengths = ', '.join(f'{k} {v}' for k, v in cfg.task_feature_lengths.items())
  return (
    f'{topology}: {chip.num_devices} x {chip.kind}, mesh {mesh}\n'
    f'  {cfg.mixture_or_task_name}: {lengths}; batch {cfg.batch_size}, in '
    f'decoding {sizes.batch_size} inputs of {sizes.num_prompts} prompts\n'
    f'  {config.dtype}, remat_policy {config.remat_policy!r}, scan_layers '
    f'{config.scan_layers}, {run.num_microbatches} microbatches'
  )
