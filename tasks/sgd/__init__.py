# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schema-Guided Dialogue: the state of a service, prompted by its description.

`sgd_slot`, `sgd_slot_pie` and `sgd_slot_joint` have one example per service and
user turn. Its subtasks are the slots that some intent of the service uses, with
prompts from the schema. So a model can answer services that do not occur in
training zero-shot, and the official metrics report them separately. The input
is the dialogue so far, truncated at its beginning.

The joint layout, `sgd_slot_joint`, has no prompts, and some turns are about two
services: it can only memorise the services of training. With
`schema_in_inputs`, `register` adds the schema to the inputs; then the encoding
depends on the service.

An empty slot has the target 'none'. One service has the value 'None' (no
subtitles), which differs in case, both for the model and for the metrics.

`register` also registers variants with other prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
from typing import Any

from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.tasks import prepared
from pid_jax.tasks import vocabulary
from pid_jax.tasks.sgd import builder
from pid_jax.tasks.sgd import reader


@subtasks.register_once
def register(
  name: str,
  *,
  possible_values: bool = True,
  service_description: bool = True,
  schema_in_inputs: bool = False,
) -> None:
  """Registers `name`, `name`_pie and `name`_joint.

  Args:
    name: of the task.
    possible_values: whether prompts list the values of categorical slots.
    service_description: whether prompts begin with the service's description.
    schema_in_inputs: whether to append service and slots to the dialogue.
  """
  subtasks.register(
    name,
    source=prepared.PreparedDataSource(
      name,
      builder.SchemaGuided,
      functools.partial(
        examples,
        possible_values=possible_values,
        service_description=service_description,
        schema_in_inputs=schema_in_inputs,
      ),
    ),
    vocabulary=vocabulary.default(),
    metric_fns=[metrics.sgd_goal_accuracy, *metrics.SLOT_METRICS],
    subtask_features=['answers', 'is_categorical'],
    empty_target=reader.NONE,
    long_inputs='keep_end',
  )


def examples(
  record: prepared.Record,
  *,
  possible_values: bool,
  service_description: bool,
  schema_in_inputs: bool,
) -> Iterator[dict[str, Any]]:
  """Yields one example per frame of a dialogue.

  Args:
    record: a dialogue of the builder.
    possible_values: as in `register`.
    service_description: as in `register`.
    schema_in_inputs: as in `register`.
  """
  slots = {name: [] for name in record['services']['service']}
  for row in _rows(record['slots']):
    slots[row['service']].append(row)
  services = {s['service']: s for s in _rows(record['services'])}
  descriptions = {n: f'{s["description"]}. ' for n, s in services.items()}
  questions = {
    name: [_prompt(slot, possible_values) for slot in slots[name]]
    for name in services
  }
  states = [{} for _ in record['frames']['turn']]
  for row in _rows(record['state']):
    states[row['frame']].setdefault(row['slot'], []).append(row['value'])
  turns = [
    f'{speaker}: {utterance}'.rstrip()
    for speaker, utterance in zip(
      record['speakers'], record['utterances'], strict=True
    )
  ]
  for frame, state in zip(_rows(record['frames']), states, strict=True):
    service, turn = frame['service'], frame['turn']
    names = [slot['slot'] for slot in slots[service]]
    inputs = ' '.join(turns[: turn + 1])
    if schema_in_inputs:
      schema = descriptions[service] + '; '.join(questions[service])
      inputs += f' service: {schema}'
    prefix = descriptions[service] if service_description else ''
    golds = [state.get(name, [reader.NONE]) for name in names]
    yield {
      'example_id': f'{record["dialogue_id"]}-{turn}-{service}',
      'inputs': inputs,
      'subtasks': names,
      'prompts': [prefix + question for question in questions[service]],
      'targets': [values[0] for values in golds],
      'answers': [metrics.join_alternatives(values) for values in golds],
      'is_categorical': [s['is_categorical'] for s in slots[service]],
      'is_seen': services[service]['is_seen'],
      'service': service,
    }


def _prompt(slot: dict[str, Any], possible_values: bool) -> str:
  values = ''
  if possible_values and slot['is_categorical']:
    values = f' ({", ".join(slot["possible_values"].splitlines())})'
  return f'{slot["slot"].replace("_", " ")}: {slot["description"]}{values}'


def _rows(table: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
  """Yields the rows of a table of columns."""
  for values in zip(*table.values(), strict=True):
    yield dict(zip(table, values, strict=True))


register('sgd_slot')
