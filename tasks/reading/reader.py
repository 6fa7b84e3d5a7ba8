# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""tfds builders of RadQA and SQuAD, whose files have one format.

  {"data": [{"title", "paragraphs": [{"context", "qas": [
    {"id", "question", "answers": [{"text", "answer_start"}],
     "is_impossible"}]}]}]}

A record is a context with all its questions. As in the evaluation script of
SQuAD 2.0, a question has an answer if `answers` is not empty, regardless of
`is_impossible` (which SQuAD 1.1 lacks). If the text of an answer is not at its
`answer_start`, its nearest occurrence is taken. Such deviations are counted.
Contexts and questions without text are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from typing import Any

from etils import epath
import numpy as np
import tensorflow_datasets as tfds

from pid_jax import errors
from pid_jax.tasks import builder
from pid_jax.tasks import records

NOT_FOUND = -1  # The start of an answer whose text is not in its context.

_SQUAD_URL = 'https://rajpurkar.github.io/SQuAD-explorer/dataset'

Item = tuple[str, dict[str, Any]]  # A key and a record.


class _Reading(builder.Builder, skip_registration=True):
  """Base class of the builders: a record is a context."""

  def features(self) -> Mapping[str, Any]:
    """See base class."""
    text = tfds.features.Text
    return {
      'context_id': text(),
      'title': text(),
      'context': text(),
      'questions': tfds.features.Sequence(
        {
          'id': text(),
          'question': text(),
          # Starts are in characters, or NOT_FOUND.
          'answers': tfds.features.Sequence(
            {'text': text(), 'start': tfds.features.Scalar(np.int32)}
          ),
        }
      ),
    }

  def read(
    self, split: str, files: builder.Files, report: records.ReadReport
  ) -> Iterator[Item]:
    """See base class."""
    (name,) = self.FILES[split]
    path = files[name]
    content = records.read_json(path, dict)
    with report.reading(path, 'the whole file'):
      articles = list(enumerate(content['data'], start=1))
    paragraphs = []
    for i, article in articles:
      with report.reading(path, f'article {i}'):
        title = str(article.get('title', ''))
        for j, paragraph in enumerate(article['paragraphs'], start=1):
          paragraphs.append((f'{i}-{j}', title, paragraph))
    return read_contexts(paragraphs, path, report)


class Radqa(_Reading):
  """RadQA; 6,148 pairs of questions and contexts in all splits together."""

  MANUAL_DOWNLOAD_INSTRUCTIONS = """
  RadQA is for credentialed users: (1) become one at physionet.org, with the
  training required there, (2) sign the data use agreement at
  https://physionet.org/content/radqa/1.0.0/, (3) download train.json, dev.json
  and test.json into a folder that only you can read, and (4) pass it as
  --manual_dir. The agreement forbids sharing the files and the prepared data.
  """
  DESCRIPTION = (
    'Questions that physicians ask of radiology reports, with answers from '
    'their findings and impressions.'
  )
  HOMEPAGE = 'https://physionet.org/content/radqa/1.0.0/'
  LICENCE = 'PhysioNet Credentialed Health Data License'
  CITATION = """@inproceedings{soni2022radqa,
  title={{RadQA}: A Question Answering Dataset to Improve Comprehension of
    Radiology Reports},
  author={Soni, Sarvesh and Gudala, Meghana and Pajouhi, Atieh and
    Roberts, Kirk},
  booktitle={Proceedings of the Thirteenth Language Resources and Evaluation
    Conference},
  pages={6250--6259},
  year={2022}
}"""
  FILES = {
    'train': ('train.json',),
    'validation': ('dev.json',),
    'test': ('test.json',),
  }


class _DownloadError(errors.UserError):
  """No files were given, and those of the distributor cannot be downloaded."""


class _Squad(_Reading, skip_registration=True):
  """Base class of SQuAD's versions.

  Their files are downloaded. If that fails, the data of TFDS's builder `squad`
  is read, if it is prepared: it has the same questions as single examples,
  which are grouped by context.
  """

  TFDS_NAME: str  # Of TFDS's builder.

  HOMEPAGE = 'https://rajpurkar.github.io/SQuAD-explorer/'
  LICENCE = 'CC BY-SA 4.0'

  def _split_generators(
    self, dl_manager: tfds.download.DownloadManager
  ) -> dict[str, Iterator[Item]]:
    try:
      return super()._split_generators(dl_manager)
    except _DownloadError:
      made = tfds.builder(self.TFDS_NAME, data_dir=self._data_dir_root)
      if not made.info.splits:
        raise
    self.info.metadata.clear()
    self.info.metadata.update(folder=str(made.data_dir), splits={})
    return {
      split: self._generate_from_tfds(made, split) for split in made.info.splits
    }

  def _download(
    self, dl_manager: tfds.download.DownloadManager
  ) -> tuple[str, dict[str, records.Path]]:
    try:
      return super()._download(dl_manager)
    except errors.UserError as e:
      raise _DownloadError(str(e)) from e

  def _generate_from_tfds(
    self, made: tfds.core.DatasetBuilder, split: str
  ) -> Iterator[Item]:
    report = records.ReadReport()
    questions = tfds.as_numpy(made.as_dataset(split=split, shuffle_files=False))
    path = epath.Path(made.data_dir) / split
    yield from read_contexts(group_by_context(questions), path, report)
    self._store(split, report)


