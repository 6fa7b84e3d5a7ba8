# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""tfds builder of MultiWOZ 2.4: a record is a dialogue with its states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pid_jax.tasks import builder
from pid_jax.tasks import records
from pid_jax.tasks.multiwoz import reader

_ARCHIVE = 'MULTIWOZ2.4.zip'


class Multiwoz24(builder.Builder):
  """Dialogues of MultiWOZ 2.4, in the distributor's order."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
    Clone https://github.com/smartyfh/MultiWOZ2.4 and pass its folder as
    --manual_dir: data/{_ARCHIVE} is read without unpacking. The unpacked folder
    MULTIWOZ2.4 works, too.
  """
  DESCRIPTION = (
    'Written dialogues between a tourist and a clerk, over hotels, trains, '
    'attractions, restaurants and taxis, with the state after each user turn. '
    'Release 2.4 corrects the annotations of the validation and test splits of '
    'release 2.1.'
  )
  HOMEPAGE = 'https://github.com/smartyfh/MultiWOZ2.4'
  LICENCE = 'MIT'
  CITATION = """
    @inproceedings{ye-etal-2022-multiwoz,
      title = {{MultiWOZ} 2.4: A Multi-Domain Task-Oriented Dialogue Dataset
        with Essential Annotation Corrections to Improve State Tracking
        Evaluation},
      author = {Ye, Fanghua and Manotumruksa, Jarana and Yilmaz, Emine},
      booktitle = {Proceedings of SIGDIAL},
      year = {2022},
    }
  """
  FILES = dict.fromkeys(('train', 'validation', 'test'), (reader.DATA_FILE,))
  # Dialogues that no list contains are for training.
  NEEDED = dict.fromkeys(FILES, tuple(reader.LIST_FILES.values()))
  FOLDERS = ('MULTIWOZ2.4', 'data', 'data/MULTIWOZ2.4')
  ARCHIVES = (_ARCHIVE,)
  URLS = {
    _ARCHIVE: 'https://raw.githubusercontent.com/smartyfh/MultiWOZ2.4/main/'
    f'data/{_ARCHIVE}'
  }
  PUBLISHED = {
    'train': {'dialogues in the files': 8438},
    'validation': {'dialogues in the files': 1000},
    'test': {'dialogues in the files': 1000, 'dialogues': 999, 'turns': 7368},
  }

  def features(self) -> dict[str, Any]:
    texts = tfds.features.Sequence(tfds.features.Text())
    return {
      'dialogue_id': tfds.features.Text(),
      'user': texts,  # By turn.
      'system': texts,
      # One entry for each value of each slot that is filled after the user's
      # turn. The first value of a slot is the target. (tfds reads nested lists
      # fifty times slower.)
      'state': {
        'turn': tfds.features.Sequence(np.int32),
        'slot': texts,
        'value': texts,
      },
    }

  def read(
    self, split: str, files: builder.Files, report: records.ReadReport
  ) -> Iterator[tuple[str, dict[str, Any]]]:
    dialogues = reader.read(
      split,
      files[reader.DATA_FILE],
      {k: files[name] for k, name in reader.LIST_FILES.items()},
      report,
    )
    for name, turns in dialogues:
      lines = [
        (number, slot, value)
        for number, turn in enumerate(turns)
        for slot, values in turn.state.items()
        for value in values
      ]
      record = {
        'dialogue_id': name,
        'user': [turn.user for turn in turns],
        'system': [turn.system for turn in turns],
        'state': {
          key: [line[column] for line in lines]
          for column, key in enumerate(('turn', 'slot', 'value'))
        },
      }
      yield name, record
