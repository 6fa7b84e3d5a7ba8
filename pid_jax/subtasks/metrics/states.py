# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of dialogue state tracking and other slot filling.

Figures of different papers can rarely be compared, since scorers forgive
different errors. Here each variant has its own name, with its rule in the
docstring. None of them restricts the values of a slot: an unknown value is
wrong like any other, and the words of a value are compared unchanged.

Subtasks are slots. Where they are groups of slots, `for_slot_groups` splits
targets and predictions into slots, so that the same metrics apply.

Besides `targets`, an example may have `answers` [U]: all gold values of a slot
that has several (empty may be one of them), as formatted by
`base.join_answers`; else '', and the target is the only gold value.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import itertools
import json

from pid_jax.subtasks import slot_strings
from pid_jax.subtasks.metrics import base

EMPTY = slot_strings.EMPTY

# Names of slots begin with that of their group: 'hotel-area'.
_GROUP_SEPARATOR = '-'

# The gold values of a slot and its prediction.
_Slot = tuple[Sequence[str], str | None]


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
  return {'joint_goal_accuracy': _joint_accuracy(_exact(targets, predictions))}


def joint_goal_accuracy_any_alternative(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of examples all of whose subtasks have one of their gold values.

  The usual rule for MultiWOZ 2.4, whose annotators gave several values where a
  dialogue is ambiguous (Ye et al., 2022): a slot is right if its value is any
  of them, and a turn if all its slots are. "Don't care" and empty are values
  like any others, and not interchangeable.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].

  Returns:
    `joint_goal_accuracy_any_alternative`.
  """
  examples = base.pairs(targets, predictions)
  return {'joint_goal_accuracy_any_alternative': _joint_accuracy(examples)}


def slot_accuracy(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of subtasks that are right, over all examples.

  Where most slots are empty, always predicting "empty" scores high.

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `slot_accuracy`.
  """
  return {'slot_accuracy': _accuracy(_exact(targets, predictions))}


def slot_accuracy_any_alternative(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of subtasks that have one of their gold values.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].

  Returns:
    `slot_accuracy_any_alternative`.
  """
  examples = base.pairs(targets, predictions)
  return {'slot_accuracy_any_alternative': _accuracy(examples)}


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
  nothing predicted).

  Args:
    targets: N whole examples.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `slot_precision`, `slot_recall` and `slot_f1`.
  """
  return _precision_recall_f1(_exact(targets, predictions), empty_target)


def slot_f1_any_alternative(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = EMPTY,
) -> dict[str, float]:
  """As `slot_f1`, but a filled slot is right with any of its gold values.

  A slot that may also be empty, and is predicted to be, counts neither as gold
  nor as predicted.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `slot_precision_any_alternative`, `slot_recall_any_alternative` and
    `slot_f1_any_alternative`.
  """
  examples = base.pairs(targets, predictions)
  figures = _precision_recall_f1(examples, empty_target)
  return {f'{name}_any_alternative': x for name, x in figures.items()}


def active_domain_accuracy_any_alternative(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = EMPTY,
) -> dict[str, float]:
  """The share of turns in which all slots of a domain are right, by domain.

  The domain is the part of a slot's name before the first '-'. A turn counts
  for the domains that are active in it: those with a slot that should be
  filled, or is predicted to be, or has no prediction. Counting all other turns
  would reward predicting nothing, and make a rare domain look easy. Published
  figures by domain differ in this. Slots without a name form a domain of their
  own.

  Args:
    targets: N whole examples, with `answers`.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `active_domain_accuracy_any_alternative`, over all pairs of a turn and an
    active domain, and the same of each such domain: '..._alternative/hotel'.
  """
  name = 'active_domain_accuracy_any_alternative'
  right = {}
  examples = base.pairs(targets, predictions)
  for target, slots in zip(targets, examples, strict=True):
    domains = {}
    for full_name, slot in zip(target['subtasks'], slots, strict=True):
      domain = full_name.partition(_GROUP_SEPARATOR)[0]
      domains.setdefault(domain, []).append(slot)
    for domain, slots in domains.items():
      is_active = not all(
        base.equal(empty_target, golds[0])
        and base.equal(empty_target, prediction)
        for golds, prediction in slots
      )
      if is_active:
        is_right = all(base.is_right(*slot) for slot in slots)
        right.setdefault(domain, []).append(is_right)
  return {
    name: base.mean([value for values in right.values() for value in values]),
    **{f'{name}/{k}': base.mean(v) for k, v in sorted(right.items()) if k},
  }


