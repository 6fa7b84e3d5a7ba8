# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""tfds builder of TODSum.

Each split is a list of objects with `dialog_id`, `text` (utterances, the user
first), `dst` (domain -> `book` and `semi` with the values of their slots),
`dst_str` (the same as text; ignored) and `summary` (sentences). An empty slot
is '' or 'not mentioned'.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

import tensorflow_datasets as tfds

from pid_jax.tasks import builder
from pid_jax.tasks import records
from pid_jax.tasks.todsum import domains

EMPTY = ('', 'not mentioned', 'none')


class Todsum(builder.Builder):
  """TODSum; a record is a dialogue."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  The repository has no licence, so get the files yourself: run `git clone
  https://github.com/pris-nlp/TODSum` and pass --manual_dir=TODSum.
  """
  DESCRIPTION = (
    'Summaries of the task-oriented dialogues of MultiWOZ, with the state of '
    'each dialogue at its end.'
  )
  HOMEPAGE = 'https://github.com/pris-nlp/TODSum'
  LICENCE = 'None is given by the authors.'
  CITATION = """@article{zhao2021todsum,
  title={{TODSum}: Task-Oriented Dialogue Summarization with State Tracking},
  author={Zhao, Lulu and Zheng, Fujia and He, Keqing and Zeng, Weihao and
    Lei, Yuejie and Jiang, Huixing and Wu, Wei and Xu, Weiran and Guo, Jun and
    Meng, Fanyu},
  journal={arXiv preprint arXiv:2110.12680},
  year={2021}
}"""
  FILES = {
    'train': ('train.json',),
    'validation': ('valid.json',),
    'test': ('test.json',),
  }
  FOLDERS = ('todsum',)
  # The repository's README states 9,906 in total.
  PUBLISHED = {
    'train': {'dialogues': 7908},
    'validation': {'dialogues': 999},
    'test': {'dialogues': 999},
  }

  def features(self) -> Mapping[str, Any]:
    """See base class."""
    text = tfds.features.Text
    return {
      'dialogue_id': text(),
      'utterances': tfds.features.Sequence(text()),
      # The filled slots; `kind` is 'book' or 'semi'.
      'state': tfds.features.Sequence(
        {k: text() for k in ('domain', 'kind', 'slot', 'value')}
      ),
      'sentences': tfds.features.Sequence(text()),
      # The domain of each sentence, by domains.py.
      'sentence_domains': tfds.features.Sequence(text()),
    }

  def read(
    self, split: str, files: builder.Files, report: records.ReadReport
  ) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """See base class."""
    (name,) = self.FILES[split]
    path = files[name]
    for number, dialogue in enumerate(records.read_json(path), start=1):
      with report.reading(path, _name(dialogue, number)):
        record, branches = _record(dialogue)
      if not record['sentences']:
        report.skip(path, _name(dialogue, number), 'no summary')
        continue
      report.count('dialogues')
      report.count('sentences', len(record['sentences']))
      report.count('summaries of two sentences a domain', _is_regular(record))
      for branch in branches:
        report.count(f'pairs told by: {branch}')
      yield record['dialogue_id'], record


def _name(dialogue: Any, number: int) -> str:
  name = dialogue.get('dialog_id') if isinstance(dialogue, dict) else None
  return f'dialogue {name}' if name else f'dialogue number {number}'


def _record(dialogue: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
  """Returns the record of a dialogue, and the rules that pairing applied."""
  utterances = [_clean(t) for t in dialogue['text']]
  if not any(utterances):
    raise ValueError('there is no utterance in "text"')
  state = [
    {'domain': domain, 'kind': kind, 'slot': slot, 'value': _clean(value)}
    for domain, kinds in dialogue['dst'].items()
    for kind in ('book', 'semi')
    for slot, value in kinds[kind].items()
    if _clean(value).lower() not in EMPTY
  ]
  unknown = {s['domain'] for s in state} - set(domains.DOMAINS)
  if unknown:
    raise ValueError(f'unknown domains {sorted(unknown)}')
  sentences = [_clean(s) for s in dialogue['summary'] if _clean(s)]
  filled = list(dict.fromkeys(s['domain'] for s in state))
  sentence_domains, branches = domains.assign(sentences, filled)
  record = {
    'dialogue_id': dialogue['dialog_id'],
    'utterances': utterances,
    'state': state,
    'sentences': sentences,
    'sentence_domains': sentence_domains,
  }
  return record, branches


def _is_regular(record: dict[str, Any]) -> bool:
  """Whether the summary has two sentences on each domain of the state."""
  filled = {s['domain'] for s in record['state']}
  return sorted(record['sentence_domains']) == sorted([*filled, *filled])


def _clean(text: str) -> str:
  """Unifies white space; utterances have tabs and newlines."""
  return ' '.join(text.split())
