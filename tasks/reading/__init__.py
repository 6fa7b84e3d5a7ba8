# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading comprehension: all questions on a text, from one encoding of it.

`squad_v1`, `squad_v2` and `radqa` read a context and answer its questions, each
a subtask whose prompt is the question. Where the context has no answer, the
target is `unanswerable`. reader.py documents the data and how to get it; the
metrics follow SQuAD 2.0, and take any gold answer.

A context longer than the feature length `inputs` is cut there, and counted.
`squad_v1_windows` and so on read long contexts in overlapping windows instead;
windows.py says how answers are merged. Other windows by gin:
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
WINDOW_WORDS = 256  # Some 400 of T5's tokens.
OVERLAP_WORDS = 64


def examples(
  record: prepared.Record,
  window_words: int | None = None,
  overlap_words: int = 0,
) -> Iterator[dict[str, Any]]:
  """Yields the decomposable examples of a context: one a window.

  Args:
    record: of one of reader's builders.
    window_words: words in a window; None: the whole context is the one example.
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
      'targets': [_target(own, window) for own in answers],
      # For the metrics: all gold answers, those in other windows too.
      'answers': [
        metrics.join_answers(dict.fromkeys(text for text, _ in own))
        for own in answers
      ],
    }


def register(
  name: str,
  *,
  data: str,
  window_words: int | None = None,
  overlap_words: int = 0,
) -> str:
  """Registers the task `name`, with `name`_pie and `name`_joint.

  May be called again with the same arguments, since gin calls it wherever the
  name is used.

  Args:
    name: of the task.
    data: a key of DATA.
    window_words: read contexts of more words than this in windows of so many;
      None reads each whole.
    overlap_words: words that a window shares with the next.

  Returns:
    The name.

  Raises:
    UserError: unknown data, windows that do not advance, or a name that was
      registered with other arguments.
  """
  if data not in DATA:
    raise errors.unknown('data', data, DATA)
  if window_words is not None and not 0 <= overlap_words < window_words:
    raise errors.UserError(
      f'windows of {window_words} words cannot share {overlap_words}: lower '
      'overlap_words'
    )
  if not subtasks.is_new(name, __name__, data, window_words, overlap_words):
    return name
  metric = functools.partial(metrics.squad, empty_target=UNANSWERABLE)
  if window_words is not None:
    metric = windows.merged(metric, UNANSWERABLE)
  subtasks.register(
    name,
    source=prepared.source(
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
  return name


def _target(answers: list[tuple[str, int]], window: windows.Window) -> str:
  """The first gold answer that lies in the window."""
  for text, start in answers:
    if window.holds(start, start + len(text)):
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