def for_slot_groups(
  metric: Callable[..., dict[str, float]],
  slots: Sequence[str],
  *,
  empty_target: str = EMPTY,
) -> Callable[[base.Targets, base.Predictions], dict[str, float]]:
  """Applies a metric of slots to subtasks that answer groups of slots.

  Subtasks have the names of groups, and their strings are those of
  slot_strings.py, with names of slots relative to the group. `pairs` [U] has
  all gold values of the slots that have several: 'name = value' strings, as
  formatted by `base.join_answers`. A slot that a prediction does not name
  is predicted to be empty. Everything else in a prediction (a slot of another
  group, a repeated slot, words that are not a pair) is wrong: it counts as a
  further slot that should be empty and is not.

  Args:
    metric: of slots.
    slots: [K] full names of all slots, 'group-slot'.
    empty_target: the value of an empty slot.

  Returns:
    A metric with the figures that `metric` has for the same states by slots.
  """
  slots_of = {}
  for full_name in slots:
    group, _, name = full_name.partition(_GROUP_SEPARATOR)
    slots_of.setdefault(group, []).append(name)

  def grouped(
    targets: base.Targets, predictions: base.Predictions
  ) -> dict[str, float]:
    by_slot = [
      _split_groups(target, prediction, slots_of, empty_target)
      for target, prediction in zip(targets, predictions, strict=True)
    ]
    return metric([target for target, _ in by_slot], [p for _, p in by_slot])

  return functools.update_wrapper(grouped, metric)


def is_right_group(
  target: str, pairs: Sequence[str], prediction: str | None
) -> bool:
  """Whether all slots of a group are right; see `for_slot_groups`.

  Args:
    target: of the group, from `slot_strings.format_slots`.
    pairs: 'name = value' for each gold value of the slots that have several.
    prediction: None is wrong.
  """
  if prediction is None:
    return False
  golds = slot_strings.gold_values(target, pairs)
  values, invalid = slot_strings.parse_slots(prediction)
  return not invalid and all(
    base.is_right(golds.get(name, [EMPTY]), values.get(name, EMPTY))
    for name in {*golds, *values}
  )


def _split_groups(
  target: base.Target,
  prediction: base.Prediction,
  slots_of: Mapping[str, Sequence[str]],
  empty_target: str,
) -> tuple[base.Target, base.Prediction]:
  """One example by groups, [U], to the same by slots, [K + invalid parts]."""
  size = len(target['subtasks'])
  # A subtask without a row may lack a name (postprocessors.group_by_example).
  unnamed = iter([name for name in slots_of if name not in target['subtasks']])
  rows = []
  for group, gold, pairs, text in zip(
    [name or next(unnamed, '') for name in target['subtasks']],
    target['targets'],
    target.get('pairs') or [''] * size,
    prediction,
    strict=True,
  ):
    names = slots_of[group]
    golds = slot_strings.gold_values(gold, json.loads(pairs) if pairs else ())
    values, invalid = ({}, [])
    if text is not None:
      values, invalid = slot_strings.parse_slots(text)
    for name in names:
      value = None if text is None else values.get(name, empty_target)
      rows.append((f'{group}-{name}', golds.get(name, [empty_target]), value))
    unknown = [f'{k} = {v}' for k, v in values.items() if k not in names]
    for words in [*invalid, *unknown]:
      rows.append((f'{group}-', [empty_target], f'no slot: {words}'))
  by_slot = {
    **target,
    'subtasks': [name for name, _, _ in rows],
    'targets': [golds[0] for _, golds, _ in rows],
    'answers': [base.join_alternatives(golds) for _, golds, _ in rows],
  }
  return by_slot, [value for _, _, value in rows]


def _exact(
  targets: base.Targets, predictions: base.Predictions
) -> Iterator[list[_Slot]]:
  """Yields the slots of each example; the target is the only gold value."""
  for target, prediction in zip(targets, predictions, strict=True):
    yield [
      ([gold], text)
      for gold, text in zip(target['targets'], prediction, strict=True)
    ]


def _joint_accuracy(examples: Iterable[Sequence[_Slot]]) -> float:
  return base.mean(
    [all(base.is_right(*slot) for slot in slots) for slots in examples]
  )


def _accuracy(examples: Iterable[Sequence[_Slot]]) -> float:
  slots = itertools.chain.from_iterable(examples)
  return base.mean([base.is_right(*slot) for slot in slots])


def _precision_recall_f1(
  examples: Iterable[Sequence[_Slot]], empty_target: str
) -> dict[str, float]:
  """Micro-averages over all slots."""
  right = predicted = gold = 0
  for golds, prediction in itertools.chain.from_iterable(examples):
    is_right = base.is_right(golds, prediction)
    is_predicted = prediction is not None and not base.equal(
      empty_target, prediction
    )
    is_gold = any(not base.equal(empty_target, value) for value in golds)
    predicted += is_predicted
    gold += is_gold and (is_predicted or not is_right)
    right += is_right and is_predicted
  total = predicted + gold
  return {
    'slot_precision': right / predicted if predicted else 1.0 - bool(gold),
    'slot_recall': right / gold if gold else 1.0 - bool(predicted),
    'slot_f1': 2 * right / total if total else 1.0,
  }
