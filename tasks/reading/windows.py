# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Splits long contexts into overlapping windows, and merges their predictions.

A context with more words than a window is split into windows, each an example
with all questions, so that nothing is truncated. Metrics see whole contexts.
For each question, the answers of all windows are merged by this rule:
  1. Answers "unanswerable" or '' are ignored.
  2. Of the others, the most frequent one wins, normalised as in SQuAD's
     metrics; of equally frequent ones, that of the earliest window. (Answers
     in the overlap count twice.)
  3. If no answer is left, the question is unanswerable; except if the
     prediction of a window is missing, which might have been the answer. Then
     the prediction is missing, and so wrong.
The rule needs only strings, so it applies to all layouts and models. No
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import re
from typing import Any

from pid_jax.subtasks import metrics

MetricFn = Callable[[metrics.Targets, metrics.Predictions], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Window:
  """A part of a context.

  Attributes:
    index: from 0.
    count: number of windows of the context.
    start: index of its first character.
    end: index after its last character.
  """

  index: int
  count: int
  start: int
  end: int

  def contains(self, start: int, end: int) -> bool:
    """Whether the window contains a whole span of the context."""
    return self.start <= start and end <= self.end

  def example_id(self, context_id: str) -> str:
    """Returns the id of the window's example."""
    return f'{context_id}#{self.index + 1}/{self.count}'


def split(context: str, words: int | None, overlap: int) -> list[Window]:
  """Splits a context into windows.

  Args:
    context: of any length.
    words: W, per window; the last one may have fewer. None returns one window.
    overlap: words that a window shares with the next; less than W. Some window
      contains each answer of at most `overlap` + 1 words.

  Raises:
    ValueError: windows would not advance.
  """
  if words is None:
    return [Window(0, 1, 0, len(context))]
  if not 0 <= overlap < words:
    raise ValueError(
      f'windows of {words} words cannot overlap by {overlap} words'
    )
  spans = [match.span() for match in re.finditer(r'\S+', context)]
  if len(spans) <= words:
    return [Window(0, 1, 0, len(context))]
  starts = range(0, len(spans) - overlap, words - overlap)
  return [
    Window(i, len(starts), window[0][0], window[-1][1])
    for i, window in enumerate(spans[k : k + words] for k in starts)
  ]


def merged(metric_fn: MetricFn, empty_target: str) -> MetricFn:
  """Returns a metric of windows that applies `metric_fn` to whole contexts.

  Args:
    metric_fn: of examples with `subtasks` and `answers` [U].
    empty_target: the word for "unanswerable".

  Returns:
    A metric with the figures of `metric_fn`, and `missing_windows`, the number
    of windows without an example; these count as missing predictions.
  """

  def metric(
    targets: metrics.Targets, predictions: metrics.Predictions
  ) -> dict[str, Any]:
    windows_of = {}
    for target, prediction in zip(targets, predictions, strict=True):
      context_id, index, count = _parse(target['example_id'])
      windows = windows_of.setdefault(context_id, [None] * count)
      windows[index] = target, prediction
    contexts = [_merge_context(*x, empty_target) for x in windows_of.items()]
    figures = metric_fn([t for t, _ in contexts], [p for _, p in contexts])
    missing = sum(windows.count(None) for windows in windows_of.values())
    return {**figures, 'missing_windows': missing}

  return metric


def merge(answers: Sequence[str | None], empty_target: str) -> str | None:
  """Merges the answers of all windows, in order, by the rule of the module."""
  empty = {'', metrics.normalize_answer(empty_target)}
  votes = {}
  for answer in answers:
    key = None if answer is None else metrics.normalize_answer(answer)
    if key is not None and key not in empty:
      votes.setdefault(key, []).append(answer)
  if votes:
    return max(votes.values(), key=len)[0]  # Ties: the first.
  return None if None in answers else empty_target


def _merge_context(
  context_id: str,
  windows: Sequence[tuple[metrics.Target, metrics.Prediction] | None],
  empty_target: str,
) -> tuple[metrics.Target, list[str | None]]:
  """Returns target and prediction of a context."""
  targets = [window[0] for window in windows if window is not None]
  size = len(targets[0]['targets'])
  # Windows with missing rows lack features of some questions.
  known = lambda key, u: next(
    (x for t in targets if (x := (t.get(key) or [''] * size)[u])), ''
  )
  target = {
    'example_id': context_id,
    'subtasks': [known('subtasks', u) for u in range(size)],
    'answers': [known('answers', u) for u in range(size)],
    'targets': [known('targets', u) for u in range(size)],
  }
  golds = metrics.gold_answers(target, empty_target)
  target['targets'] = [
    values[0] if values else empty_target for values in golds
  ]
  prediction = [
    merge([w and w[1][u] for w in windows], empty_target) for u in range(size)
  ]
  return target, prediction


def _parse(example_id: str) -> tuple[str, int, int]:
  context_id, _, position = example_id.rpartition('#')
  number, _, count = position.partition('/')
  return context_id, int(number) - 1, int(count)
