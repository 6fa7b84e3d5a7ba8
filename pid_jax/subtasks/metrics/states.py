# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of dialogue state tracking, and of any slots to be filled.

Figures of different papers can rarely be compared, since scorers differ in what
they forgive. Each variant has a name of its own here, and its rule beside it.
None of them looks at what values a slot may take: a value that nobody has heard
of is wrong like any other, and the words of a value are compared as they are.

Subtasks are slots. Where they are groups of slots, `of_groups` takes targets
and predictions apart, so that the same metrics apply.

Besides `targets`, an example may hold `answers` [U]: of a slot with several
right values (being empty may be one of them) all of these, in the form of
answers.join_answers; else ''. The target is the only right value of such.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import json

from pid_jax.subtasks import slot_strings
from pid_jax.subtasks.metrics import answers
from pid_jax.subtasks.metrics import base

EMPTY = slot_strings.EMPTY

# By it, names of slots begin with that of their group: 'hotel-area'.
_AFTER_GROUP = '-'


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


def joint_goal_accuracy_any_alternative(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of examples all of whose subtasks have one of their right values.

  The usual rule for MultiWOZ 2.4, whose annotators gave several values where a
  dialogue leaves it open (Ye et al., 2022): a slot is right if its value is any
  of them, and a turn if that holds for all slots. "Don't care" and empty are
  values like any others, neither stands for the other.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].

  Returns:
    `joint_goal_accuracy_any_alternative`.
  """
  right = [
    all(_is_right(wanted, got) for wanted, got in _slots(t, p))
    for t, p in zip(targets, predictions, strict=True)
  ]
  return {'joint_goal_accuracy_any_alternative': base.mean(right)}


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


def slot_accuracy_any_alternative(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of subtasks that have one of their right values.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].

  Returns:
    `slot_accuracy_any_alternative`.
  """
  right = [
    _is_right(wanted, got)
    for t, p in zip(targets, predictions, strict=True)
    for wanted, got in _slots(t, p)
  ]
  return {'slot_accuracy_any_alternative': base.mean(right)}


