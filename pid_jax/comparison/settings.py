# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is compared, and whether it can be."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

import gin
import jax

from pid_jax import errors
from pid_jax.comparison import updates
from pid_jax.trainer import data

EQUAL = ('updates', 'seconds')


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is compared.

  Attributes:
    layouts: of `updates.LAYOUTS`; 'pid' must be among them.
    num_seeds: runs of each layout, with the run's own seed and those after it.
    equal: 'updates', or 'seconds': then PiD makes the updates that were
      configured, and the others as many as they manage in the time of these.
    granularities: further tasks that PiD is trained on, with the lengths of
      their features; see `updates.Arm`.
  """

  layouts: tuple[str, ...] = updates.LAYOUTS
  num_seeds: int = 3
  equal: str = 'updates'
  granularities: Mapping[str, Mapping[str, int]] = dataclasses.field(
    default_factory=dict
  )

  def __post_init__(self):
    for layout in self.layouts:
      if layout not in updates.LAYOUTS:
        raise errors.unknown('layout', layout, updates.LAYOUTS)
    if 'pid' not in self.layouts or len(set(self.layouts)) < len(self.layouts):
      raise errors.UserError(
        'name each layout once, and pid among them, for its updates are those '
        f'that the others make. Got {",".join(self.layouts)}.'
      )
    if self.equal not in EQUAL:
      raise errors.unknown('kind of equality', self.equal, EQUAL)
    if self.num_seeds < 1:
      raise errors.UserError(f'seeds must be at least 1. Got {self.num_seeds}.')

  @classmethod
  def from_gin(cls, *args: Any) -> Settings:
    """Made of these fields, and of what gin says of others."""
    try:
      make = gin.get_configurable(cls)
    except ValueError:  # No gin file names it.
      make = cls
    return make(*args)

  @property
  def arms(self) -> list[updates.Arm]:
    """All that is compared."""
    others = self.granularities.items()
    return [
      *[updates.Arm(layout) for layout in self.layouts],
      *[updates.Arm(task, lengths) for task, lengths in others],
    ]


def check(arguments: Mapping[str, Any], settings: Settings) -> None:
  """Raises UserError unless a training can be compared.

  Args:
    arguments: of `trainer.train`.
    settings: what is compared.
  """
  if jax.process_count() > 1:
    raise errors.UserError('a comparison runs in one process, not in several')
  cfg = arguments['train_dataset_cfg']
  task = data.get_task(cfg.mixture_or_task_name)
  if _layout(task) != 'pid':
    raise errors.UserError(
      f'{task.name!r} cannot be compared: name the multi-prompt task of one '
      'registration (subtasks.register), not a mixture nor one of its layouts'
    )
  evaluation = arguments.get('infer_eval_dataset_cfg')
  is_trained = why_untrained(arguments) is None
  for arm in settings.arms:
    other = data.get_task(arm.task(task.name))
    data.check_split(other, cfg.split)
    if is_trained:
      data.check_split(other, evaluation.split)
    if arm.lengths is not None:
      _check_granularity(arm, other, task, cfg.task_feature_lengths)
  if not cfg.pack or 'decoder' not in cfg.task_feature_lengths:
    raise errors.UserError(
      "a comparison needs packed training: pack = True, and 'decoder' in "
      'TASK_FEATURE_LENGTHS'
    )
  if evaluation is not None and evaluation.num_examples is not None:
    raise errors.UserError(
      'num_examples of infer_eval/trainer.DatasetConfig counts rows, of which '
      'PiE has several for an example: leave it None, or name a smaller split'
    )


def has_targets(arguments: Mapping[str, Any]) -> bool:
  """Whether there is something to train on."""
  name = arguments['train_dataset_cfg'].mixture_or_task_name
  return data.get_task(name).layout.has_targets


def why_untrained(arguments: Mapping[str, Any]) -> str | None:
  """Why quality cannot be measured; None if it can be."""
  name, reason = arguments['train_dataset_cfg'].mixture_or_task_name, None
  if not has_targets(arguments):
    reason = 'the task has no targets'
  elif not arguments.get('infer_eval_dataset_cfg'):
    reason = 'the run has no infer_eval_dataset_cfg'
  elif not data.get_task(name).metric_fns:
    reason = 'the task has no metrics'
  return reason and f'{reason}, so that nothing was trained'


def _check_granularity(
  arm: updates.Arm,
  other: Any,
  task: Any,
  lengths: Mapping[str, int],
) -> None:
  if _layout(other) != 'pid' or other.name == task.name:
    raise errors.UserError(
      f'the granularity {arm.name!r} is no multi-prompt task besides '
      f'{task.name!r}'
    )
  wanted = {'inputs', 'prompts', 'targets', 'subtasks', 'decoder'}
  if set(arm.lengths) != wanted or arm.lengths['inputs'] != lengths['inputs']:
    raise errors.UserError(
      f'the granularity {arm.name!r} needs lengths of {sorted(wanted)}, with '
      f"'inputs' as in TASK_FEATURE_LENGTHS: {lengths['inputs']}. Got "
      f'{dict(arm.lengths)}.'
    )


def _layout(task: Any) -> str | None:
  return getattr(getattr(task, 'layout', None), 'name', None)