class SquadV1(_Squad):
  """SQuAD 1.1: every question has an answer."""

  TFDS_NAME = 'squad/v1.1'
  DESCRIPTION = 'Questions on paragraphs of Wikipedia, with spans as answers.'
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
  Download {_SQUAD_URL}/train-v1.1.json and {_SQUAD_URL}/dev-v1.1.json and pass
  their folder as --manual_dir.
  """
  CITATION = """@inproceedings{rajpurkar2016squad,
  title={{SQuAD}: 100,000+ Questions for Machine Comprehension of Text},
  author={Rajpurkar, Pranav and Zhang, Jian and Lopyrev, Konstantin and
    Liang, Percy},
  booktitle={Proceedings of EMNLP},
  year={2016}
}"""
  FILES = {'train': ('train-v1.1.json',), 'validation': ('dev-v1.1.json',)}
  URLS = {name: f'{_SQUAD_URL}/{name}' for (name,) in FILES.values()}
  PUBLISHED = {
    'train': {'questions': 87_599},
    'validation': {'questions': 10_570},
  }


class SquadV2(_Squad):
  """SQuAD 2.0: about a third of the questions have no answer."""

  TFDS_NAME = 'squad/v2.0'
  DESCRIPTION = (
    'Questions on paragraphs of Wikipedia, some of which have no answer there.'
  )
  MANUAL_DOWNLOAD_INSTRUCTIONS = f"""
  Download {_SQUAD_URL}/train-v2.0.json and {_SQUAD_URL}/dev-v2.0.json and pass
  their folder as --manual_dir.
  """
  CITATION = """@inproceedings{rajpurkar2018know,
  title={Know What You Don't Know: Unanswerable Questions for {SQuAD}},
  author={Rajpurkar, Pranav and Jia, Robin and Liang, Percy},
  booktitle={Proceedings of ACL},
  year={2018}
}"""
  FILES = {'train': ('train-v2.0.json',), 'validation': ('dev-v2.0.json',)}
  URLS = {name: f'{_SQUAD_URL}/{name}' for (name,) in FILES.values()}
  PUBLISHED = {
    'train': {'questions': 130_319},
    'validation': {'questions': 11_873},
  }


def read_contexts(
  paragraphs: Iterable[tuple[str, str, Mapping[str, Any]]],
  path: records.Path,
  report: records.ReadReport,
) -> Iterator[Item]:
  """Turns paragraphs into records.

  Args:
    paragraphs: name, title of the article, and paragraph with `context` and
      `qas`.
    path: of their file, for messages.
    report: of the split.

  Yields:
    A key and the record.
  """
  seen = set()
  for name, title, paragraph in paragraphs:
    where = f'paragraph {name}' + (f' ({title})' if title else '')
    with report.reading(path, where):
      context = _text(paragraph, 'context')
      questions = []
      for qa in paragraph['qas']:
        found = _read_question(qa, context, path, where, report)
        if found is not None:
          questions.append(found)
    if not context.strip() or not questions:
      why = 'has no question' if context.strip() else 'has no context'
      report.skip(path, where, why)
      continue
    report.count('contexts')
    for question in questions:
      has_answer = bool(question['answers'])
      report.count('questions')
      report.count('questions without an answer', not has_answer)
      report.count('questions with the id of another', question['id'] in seen)
      seen.add(question['id'])
    yield (
      name,
      {
        'context_id': name,
        'title': title,
        'context': context,
        'questions': questions,
      },
    )


def group_by_context(
  questions: Iterable[Mapping[str, Any]],
) -> list[tuple[str, str, dict[str, Any]]]:
  """Groups the questions of TFDS's `squad` by context.

  Args:
    questions: its examples as NumPy arrays, in any order.

  Returns:
    Paragraphs for `read_contexts`, ordered by their first question.
  """
  qas_of = {}
  for question in questions:
    text = lambda key, q=question: q[key].decode()
    answers = question['answers']
    qa = {
      'id': text('id'),
      'question': text('question'),
      'is_impossible': bool(question.get('is_impossible', False)),
      'answers': [
        {'text': answer.decode(), 'answer_start': int(start)}
        for answer, start in zip(
          answers['text'], answers['answer_start'], strict=True
        )
      ],
    }
    qas_of.setdefault((text('title'), text('context')), []).append(qa)
  return [
    (str(number), title, {'context': context, 'qas': qas})
    for number, ((title, context), qas) in enumerate(qas_of.items(), start=1)
  ]


def _read_question(
  qa: Mapping[str, Any],
  context: str,
  path: records.Path,
  where: str,
  report: records.ReadReport,
) -> dict[str, Any] | None:
  """Returns the record of a question; None if it has no text."""
  name = str(qa['id'])
  where = f'{where}, question {name}'
  with report.reading(path, where):
    question = _text(qa, 'question')
    answers = []
    for answer in qa['answers']:
      text, start = _text(answer, 'text'), answer['answer_start']
      if not text.strip():
        report.count('answers without text')
        continue
      found = _locate(context, text, start)
      report.count('answers moved', found not in (start, NOT_FOUND))
      report.count('answers that are not in the context', found == NOT_FOUND)
      answers.append({'text': text, 'start': found})
    called_impossible = bool(qa.get('is_impossible', False))
  if not question.strip():
    report.skip(path, where, 'has no text')
    return None
  report.count(
    'questions called impossible that have answers',
    called_impossible and bool(answers),
  )
  return {'id': name, 'question': question, 'answers': answers}


def _locate(context: str, text: str, start: int) -> int:
  """Returns the start of an answer in its context, nearest to `start`."""
  if context.startswith(text, start) and start >= 0:
    return start
  before = context.rfind(text, 0, max(0, start) + len(text))
  after = context.find(text, max(0, start))
  starts = [found for found in (before, after) if found >= 0]
  return min(starts, key=lambda found: abs(found - start), default=NOT_FOUND)


def _text(record: Mapping[str, Any], key: str) -> str:
  value = record[key]
  if not isinstance(value, str):
    raise TypeError(f'{key!r} must be a string, not {value!r:.40}')
  return value