def slot_f1(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = EMPTY,
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
  slots = [([want], got) for want, got in base.pairs(targets, predictions)]
  return _precision_recall_f1(slots, empty_target, '')


def slot_f1_any_alternative(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = EMPTY,
) -> dict[str, float]:
  """As `slot_f1`, where a filled slot is right with any of its right values.

  A slot that may also be empty, and is predicted so, is neither wanted nor
  claimed.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `slot_precision_any_alternative`, `slot_recall_any_alternative` and
    `slot_f1_any_alternative`.
  """
  slots = [
    slot
    for t, p in zip(targets, predictions, strict=True)
    for slot in _slots(t, p)
  ]
  return _precision_recall_f1(slots, empty_target, '_any_alternative')


def active_domain_accuracy_any_alternative(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = EMPTY,
) -> dict[str, float]:
  """The share of turns in which all slots of a domain are right, by domain.

  The domain is what a slot's name has before the first '-'. Only turns count in
  which it is in play: one of its slots should be filled, or is predicted to be,
  or has no prediction. In all others a model would be right by saying nothing,
  and a rare domain would look easy. Published figures by domain differ in this.
  Slots whose name is missing are as if of a domain of their own.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `active_domain_accuracy_any_alternative`, over all pairs of a turn and a
    domain in play, and the same of each such domain: '..._alternative/hotel'.
  """
  name = 'active_domain_accuracy_any_alternative'
  right = {}
  for target, prediction in zip(targets, predictions, strict=True):
    domains = {}
    slots = _slots(target, prediction)
    for full_name, slot in zip(target['subtasks'], slots, strict=True):
      domain = full_name.partition(_AFTER_GROUP)[0]
      domains.setdefault(domain, []).append(slot)
    for domain, slots in domains.items():
      if not all(
        _is_empty(wanted[0], empty_target) and _is_empty(got, empty_target)
        for wanted, got in slots
      ):
        right.setdefault(domain, []).append(
          all(_is_right(wanted, got) for wanted, got in slots)
        )
  return {
    name: base.mean([value for values in right.values() for value in values]),
    **{f'{name}/{k}': base.mean(v) for k, v in sorted(right.items()) if k},
  }


def of_groups(
  metric: Callable[..., dict[str, float]],
  slots: Sequence[str],
  *,
  empty_target: str = EMPTY,
) -> Callable[[base.Targets, base.Predictions], dict[str, float]]:
  """Makes a metric of slots one of subtasks that answer groups of slots.

  Subtasks carry the names of groups, and their strings are those of
  slot_strings.py, with names of slots as they are within the group. Of slots
  with several right values, `pairs` [U] has them all, as 'name = value' in the
  form of answers.join_answers. A slot that a prediction does not name is
  predicted to be empty. What a prediction says beyond the group's slots (a slot
  of another group, a slot twice, words that are no pair) is wrong: it counts as
  a further slot that should be empty and is not.

  Args:
    metric: of slots.
    slots: [K] full names of all slots, 'group-slot'.
    empty_target: the value of an empty slot.

  Returns:
    A metric with the same figures as `metric` has for the same states by slots.
  """
  slots_of = {}
  for full_name in slots:
    group, _, name = full_name.partition(_AFTER_GROUP)
    slots_of.setdefault(group, []).append(name)

  def grouped(
    targets: base.Targets, predictions: base.Predictions
  ) -> dict[str, float]:
    taken_apart = [
      _take_apart(t, p, slots_of, empty_target)
      for t, p in zip(targets, predictions, strict=True)
    ]
    return metric([t for t, _ in taken_apart], [p for _, p in taken_apart])

  return functools.update_wrapper(grouped, metric)


def _take_apart(
  target: base.Target,
  prediction: base.Prediction,
  slots_of: Mapping[str, Sequence[str]],
  empty_target: str,
) -> tuple[base.Target, base.Prediction]:
  """One example by groups, [U], to the same by slots, [K + what is wrong]."""
  size = len(target['subtasks'])
  # A subtask whose row is missing may have lost its name too (wholes.regroup).
  unnamed = iter([name for name in slots_of if name not in target['subtasks']])
  rows = []
  for group, want, pairs, got in zip(
    [name or next(unnamed, '') for name in target['subtasks']],
    target['targets'],
    target.get('pairs') or [''] * size,
    prediction,
    strict=True,
  ):
    names = slots_of[group]
    wanted = slot_strings.right_values(want, json.loads(pairs) if pairs else ())
    said, rest = slot_strings.read(got) if got is not None else ({}, [])
    for name in names:
      values = wanted.get(name, [empty_target])
      value = None if got is None else said.get(name, empty_target)
      rows.append((f'{group}-{name}', values, value))
    unknown = [f'{k} = {v}' for k, v in said.items() if k not in names]
    for words in [*rest, *unknown]:
      rows.append((f'{group}-', [empty_target], f'no slot: {words}'))
  apart = {
    **target,
    'subtasks': [name for name, _, _ in rows],
    'targets': [values[0] for _, values, _ in rows],
    'answers': [
      answers.join_answers(values) if len(values) > 1 else ''
      for _, values, _ in rows
    ],
  }
  return apart, [value for _, _, value in rows]


def _slots(
  target: base.Target, prediction: base.Prediction
) -> Iterator[tuple[list[str], str | None]]:
  """Yields the right values and the prediction of each subtask."""
  texts = target['targets']
  held = target.get('answers') or [''] * len(texts)
  for want, values, got in zip(texts, held, prediction, strict=True):
    yield json.loads(values) if values else [want], got


def _is_right(wanted: Sequence[str], got: str | None) -> bool:
  return any(base.equal(want, got) for want in wanted)


def _is_empty(value: str | None, empty_target: str) -> bool:
  return base.equal(empty_target, value)


def _precision_recall_f1(
  slots: Sequence[tuple[Sequence[str], str | None]],
  empty_target: str,
  suffix: str,
) -> dict[str, float]:
  """Counts hits among what is claimed and what is wanted."""
  hits = claimed = wanted = 0
  for values, got in slots:
    is_right = _is_right(values, got)
    is_claimed = got is not None and not _is_empty(got, empty_target)
    is_wanted = any(not _is_empty(value, empty_target) for value in values)
    claimed += is_claimed
    wanted += is_wanted and (is_claimed or not is_right)
    hits += is_right and is_claimed
  return {
    f'slot_precision{suffix}': hits / claimed
    if claimed
    else 1.0 - bool(wanted),
    f'slot_recall{suffix}': hits / wanted if wanted else 1.0 - bool(claimed),
    f'slot_f1{suffix}': 2 * hits / (claimed + wanted)
    if claimed + wanted
    else 1.0,
  }
