# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Long contexts in overlapping windows, and their predictions merged again.

A context of more words than a window is read in several, each an example with
all questions, so that no part of it is cut. Metrics see whole contexts: for
each question, one answer is made of those of all windows, by this rule:
  1. Windows that say "unanswerable" (or nothing) do not count.
  2. Of the others, the answer that most windows give is taken, compared as
     SQuAD compares answers; among equals, that of the earliest window. (What
     stands in the overlap is answered twice.)
  3. If no window answers, the question is unanswerable; unless a window's
     prediction is missing, which may have been the one: then there is none, and
     that is wrong.
The rule needs strings alone, so that all layouts and any model can be scored.
No TensorFlow.
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
    count: how many windows the context has.
    start: of its first character.
    end: behind its last character.
  """

  index: int
  count: int
  start: int
  end: int

  def holds(self, start: int, end: int) -> bool:
    """Whether a span of the context lies in the window, from end to end."""
    return self.start <= start and end <= self.end

  def example_id(self, context_id: str) -> str:
    """Returns the id of the window's example."""
    return f'{context_id}#{self.index + 1}/{self.count}'


def split(context: str, words: int | None, overlap: int) -> list[Window]:
  """Splits a context into windows.

  Args:
    context: of any length.
    words: W, in each window but the last one, which may have fewer; None puts
      the whole context in one.
    overlap: words that a window shares with the next; fewer than W. An answer
      of at most one word more lies whole in some window.

  Raises:
    ValueError: windows would not advance.
  """
  if words is None:
    return [Window(0, 1, 0, len(context))]
  if not 0 <= overlap < words:
    raise ValueError(
      f'windows of {words} words cannot share {overlap}: it must be fewer'
    )
  spans = [match.span() for match in re.finditer(r'\S+', context)]
  if len(spans) <= words:
    return [Window(0, 1, 0, len(context))]
  starts = range(0, len(spans) - overlap, words - overlap)
  return [
    Window(i, len(starts), own[0][0], own[-1][1])
    for i, own in enumerate(spans[k : k + words] for k in starts)
  ]


def merged(metric_fn: MetricFn, empty_target: str) -> MetricFn:
  """Returns a metric of windows: `metric_fn` of the whole contexts.

  Args:
    metric_fn: of examples with `subtasks` and `answers` [U].
    empty_target: the word for "no answer in this text".

  Returns:
    A metric whose figures are those of `metric_fn` and `missing_windows`, of
    which there is no example at all; they count as missing predictions.
  """

  def metric(
    targets: metrics.Targets, predictions: metrics.Predictions
  ) -> dict[str, Any]:
    windows = {}
    for target, prediction in zip(targets, predictions, strict=True):
      context_id, index, count = _parse(target['example_id'])
      own = windows.setdefault(context_id, [None] * count)
      own[index] = target, prediction
    wholes = [_whole(name, own, empty_target) for name, own in windows.items()]
    figures = metric_fn([t for t, _ in wholes], [p for _, p in wholes])
    missing = sum(own.count(None) for own in windows.values())
    return {**figures, 'missing_windows': missing}

  return metric


def merge(answers: Sequence[str | None], empty_target: str) -> str | None:
  """Makes one answer of those of all windows, in order; see the rule above."""
  empty = {'', metrics.normalize_answer(empty_target)}
  votes = {}
  for answer in answers:
    key = None if answer is None else metrics.normalize_answer(answer)
    if key is not None and key not in empty:
      votes.setdefault(key, []).append(answer)
  if votes:
    return max(votes.values(), key=len)[0]  # The first one of the longest.
  return None if None in answers else empty_target


def _whole(
  context_id: str,
  windows: Sequence[tuple[metrics.Target, metrics.Prediction] | None],
  empty_target: str,
) -> tuple[metrics.Target, list[str | None]]:
  """Target and prediction of a context."""
  there = [window for window in windows if window is not None]
  size = len(there[0][1])
  # Of a window that lost rows, some questions are not known.
  known = lambda key, u: next(
    (x for t, _ in there if (x := (t.get(key) or [''] * size)[u])), ''
  )
  target = {
    'example_id': context_id,
    'subtasks': [known('subtasks', u) for u in range(size)],
    'answers': [known('answers', u) for u in range(size)],
    'targets': [known('targets', u) for u in range(size)],
  }
  golds = metrics.gold_answers(target, empty_target)
  target['targets'] = [own[0] if own else empty_target for own in golds]
  prediction = [
    merge([w and w[1][u] for w in windows], empty_target) for u in range(size)
  ]
  return target, prediction


def _parse(example_id: str) -> tuple[str, int, int]:
  context_id, _, place = example_id.rpartition('#')
  number, _, count = place.partition('/')
  return context_id, int(number) - 1, int(count)
