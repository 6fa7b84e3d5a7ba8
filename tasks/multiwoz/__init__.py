# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""MultiWOZ 2.4: the state of a dialogue after each user turn, in 30 slots.

  multiwoz24_slot    30 subtasks a turn: the value of a slot, or 'none'
  multiwoz24_domain  5 subtasks a turn: all slots of a domain in one string of
                     subtasks/groups.py, 'area = north | stars = 4' or 'none'

Either has its _pie and _joint. The input is the dialogue so far, its latest end
kept if it must be cut. All of them score the same states by the same metrics:
those of groups of slots are taken apart first.

With values listed in its prompts or not, `register` makes further ones.
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
from typing import Any

from pid_jax import errors
from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.subtasks import slot_strings
from pid_jax.tasks import prepared
from pid_jax.tasks import vocabulary
from pid_jax.tasks.multiwoz import builder
from pid_jax.tasks.multiwoz import ontology

GRANULARITIES = ('slot', 'domain')

_METRICS = (
  metrics.joint_goal_accuracy,
  metrics.joint_goal_accuracy_any_alternative,
  metrics.slot_accuracy,
  metrics.slot_accuracy_any_alternative,
  metrics.slot_f1,
  metrics.slot_f1_any_alternative,
  metrics.active_domain_accuracy_any_alternative,
)


def register(
  name: str, *, granularity: str = 'slot', possible_values: bool = True
) -> str:
  """Registers `name`, `name`_pie and `name`_joint.

  May be called again with the same arguments, as gin does.

  Args:
    name: of the task.
    granularity: 'slot' (30 subtasks) or 'domain' (5).
    possible_values: list in each prompt what the slot may be, where that is
      little.

  Returns:
    The name.

  Raises:
    UserError: the granularity is unknown, or the name was registered with
      other arguments.
  """
  if granularity not in GRANULARITIES:
    raise errors.unknown('granularity', granularity, GRANULARITIES)
  if not subtasks.is_new(name, __name__, granularity, possible_values):
    return name
  if granularity == 'slot':
    make, features, metric_fns = slot_examples, ['answers'], _METRICS
  else:
    make, features = domain_examples, ['pairs']
    metric_fns = [metrics.of_groups(m, ontology.SLOT_NAMES) for m in _METRICS]
  subtasks.register(
    name,
    source=prepared.source(
      name,
      builder.Multiwoz24,
      functools.partial(make, possible_values=possible_values),
    ),
    vocabulary=vocabulary.default(),
    metric_fns=metric_fns,
    subtask_features=features,
    empty_target=ontology.NONE,
    long_inputs='keep_end',
  )
  return name


def slot_examples(
  record: prepared.Record, *, possible_values: bool
) -> Iterator[dict[str, Any]]:
  """Yields an example a turn, with a subtask a slot.

  Args:
    record: a dialogue, of the builder.
    possible_values: as in `register`.
  """
  prompts = ontology.slot_prompts(possible_values)
  for turn in _turns(record):
    rights = [
      turn['state'].get(name, [ontology.NONE]) for name in ontology.SLOT_NAMES
    ]
    yield {
      'example_id': turn['example_id'],
      'inputs': turn['history'],
      'subtasks': list(ontology.SLOT_NAMES),
      'prompts': prompts,
      'targets': [values[0] for values in rights],
      'answers': [
        metrics.join_answers(values) if len(values) > 1 else ''
        for values in rights
      ],
    }


def domain_examples(
  record: prepared.Record, *, possible_values: bool
) -> Iterator[dict[str, Any]]:
  """Yields an example a turn, with a subtask a domain.

  Args:
    record: a dialogue, of the builder.
    possible_values: as in `register`.
  """
  prompts = ontology.domain_prompts(possible_values)
  for turn in _turns(record):
    targets, several = [], []
    for domain, slots in ontology.DOMAINS.items():
      state = {s: turn['state'].get(f'{domain}-{s}', []) for s in slots}
      targets.append(
        slot_strings.write({s: v[0] for s, v in state.items() if v})
      )
      pairs = [
        slot_strings.write({slot: value})
        for slot, values in state.items()
        for value in values
        if len(values) > 1
      ]
      several.append(metrics.join_answers(pairs) if pairs else '')
    yield {
      'example_id': turn['example_id'],
      'inputs': turn['history'],
      'subtasks': list(ontology.DOMAINS),
      'prompts': prompts,
      'targets': targets,
      'pairs': several,
    }


def _turns(record: prepared.Record) -> Iterator[dict[str, Any]]:
  """Yields `example_id`, `history` and `state` of each user turn."""
  lines = record['state']
  states = [{} for _ in record['user']]
  for turn, slot, value in zip(
    lines['turn'], lines['slot'], lines['value'], strict=True
  ):
    states[turn].setdefault(slot, []).append(value)
  history = []
  turns = zip(record['user'], record['system'], states, strict=True)
  for number, (user, system, state) in enumerate(turns, start=1):
    history.append(f'user: {user}')
    yield {
      'example_id': f'{record["dialogue_id"]}-{number}',
      'history': ' '.join(history),
      'state': state,
    }
    history.append(f'system: {system}')


register('multiwoz24_slot')
register('multiwoz24_domain', granularity='domain', possible_values=False)
