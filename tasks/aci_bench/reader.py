# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""tfds builder of ACI-Bench.

Each split is a CSV file with the columns `dataset` (how the visit was recorded:
aci, virtassist or virtscribe), `encounter_id`, `dialogue` and `note`, the last
two quoted, with several lines. A line of a dialogue begins with its speaker,
such as [doctor]; speakers are sometimes swapped in the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from pid_jax.tasks import builder
from pid_jax.tasks import records

_COLUMNS = ('dataset', 'encounter_id', 'dialogue', 'note')
_FILES = {
  'train': 'train.csv',
  'validation': 'valid.csv',
  'test1': 'clinicalnlp_taskB_test1.csv',
  'test2': 'clinicalnlp_taskC_test2.csv',
  'test3': 'clef_taskC_test3.csv',
}
# A fixed commit of the authors' repository.
_URL = (
  'https://raw.githubusercontent.com/wyim/aci-bench/'
  'b909b2bb9cf1d19de08df15cddde7bd0179665e4/data/challenge_data'
)


class AciBench(builder.Builder):
  """ACI-Bench; a record is a visit."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  Without a network, run `git clone https://github.com/wyim/aci-bench` elsewhere
  and pass --manual_dir=aci-bench.
  """
  DESCRIPTION = (
    "Enacted conversations of doctors and patients, with the doctor's note of "
    'each visit.'
  )
  HOMEPAGE = 'https://github.com/wyim/aci-bench'
  LICENCE = 'CC BY 4.0'
  CITATION = """@article{yim2023acibench,
  title={{ACI-BENCH}: a Novel Ambient Clinical Intelligence Dataset for
    Benchmarking Automatic Visit Note Generation},
  author={Yim, Wen-wai and Fu, Yujuan and Ben Abacha, Asma and Snider, Neal and
    Lin, Thomas and Yetisgen, Meliha},
  journal={Scientific Data},
  volume={10},
  year={2023}
}"""
  FILES = {split: (name,) for split, name in _FILES.items()}
  FOLDERS = ('data/challenge_data', 'challenge_data')
  URLS = {name: f'{_URL}/{name}' for name in _FILES.values()}
  PUBLISHED = {
    'train': {'notes': 67},
    'validation': {'notes': 20},
    'test1': {'notes': 40},
    'test2': {'notes': 40},
    'test3': {'notes': 40},
  }

  def features(self) -> Mapping[str, Any]:
    """See base class."""
    return {name: tfds.features.Text() for name in _COLUMNS}

  def read(
    self, split: str, files: builder.Files, report: records.ReadReport
  ) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """See base class."""
    (name,) = self.FILES[split]
    rows = records.read_csv(files[name], _COLUMNS)
    for number, row in enumerate(rows, start=1):
      encounter = f'encounter {row["encounter_id"] or f"in row {number}"}'
      with report.reading(files[name], encounter):
        record = _record(row)
      report.count('notes')
      yield f'{record["encounter_id"]}-{record["dataset"]}', record


def _record(row: Mapping[str, str]) -> dict[str, str]:
  record = {}
  for name in _COLUMNS:
    record[name] = '\n'.join(row[name].splitlines())
    if not record[name].strip():
      raise ValueError(f'the field {name!r} is empty')
  return record
