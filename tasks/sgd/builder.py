# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""tfds builder of SGD: a record is a dialogue with its states and schemas.

A record consists of tables with flat columns, since tfds reads nested lists
about fifty times slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pid_jax.tasks import builder
from pid_jax.tasks import records
from pid_jax.tasks.sgd import reader

_REPOSITORY = (
  'https://github.com/google-research-datasets/dstc8-schema-guided-dialogue'
)
_ARCHIVE = 'dstc8-schema-guided-dialogue-master.zip'
_TRAIN_SCHEMA = f'train/{reader.SCHEMA_FILE}'


def _files(folder: str, number: int) -> tuple[str, ...]:
  return tuple(f'{folder}/dialogues_{i:03}.json' for i in range(1, number + 1))


class SchemaGuided(builder.Builder):
  """Dialogues of SGD, in the distributor's order."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Clone {_REPOSITORY} and pass its folder as --manual_dir; or pass a folder
    with GitHub's zip file of it, {_ARCHIVE}.
  """
  DESCRIPTION = (
    'Dialogues between a user and a virtual assistant over 45 services of 20 '
    'domains, with the state of each service after each user turn and the '
    'schema that describes it. Most services of the validation and test splits '
    'do not occur in training.'
  )
  HOMEPAGE = _REPOSITORY
  LICENCE = 'CC BY-SA 4.0'
  CITATION = """
    @inproceedings{rastogi2020towards,
      title = {Towards Scalable Multi-Domain Conversational Agents: The
        Schema-Guided Dialogue Dataset},
      author = {Rastogi, Abhinav and Zang, Xiaoxue and Sunkara, Srinivas and
        Gupta, Raghav and Khaitan, Pranav},
      booktitle = {Proceedings of AAAI},
      year = {2020},
    }
  """
  FILES = {split: _files(*which) for split, which in reader.SPLITS.items()}
  # The schema of training has the services that occur there.
  NEEDED = {
    split: tuple(
      dict.fromkeys([f'{folder}/{reader.SCHEMA_FILE}', _TRAIN_SCHEMA])
    )
    for split, (folder, _) in reader.SPLITS.items()
  }
  ARCHIVES = (_ARCHIVE,)
  URLS = {_ARCHIVE: f'{_REPOSITORY}/archive/refs/heads/master.zip'}
  PUBLISHED = {
    'train': {'dialogues': 16142, 'turns': 329964, 'services': 26},
    'validation': {'dialogues': 2482, 'turns': 48726, 'services': 17},
    'test': {'dialogues': 4201, 'turns': 84594, 'services': 21},
  }

  def features(self) -> dict[str, Any]:
    texts = tfds.features.Sequence(tfds.features.Text())
    numbers = tfds.features.Sequence(np.int32)
    return {
      'dialogue_id': tfds.features.Text(),
      'speakers': texts,  # By turn.
      'utterances': texts,
      'frames': {'turn': numbers, 'service': texts, 'active_intent': texts},
      # One row for each value of each slot that is filled in a frame. The first
      # value of a slot is the target.
      'state': {'frame': numbers, 'slot': texts, 'value': texts},
      # The services of the frames.
      'services': {
        'service': texts,
        'description': texts,
        'is_seen': numbers,  # In training, 1 or 0.
      },
      # Their slots; possible values are joined by newlines.
      'slots': {
        'service': texts,
        'slot': texts,
        'description': texts,
        'is_categorical': numbers,
        'possible_values': texts,
      },
    }

  def read(
    self, split: str, files: builder.Files, report: records.ReadReport
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    folder, _ = reader.SPLITS[split]
    services = reader.read_schema(
      files[f'{folder}/{reader.SCHEMA_FILE}'], report
    )
    seen = set(reader.read_schema(files[_TRAIN_SCHEMA], report))
    report.count('services', len(services))
    report.count('services unseen in training', len(set(services) - seen))
    report.count('slots', sum(len(s.slots) for s in services.values()))
    for name in self.FILES[split]:
      if name not in files:
        continue
      for dialogue in reader.read_dialogues(files[name], services, report):
        yield (
          dialogue.name,
          {
            'dialogue_id': dialogue.name,
            'speakers': dialogue.speakers,
            'utterances': dialogue.utterances,
            **_tables(dialogue, services, seen),
          },
        )


def _tables(
  dialogue: reader.Dialogue,
  services: dict[str, reader.Service],
  seen: set[str],
) -> dict[str, dict[str, list[Any]]]:
  used = [
    services[n] for n in dict.fromkeys(f.service for f in dialogue.frames)
  ]
  return {
    'frames': _columns(
      ('turn', 'service', 'active_intent'),
      [(f.turn, f.service, f.active_intent) for f in dialogue.frames],
    ),
    'state': _columns(
      ('frame', 'slot', 'value'),
      [
        (number, slot, value)
        for number, frame in enumerate(dialogue.frames)
        for slot, values in frame.state.items()
        for value in values
      ],
    ),
    'services': _columns(
      ('service', 'description', 'is_seen'),
      [(s.name, s.description, int(s.name in seen)) for s in used],
    ),
    'slots': _columns(
      ('service', 'slot', 'description', 'is_categorical', 'possible_values'),
      [
        (
          service.name,
          slot.name,
          slot.description,
          int(slot.is_categorical),
          '\n'.join(slot.possible_values),
        )
        for service in used
        for slot in service.slots.values()
      ],
    ),
  }


def _columns(
  names: Sequence[str], lines: Sequence[tuple[Any, ...]]
) -> dict[str, list[Any]]:
  return {name: [line[i] for line in lines] for i, name in enumerate(names)}
