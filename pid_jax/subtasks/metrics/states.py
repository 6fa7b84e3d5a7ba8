# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of dialogue state tracking, and of any slots to be filled.

Figures of different papers can rarely be compared, since scorers differ in what
they forgive. Each variant has a name of its own here, and its rule beside it.
"""

from __future__ import annotations

from pid_jax.subtasks.metrics import base


def joint_goal_accuracy(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of examples all of whose subtasks are right.

  In dialogue state tracking: of turns whose whole state is right. Published
  figures differ in what they forgive; this one forgives nothing: empty slots
  and "don't care" must be predicted like any others.

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `joint_goal_accuracy`.
  """
  right = [
    all(
      base.equal(want, got) for want, got in zip(t['targets'], p, strict=True)
    )
    for t, p in zip(targets, predictions, strict=True)
  ]
  return {'joint_goal_accuracy': base.mean(right)}


def slot_accuracy(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of subtasks that are right, over all examples.

  Where most slots are empty, saying "empty" always scores high.

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `slot_accuracy`.
  """
  pairs = base.pairs(targets, predictions)
  return {'slot_accuracy': base.mean([base.equal(*pair) for pair in pairs])}


def slot_f1(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = 'none',
) -> dict[str, float]:
  """Precision, recall and F1 of the slots that are not empty.

  A slot filled with the right value is a true positive. One filled with a wrong
  value is a false positive and, if the target is filled, a false negative too.
  Micro-averaged over all examples; 0 / 0 counts as 1 (nothing to find, and
  nothing claimed).

  Args:
    targets: N whole examples.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `slot_precision`, `slot_recall` and `slot_f1`.
  """
  hits = claimed = wanted = 0
  for want, got in base.pairs(targets, predictions):
    is_wanted = not base.equal(want, empty_target)
    is_claimed = got is not None and not base.equal(empty_target, got)
    wanted += is_wanted
    claimed += is_claimed
    hits += is_wanted and is_claimed and base.equal(want, got)
  return {
    'slot_precision': hits / claimed if claimed else 1.0 - bool(wanted),
    'slot_recall': hits / wanted if wanted else 1.0 - bool(claimed),
    'slot_f1': 2 * hits / (claimed + wanted) if claimed + wanted else 1.0,
  }
