# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""MultiWOZ 2.4: the state of a dialogue after each user turn, in 30 slots.

  multiwoz24_slot    30 subtasks per turn: the value of a slot, or 'none'
  multiwoz24_domain  5 subtasks per turn: all slots of a domain in one string of
                     subtasks/slot_strings.py: 'area = north | stars = 4'

Each has its _pie and _joint. The input is the dialogue so far, truncated at its
beginning. All tasks have the same metrics of the same states; those by domain
are split into slots first.

`register` registers variants, with or without possible values in the prompts.
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
  *metrics.SLOT_METRICS,
  metrics.active_domain_accuracy_any_alternative,
)


@subtasks.register_once
def register(
  name: str, *, granularity: str = 'slot', possible_values: bool = True
) -> None:
  """Registers `name`, `name`_pie and `name`_joint.

  Args:
    name: of the task.
    granularity: 'slot' (30 subtasks) or 'domain' (5).
    possible_values: whether prompts list the values of slots that have few.

  Raises:
    UserError: the granularity is unknown.
  """
  if granularity not in GRANULARITIES:
    raise errors.unknown('granularity', granularity, GRANULARITIES)
  if granularity == 'slot':
    make, features, metric_fns = slot_examples, ['answers'], _METRICS
  else:
    make, features = domain_examples, ['pairs']
    metric_fns = [
      metrics.for_slot_groups(m, ontology.SLOT_NAMES) for m in _METRICS
    ]
  subtasks.register(
    name,
    source=prepared.PreparedDataSource(
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


def slot_examples(
  record: prepared.Record, *, possible_values: bool
) -> Iterator[dict[str, Any]]:
  """Yields one example per turn, with one subtask per slot.

  Args:
    record: a dialogue of the builder.
    possible_values: as in `register`.
  """
  prompts = ontology.slot_prompts(possible_values)
  for example, state in _turns(record):
    golds = [state.get(name, [ontology.NONE]) for name in ontology.SLOT_NAMES]
    yield {
      **example,
      'subtasks': list(ontology.SLOT_NAMES),
      'prompts': prompts,
      'targets': [values[0] for values in golds],
      'answers': [metrics.join_alternatives(values) for values in golds],
    }


def domain_examples(
  record: prepared.Record, *, possible_values: bool
) -> Iterator[dict[str, Any]]:
  """Yields one example per turn, with one subtask per domain.

  Args:
    record: a dialogue of the builder.
    possible_values: as in `register`.
  """
  prompts = ontology.domain_prompts(possible_values)
  for example, state in _turns(record):
    targets, pairs = [], []
    for domain, slots in ontology.DOMAINS.items():
      golds = {s: state.get(f'{domain}-{s}', []) for s in slots}
      targets.append(
        slot_strings.format_slots({s: v[0] for s, v in golds.items() if v})
      )
      pairs.append(
        metrics.join_alternatives(
          [
            slot_strings.format_slots({slot: value})
            for slot, values in golds.items()
            for value in values
            if len(values) > 1
          ]
        )
      )
    yield {
      **example,
      'subtasks': list(ontology.DOMAINS),
      'prompts': prompts,
      'targets': targets,
      'pairs': pairs,
    }


def _turns(
  record: prepared.Record,
) -> Iterator[tuple[dict[str, str], dict[str, list[str]]]]:
  """Yields `example_id` and `inputs` of each user turn, and its state."""
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
    example_id = f'{record["dialogue_id"]}-{number}'
    yield {'example_id': example_id, 'inputs': ' '.join(history)}, state
    history.append(f'system: {system}')


register('multiwoz24_slot')
register('multiwoz24_domain', granularity='domain', possible_values=False)
