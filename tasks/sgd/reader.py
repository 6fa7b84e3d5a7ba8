# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the distributor's files of the Schema-Guided Dialogue data set.

A split is a folder with schema.json, a list of services with their slots and
intents, and dialogues_NNN.json, lists of dialogues. A user turn has a frame for
each service that it is about, with the state of the service after the turn. A
filled slot has all spellings of its value that were used, all of them gold.

Slots that no intent uses can be requested by a user, but are in no state; they
are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
from typing import Any

from pid_jax import errors
from pid_jax.tasks import records

NONE = 'none'
DONTCARE = 'dontcare'
SCHEMA_FILE = 'schema.json'
# Split -> the distributor's folder, and its number of dialogue files.
SPLITS = {
  'train': ('train', 127),
  'validation': ('dev', 20),
  'test': ('test', 34),
}
_SPEAKERS = ('USER', 'SYSTEM')


@dataclasses.dataclass(frozen=True)
class Slot:
  """A slot of a service.

  Attributes:
    name: such as 'city_of_event'.
    description: the schema's.
    is_categorical: whether its value is one of `possible_values`, or
      'dontcare'.
    possible_values: of a categorical slot, all; else examples, or ().
  """

  name: str
  description: str
  is_categorical: bool
  possible_values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Service:
  """A service, such as 'Restaurants_1'.

  Attributes:
    name: unique over all splits.
    description: the schema's.
    slots: those that an intent uses, by name, in the schema's order.
    other_slots: names of the other slots.
  """

  name: str
  description: str
  slots: Mapping[str, Slot]
  other_slots: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Frame:
  """The state of a service after a turn.

  Attributes:
    turn: index of the turn in the dialogue.
    service: its name.
    active_intent: the user's intent, or 'NONE'.
    state: name of a filled slot -> its gold values; a categorical slot has one.
  """

  turn: int
  service: str
  active_intent: str
  state: Mapping[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Dialogue:
  """A dialogue.

  Attributes:
    name: unique within a split.
    speakers: of each turn, 'user' or 'system'.
    utterances: of each turn.
    frames: in the order of turns.
  """

  name: str
  speakers: list[str]
  utterances: list[str]
  frames: list[Frame]


def read_schema(
  path: records.Path, report: records.ReadReport
) -> dict[str, Service]:
  """Reads the services of a split by their names.

  Raises:
    UserError: the file does not have the distributor's format.
  """
  services = {}
  for number, service in enumerate(records.read_json(path), start=1):
    with report.reading(path, f'service {number}'):
      name = service['service_name']
      used = {
        slot
        for intent in service['intents']
        # A list of names, or a dictionary with the names as keys.
        for slot in [*intent['required_slots'], *intent['optional_slots']]
      }
      slots = [
        Slot(
          slot['name'],
          _unified(slot['description']),
          bool(slot['is_categorical']),
          tuple(_unified(value) for value in slot['possible_values']),
        )
        for slot in service['slots']
      ]
      services[name] = Service(
        name,
        _unified(service['description']),
        {slot.name: slot for slot in slots if slot.name in used},
        frozenset(slot.name for slot in slots if slot.name not in used),
      )
  if not services:
    raise errors.UserError(f'{path} has no services')
  return services


def read_dialogues(
  path: records.Path,
  services: Mapping[str, Service],
  report: records.ReadReport,
) -> Iterator[Dialogue]:
  """Reads the dialogues of a file.

  Args:
    path: of the file.
    services: of the split.
    report: for counts, skipped dialogues and errors.

  Yields:
    Dialogues, in the file's order.

  Raises:
    UserError: the file does not have the distributor's format, or does not
      match the schema.
  """
  for number, dialogue in enumerate(records.read_json(path), start=1):
    with report.reading(path, f'dialogue {number}'):
      name = str(dialogue['dialogue_id'])
    where = f'dialogue {name}'
    with report.reading(path, where):
      read = _dialogue(dialogue, name, services, f'{path}, {where}', report)
    values = [
      v for frame in read.frames for x in frame.state.values() for v in x
    ]
    if not read.frames:
      report.skip(path, where, 'has no user turn about a service')
    elif NONE in values:
      report.skip(path, where, f'has a value {NONE!r}, which means empty')
    else:
      report.count('dialogues')
      report.count('turns', len(read.utterances))
      report.count('frames', len(read.frames))
      report.count('filled slots', sum(len(f.state) for f in read.frames))
      yield read


def _dialogue(
  dialogue: dict[str, Any],
  name: str,
  services: Mapping[str, Service],
  where: str,
  report: records.ReadReport,
) -> Dialogue:
  speakers, utterances, frames = [], [], []
  for number, turn in enumerate(dialogue['turns']):
    if turn['speaker'] not in _SPEAKERS:
      raise errors.UserError(
        f'{where}, turn {number}: the speaker is {turn["speaker"]!r}, neither '
        f'{" nor ".join(_SPEAKERS)}'
      )
    speakers.append(turn['speaker'].lower())
    utterances.append(_unified(turn['utterance']))
    if turn['speaker'] == 'USER':
      frames.extend(
        _frame(frame, number, services, f'{where}, turn {number}', report)
        for frame in turn['frames']
      )
  return Dialogue(name, speakers, utterances, frames)


def _frame(
  frame: dict[str, Any],
  number: int,
  services: Mapping[str, Service],
  where: str,
  report: records.ReadReport,
) -> Frame:
  name = frame['service']
  if name not in services:
    raise errors.UserError(
      f'{where}: the service {name!r} is not in {SCHEMA_FILE} of its folder; '
      'are both of the same release?'
    )
  if 'state' not in frame:
    raise errors.UserError(
      f'{where}: has no state of {name}; early releases lack the states of the '
      'test split: use a release since July 2020'
    )
  state = {}
  for slot, values in frame['state']['slot_values'].items():
    if slot in services[name].other_slots:
      report.count('filled slots that no intent takes, left out')
      continue
    if slot not in services[name].slots:
      raise errors.UserError(
        f'{where}: the service {name} has no slot {slot!r} in its schema'
      )
    values = [_unified(value) for value in values]
    if not values or not all(values):
      raise errors.UserError(
        f'{where}: the slot {slot} of {name} has an empty value: {values}'
      )
    state[slot] = list(dict.fromkeys(values))
  return Frame(number, name, frame['state']['active_intent'], state)


def _unified(text: str) -> str:
  """Replaces runs of white space, including newlines, by single spaces."""
  return ' '.join(text.split())
