# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading comprehension: all questions on a context, from one encoding of it.

`squad_v1`, `squad_v2` and `radqa` read a context and answer its questions, each
a subtask whose prompt is the question. The target of an unanswerable question
is `unanswerable`. reader.py documents the data and how to get it; the metrics
follow SQuAD 2.0, with all gold answers.

A context longer than the feature length `inputs` is truncated, and counted.
`squad_v1_windows` etc. read long contexts in overlapping windows instead;
windows.py documents how answers are merged. Other windows by gin:
  from pid_jax.tasks import reading
  MIXTURE_OR_TASK_NAME = @reading.register()
  reading.register:
    name = 'radqa_short'
    data = 'radqa'
    window_words = 128
    overlap_words = 32
"""

from __future__ import annotations

from collections.abc import Iterator
import functools
from typing import Any

from pid_jax import errors
from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.tasks import prepared
from pid_jax.tasks import vocabulary
from pid_jax.tasks.reading import reader
from pid_jax.tasks.reading import windows

UNANSWERABLE = 'unanswerable'
DATA = {
  'radqa': reader.Radqa,
  'squad_v1': reader.SquadV1,
  'squad_v2': reader.SquadV2,
}
WINDOW_WORDS = 256  # About 400 tokens of T5's.
OVERLAP_WORDS = 64


def examples(
  record: prepared.Record,
  window_words: int | None = None,
  overlap_words: int = 0,
) -> Iterator[dict[str, Any]]:
  """Yields the decomposable examples of a context, one per window.

  Args:
    record: of a builder in reader.py.
    window_words: words in a window; None yields one example of the context.
    overlap_words: words that a window shares with the next.
  """
  context, questions = record['context'], record['questions']
  answers = [
    list(zip(texts, starts, strict=True))
    for texts, starts in zip(
      questions['answers']['text'], questions['answers']['start'], strict=True
    )
  ]
  for window in windows.split(context, window_words, overlap_words):
    name = record['context_id']
    yield {
      'example_id': window.example_id(name) if window_words else name,
      'inputs': context[window.start : window.end],
      'subtasks': questions['id'],
      'prompts': questions['question'],
      'targets': [_target(golds, window) for golds in answers],
      # For the metrics: all gold answers, also those in other windows.
      'answers': [
        metrics.join_answers(dict.fromkeys(text for text, _ in golds))
        for golds in answers
      ],
    }


@subtasks.register_once
def register(
  name: str,
  *,
  data: str,
  window_words: int | None = None,
  overlap_words: int = 0,
) -> None:
  """Registers the task `name`, with `name`_pie and `name`_joint.

  Args:
    name: of the task.
    data: a key of DATA.
    window_words: split longer contexts into windows of this many words; None
      does not split contexts.
    overlap_words: words that a window shares with the next.

  Raises:
    UserError: the data is unknown, or the windows do not advance.
  """
  if data not in DATA:
    raise errors.unknown('data', data, DATA)
  if window_words is not None and not 0 <= overlap_words < window_words:
    raise errors.UserError(
      f'windows of {window_words} words cannot overlap by {overlap_words}: '
      'lower overlap_words'
    )
  metric = functools.partial(metrics.squad, empty_target=UNANSWERABLE)
  if window_words is not None:
    metric = windows.merged(metric, UNANSWERABLE)
  subtasks.register(
    name,
    source=prepared.PreparedDataSource(
      data,
      DATA[data],
      functools.partial(
        examples, window_words=window_words, overlap_words=overlap_words
      ),
    ),
    vocabulary=vocabulary.default(),
    metric_fns=[metric],
    subtask_features=['answers'],
    empty_target=UNANSWERABLE,
    joint_separator=vocabulary.SEPARATOR,
    newline=vocabulary.NEWLINE,
  )


def _target(answers: list[tuple[str, int]], window: windows.Window) -> str:
  """Returns the first gold answer inside the window."""
  for text, start in answers:
    if window.contains(start, start + len(text)):
      return text
  return UNANSWERABLE


for _data in DATA:
  register(_data, data=_data)
  register(
    f'{_data}_windows',
    data=_data,
    window_words=WINDOW_WORDS,
    overlap_words=OVERLAP_WORDS,
  )
