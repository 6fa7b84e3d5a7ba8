# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics over whole examples, the same for every layout. No TensorFlow.

Each function takes `targets`, a list of dictionaries with `subtasks` and
`targets` ([U] str), and `predictions`, a list of [U] str or None, both from
postprocessors.py. None, a missing prediction, is always wrong, even where the
target is empty. All figures are fractions between 0 and 1. A metric that
forgives anything but white space at both ends of a text says so in its
docstring, and `base.is_right` is the rule of the others.

`names` has the metrics that users choose by name: those that need only strings.
The others need further features of a data set.
"""

from __future__ import annotations

from collections.abc import Callable
import functools

from pid_jax import checks
from pid_jax import errors
from pid_jax.subtasks.metrics.answers import exact_match
from pid_jax.subtasks.metrics.answers import example_exact_match
from pid_jax.subtasks.metrics.answers import normalize_answer
from pid_jax.subtasks.metrics.answers import squad
from pid_jax.subtasks.metrics.answers import token_f1
from pid_jax.subtasks.metrics.base import Prediction
from pid_jax.subtasks.metrics.base import Predictions
from pid_jax.subtasks.metrics.base import Target
from pid_jax.subtasks.metrics.base import Targets
from pid_jax.subtasks.metrics.base import gold_answers
from pid_jax.subtasks.metrics.base import is_right
from pid_jax.subtasks.metrics.base import join_alternatives
from pid_jax.subtasks.metrics.base import join_answers
from pid_jax.subtasks.metrics.schema_guided import sgd_goal_accuracy
from pid_jax.subtasks.metrics.states import (
  active_domain_accuracy_any_alternative,
)
from pid_jax.subtasks.metrics.states import for_slot_groups
from pid_jax.subtasks.metrics.states import is_right_group
from pid_jax.subtasks.metrics.states import joint_goal_accuracy
from pid_jax.subtasks.metrics.states import joint_goal_accuracy_any_alternative
from pid_jax.subtasks.metrics.states import slot_accuracy
from pid_jax.subtasks.metrics.states import slot_accuracy_any_alternative
from pid_jax.subtasks.metrics.states import slot_f1
from pid_jax.subtasks.metrics.states import slot_f1_any_alternative
from pid_jax.subtasks.metrics.summaries import rouge
from pid_jax.subtasks.metrics.summaries import rouge_of_whole

__all__ = [
  'DEFAULT',
  'Prediction',
  'Predictions',
  'SLOT_METRICS',
  'Target',
  'Targets',
  'active_domain_accuracy_any_alternative',
  'by_name',
  'example_exact_match',
  'exact_match',
  'for_slot_groups',
  'gold_answers',
  'is_right',
  'is_right_group',
  'join_alternatives',
  'join_answers',
  'joint_goal_accuracy',
  'joint_goal_accuracy_any_alternative',
  'names',
  'normalize_answer',
  'rouge',
  'rouge_of_whole',
  'sgd_goal_accuracy',
  'slot_accuracy',
  'slot_accuracy_any_alternative',
  'slot_f1',
  'slot_f1_any_alternative',
  'squad',
  'token_f1',
]

SLOT_METRICS = (
  joint_goal_accuracy,
  joint_goal_accuracy_any_alternative,
  slot_accuracy,
  slot_accuracy_any_alternative,
  slot_f1,
  slot_f1_any_alternative,
)

names = {
  metric.__name__: metric
  for metric in (
    exact_match,
    example_exact_match,
    token_f1,
    squad,
    rouge,
    rouge_of_whole,
    *SLOT_METRICS,
  )
}

# Of data of the user's, unless metrics are named.
DEFAULT = ('exact_match', 'example_exact_match', 'token_f1')

# Metrics that depend on the target that means "nothing here".
_WITH_EMPTY_TARGET = frozenset(
  {'rouge', 'rouge_of_whole', 'slot_f1', 'slot_f1_any_alternative', 'squad'}
)


def by_name(
  name: str, empty_target: str | None = None
) -> Callable[[Targets, Predictions], dict[str, float]]:
  """Returns the metric of that name.

  Args:
    name: a key of `names`.
    empty_target: the target that means "nothing here", for metrics that depend
      on it; None: the metric's default.

  Raises:
    UserError: there is none, or empty_target is no string.
  """
  if empty_target is not None:
    checks.string('empty_target', empty_target, allow_empty=True)
  if not isinstance(name, str) or name not in names:
    raise errors.unknown('metric', str(name), names)
  if name in _WITH_EMPTY_TARGET and empty_target is not None:
    return functools.partial(names[name], empty_target=empty_target)
  return names[name]
