# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A training of each arm: what it reads, and how long its updates take."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import itertools
import os
from typing import Any

from etils import epath
import jax

from pid_jax import decoding
from pid_jax import inference
from pid_jax import partitioning
from pid_jax.experiments import machine
from pid_jax.experiments import matched_batches
from pid_jax.experiments import timer
from pid_jax.trainer import data
from pid_jax.trainer import setup
from pid_jax.trainer import step as step_lib

_NUM_BATCHES = 5  # Of each arm, taken in turn.
_NUM_ROUNDS = 5
_BUDGET = 600.0  # Seconds.

Arguments = Mapping[str, Any]  # Of trainer.train.


def fit_model(arguments: Arguments) -> Arguments:
  """Gives the model the shape of the checkpoint that training begins with.

  `trainer.train` does the same; here costs and times need it before.
  """
  path = arguments.get('initial_checkpoint_path')
  if path is None:
    return arguments
  model = setup.fit_to_checkpoint(
    arguments['model'],
    setup.open_initial(path),
    arguments['train_dataset_cfg'],
  )
  return {**arguments, 'model': model}


def arguments_of(
  arguments: Arguments,
  arm: matched_batches.Arm,
  seed: int,
  shape: matched_batches.Shape,
  model_dir: epath.PathLike,
) -> dict[str, Any]:
  """The arguments of a run's training.

  The arms differ in what they read and in nothing else: initial weights,
  dropout, optimizer and number of updates are those of `arguments` and `seed`.

  Args:
    arguments: of PiD's training.
    arm: of the run.
    seed: of initial weights, data and dropout.
    shape: of its matched_batches.
    model_dir: of the run.
  """
  train = data.with_seed(arguments['train_dataset_cfg'], seed)
  train = matched_batches.train_config(train, arm, shape)
  checkpoint = arguments.get('checkpoint_cfg')
  infer = arguments['infer_eval_dataset_cfg']
  if arm.name != 'pid':
    infer = dataclasses.replace(
      infer,
      mixture_or_task_name=train.mixture_or_task_name,
      task_feature_lengths=matched_batches.lengths_of(infer, arm),
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
    # It would read other batches than those of PiD.
    'train_eval_dataset_cfg': None,
    'infer_eval_dataset_cfg': infer,
    # Joint answers cannot be constrained, so no layout's are.
    'decoding_options': dataclasses.replace(
      arguments.get('decoding_options')
      or inference.DecodingOptions(
        sampler=arguments['model'].sampler or decoding.GREEDY,
        seed=infer.seed or 0,
      ),
      use_choices=False,
    ),
    'checkpoint_cfg': checkpoint,
  }


def time_updates(
  arguments: Arguments,
  shapes: Mapping[matched_batches.Arm, matched_batches.Shape],
) -> dict[str, dict[str, float]]:
  """Times updates of all arms in turns, so that a busy machine slows all.

  Args:
    arguments: of PiD's training.
    shapes: by arm, for the seed of `arguments`; the first is the reference of
      `timer.interleave`.

  Returns:
    Seconds of an update by the arm's name, each a `timer.spread`.
  """
  partitioner = arguments.get('partitioner') or partitioning.Partitioner()
  runs = {
    arm.name: _updater(arguments, partitioner, arm, shape)
    for arm, shape in shapes.items()
  }
  timings = timer.interleave(
    runs,
    machine.Probe(),
    num_rounds=_NUM_ROUNDS,
    budget=_BUDGET,
    pause=0.0,
  )
  return {name: timer.spread(timings.seconds(name)) for name in runs}


def _updater(
  arguments: Arguments,
  partitioner: partitioning.Partitioner,
  arm: matched_batches.Arm,
  shape: matched_batches.Shape,
) -> Callable[[], None]:
  """Returns a function that makes one update of an arm, and waits for it."""
  seed, ema_decay = arguments['random_seed'], arguments.get('ema_decay')
  model, optimizer = arguments['model'], arguments['optimizer']
  abstract = step_lib.abstract_state(
    model, optimizer, partitioner, ema=ema_decay is not None
  )
  step = step_lib.compile_train_step(
    model,
    optimizer,
    partitioner,
    abstract,
    seed=seed,
    num_microbatches=arguments.get('num_microbatches', 1),
    ema_decay=ema_decay,
  )
  state = setup.first_state(model, optimizer, partitioner, abstract, seed=seed)
  cfg = data.with_seed(arguments['train_dataset_cfg'], seed)
  cfg = matched_batches.train_config(cfg, arm, shape)
  read = itertools.islice(data.dataset(cfg, None), _NUM_BATCHES)
  batches = itertools.cycle(
    [
      partitioner.put_batch({k: v.numpy() for k, v in batch.items()})
      for batch in read
    ]
  )

  def update() -> None:
    nonlocal state
    state, _ = step(state, next(batches))
    jax.block_until_ready(state)

  return update
