# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Schema-Guided Dialogue: the state of a service, from its own description.

`sgd_slot`, `sgd_slot_pie` and `sgd_slot_joint` have an example for each service
in each user turn. Its subtasks are the slots that some intent of the service
takes, its prompts are made of the schema's own words; so services that training
has never seen are answered zero-shot, and the official metrics tell them apart.
The input is the dialogue so far, its latest end kept if it must be cut.

The text-to-text layout of all slots at once, `sgd_slot_joint`, reads nothing of
what is asked, and some turns are about two services: it can learn the services
of training by heart, but no others. With `schema_in_inputs`, `register` makes
tasks whose inputs say it; one encoding then serves one service only.

An empty slot has the target 'none'. One service has a value 'None' (no
subtitles); case tells them apart, for the model and for the metrics.

With other prompts too, `register` makes further tasks.
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


def register(
  name: str,
  *,
  possible_values: bool = True,
  service_description: bool = True,
  schema_in_inputs: bool = False,
) -> str:
  """Registers `name`, `name`_pie and `name`_joint.

  May be called again with the same arguments, as gin does.

  Args:
    name: of the task.
    possible_values: list in the prompt of a categorical slot what it may be.
    service_description: begin each prompt with what the service is for.
    schema_in_inputs: put service and slots behind the dialogue too.

  Returns:
    The name.

  Raises:
    UserError: the name was registered with other arguments.
  """
  arguments = (possible_values, service_description, schema_in_inputs)
  if not subtasks.is_new(name, __name__, *arguments):
    return name
  subtasks.register(
    name,
    source=prepared.source(
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
    metric_fns=[
      metrics.sgd_goal_accuracy,
      metrics.joint_goal_accuracy,
      metrics.joint_goal_accuracy_any_alternative,
      metrics.slot_accuracy,
      metrics.slot_accuracy_any_alternative,
      metrics.slot_f1,
      metrics.slot_f1_any_alternative,
    ],
    subtask_features=['answers', 'is_categorical'],
    empty_target=reader.NONE,
    long_inputs='keep_end',
  )
  return name


def examples(
  record: prepared.Record,
  *,
  possible_values: bool,
  service_description: bool,
  schema_in_inputs: bool,
) -> Iterator[dict[str, Any]]:
  """Yields an example for each frame of a dialogue.

  Args:
    record: a dialogue, of the builder.
    possible_values: as in `register`.
    service_description: as in `register`.
    schema_in_inputs: as in `register`.
  """
  slots = {name: [] for name in record['services']['service']}
  for line in _lines(record['slots']):
    slots[line['service']].append(line)
  services = {s['service']: s for s in _lines(record['services'])}
  about = {name: f'{s["description"]}. ' for name, s in services.items()}
  asked = {
    name: [_prompt(slot, possible_values) for slot in slots[name]]
    for name in services
  }
  prompts = {
    name: [
      (about[name] if service_description else '') + p for p in asked[name]
    ]
    for name in services
  }
  states = [{} for _ in record['frames']['turn']]
  for line in _lines(record['state']):
    states[line['frame']].setdefault(line['slot'], []).append(line['value'])
  said = [
    f'{speaker}: {utterance}'.rstrip()
    for speaker, utterance in zip(
      record['speakers'], record['utterances'], strict=True
    )
  ]
  for frame, state in zip(_lines(record['frames']), states, strict=True):
    service, turn = frame['service'], frame['turn']
    names = [slot['slot'] for slot in slots[service]]
    history = ' '.join(said[: turn + 1])
    if schema_in_inputs:
      history += f' service: {about[service]}{"; ".join(asked[service])}'
    rights = [state.get(name, [reader.NONE]) for name in names]
    yield {
      'example_id': f'{record["dialogue_id"]}-{turn}-{service}',
      'inputs': history,
      'subtasks': names,
      'prompts': prompts[service],
      'targets': [values[0] for values in rights],
      'answers': [
        metrics.join_answers(values) if len(values) > 1 else ''
        for values in rights
      ],
      'is_categorical': [s['is_categorical'] for s in slots[service]],
      'is_seen': services[service]['is_seen'],
      'service': service,
    }


def _prompt(slot: dict[str, Any], possible_values: bool) -> str:
  values = ''
  if possible_values and slot['is_categorical']:
    values = f' ({", ".join(slot["possible_values"].splitlines())})'
  return f'{slot["slot"].replace("_", " ")}: {slot["description"]}{values}'


def _lines(table: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
  """Yields the lines of a table of columns."""
  for values in zip(*table.values(), strict=True):
    yield dict(zip(table, values, strict=True))


register('sgd_slot')
