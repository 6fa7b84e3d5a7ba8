# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What each arm trains on, evaluates on, and how long its updates take."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import itertools
import os
import time
from typing import Any

from etils import epath
import jax

from pid_jax import partitioning
from pid_jax.benchmarks import timing
from pid_jax.comparison import updates
from pid_jax.trainer import data
from pid_jax.trainer import setup
from pid_jax.trainer import step as step_lib

_NUM_TIMED = 5  # Updates of each arm, besides one that compiles.

Arguments = Mapping[str, Any]  # Of trainer.train.


def measure(
  arguments: Arguments, arm: updates.Arm, seed: int, num_updates: int
) -> dict[str, int]:
  """Reads the updates of a run.

  Args:
    arguments: of PiD's training.
    arm: of the run.
    seed: of the run.
    num_updates: of the run.

  Returns:
    The fields of `updates.Shape`, its rows rounded up to what microbatches and
    devices can share; and 'inputs', the number of inputs in all updates.
  """
  cfg = data.with_seed(arguments['train_dataset_cfg'], seed)
  shape, inputs = updates.measure(cfg, arm, num_updates)
  fields = dataclasses.asdict(shape)
  if arm.name != 'pid':
    parts = arguments.get('num_microbatches', 1) * jax.device_count()
    fields['rows'] = -(-shape.rows // parts) * parts
  return {**fields, 'inputs': inputs}


def arguments_of(
  arguments: Arguments,
  arm: updates.Arm,
  seed: int,
  shape: updates.Shape,
  model_dir: epath.PathLike,
) -> dict[str, Any]:
  """The arguments of a run's training.

  The arms differ in what they read and in nothing else: initial weights,
  dropout, optimizer and number of updates are those of `arguments` and `seed`.

  Args:
    arguments: of PiD's training.
    arm: of the run.
    seed: of initial weights, data and dropout.
    shape: of its updates.
    model_dir: of the run.
  """
  train = data.with_seed(arguments['train_dataset_cfg'], seed)
  train = updates.train_config(train, arm, shape)
  checkpoint = arguments.get('checkpoint_cfg')
  infer = arguments['infer_eval_dataset_cfg']
  if arm.name != 'pid':
    infer = dataclasses.replace(
      infer,
      mixture_or_task_name=train.mixture_or_task_name,
      task_feature_lengths=updates.lengths_of(infer, arm),
      feature_converter=None,
    )
    if checkpoint is not None and checkpoint.best_metric is not None:
      metric = checkpoint.best_metric.rpartition('/')[2]
      checkpoint = dataclasses.replace(
        checkpoint, best_metric=f'{train.mixture_or_task_name}/{metric}'
      )
  return {
    **arguments,
    'model_dir': os.fspath(model_dir),
    'random_seed': seed,
    'train_dataset_cfg': train,
    # Its batches are PiD's, packed by its own converter.
    'train_eval_dataset_cfg': None,
    'infer_eval_dataset_cfg': infer,
    'checkpoint_cfg': checkpoint,
  }


def time_updates(
  arguments: Arguments, shapes: Mapping[updates.Arm, updates.Shape]
) -> dict[str, dict[str, float]]:
  """Times updates of all arms in turns, so that a busy machine slows all.

  Args:
    arguments: of PiD's training.
    shapes: by arm, for the seed of `arguments`.

  Returns:
    Seconds of an update by the arm's name, each a `timing.spread`.
  """
  seed = arguments['random_seed']
  partitioner = arguments.get('partitioner') or partitioning.Partitioner()
  model, optimizer = arguments['model'], arguments['optimizer']
  use_ema = arguments.get('ema_decay') is not None
  abstract = step_lib.abstract_state(model, optimizer, partitioner, ema=use_ema)
  cfg = data.with_seed(arguments['train_dataset_cfg'], seed)
  runs = {}
  for arm, shape in shapes.items():
    own = updates.train_config(cfg, arm, shape)
    batches = itertools.islice(data.dataset(own, None), 1 + _NUM_TIMED)
    runs[arm.name] = _Updates(
      step_lib.compile_train_step(
        model,
        optimizer,
        partitioner,
        abstract,
        seed=seed,
        num_microbatches=arguments.get('num_microbatches', 1),
        ema_decay=arguments.get('ema_decay'),
      ),
      setup.first_state(model, optimizer, partitioner, abstract, seed=seed),
      [
        partitioner.put_batch({k: v.numpy() for k, v in batch.items()})
        for batch in batches
      ],
    )
  seconds = {name: [] for name in runs}
  for i in range(1 + _NUM_TIMED):
    for name, one in runs.items():
      seconds[name].append(one.take(i))
  return {name: timing.spread(x[1:]) for name, x in seconds.items()}


class _Updates:
  """An arm's training, an update at a time."""

  def __init__(self, step, state, batches):
    self._step, self._state, self._batches = step, state, batches

  def take(self, index: int) -> float:
    """Makes an update with a batch; returns its seconds."""
    begin = time.perf_counter()
    self._state, _ = self._step(self._state, self._batches[index])
    jax.block_until_ready(self._state)
    return time.perf_counter() - begin
