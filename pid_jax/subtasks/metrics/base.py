# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Common to all metrics: types of their arguments, right or wrong, and means.

`is_right` is the one place that decides whether an answer is right; metrics and
the viewer's report both call it, so that they count the same errors.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import json
from typing import Any

# N whole examples, and [N][U] predictions; None is a missing prediction.
Target = dict[str, Any]
Prediction = Sequence[str | None]
Targets = Sequence[Target]
Predictions = Sequence[Prediction]


def equal(gold: str, prediction: str | None) -> bool:
  """Whether texts are equal, white space at both ends aside; False for None.

  Nothing else is forgiven: case, signs, accents and white space inside count. A
  vocabulary that writes runs of white space as one space (T5's) writes golds
  so, too, see `subtasks.postprocessors`.
  """
  return prediction is not None and gold.strip() == prediction.strip()


def is_right(golds: Iterable[str], prediction: str | None) -> bool:
  """Whether a prediction is `equal` to any of its gold answers."""
  return any(equal(gold, prediction) for gold in golds)


def gold_answers(
  target: Target, empty_target: str | None = 'unanswerable'
) -> list[list[str]]:
  """Returns all gold answers of each subtask, [U] lists.

  Args:
    target: a whole example. `answers` [U] holds the gold answers of subtasks
      that have several, as formatted by `join_answers`, else ''; the target is
      one of them, listed or not. It may be missing.
    empty_target: a target that means "no answer", and is none; or None.
  """
  texts = target['targets']
  joined = target.get('answers') or [''] * len(texts)
  golds = []
  for text, answers in zip(texts, joined, strict=True):
    found = json.loads(answers) if answers else []
    # Where rows are missing, '' stands for an unknown target.
    is_known = text or not answers or empty_target is None
    is_empty = empty_target is not None and equal(empty_target, text)
    if is_known and text not in found and not is_empty:
      found = [text, *found]
    golds.append(found)
  return golds


def join_answers(answers: Sequence[str]) -> str:
  """Formats the gold answers of a subtask for the feature `answers`."""
  return json.dumps(list(answers), ensure_ascii=False)


def join_alternatives(answers: Sequence[str]) -> str:
  """As `join_answers`, but '' for a single one, which is the target."""
  return join_answers(answers) if len(answers) > 1 else ''


def pairs(
  targets: Targets, predictions: Predictions
) -> Iterator[list[tuple[list[str], str | None]]]:
  """Yields for each example its subtasks' gold answers and predictions."""
  for target, prediction in zip(targets, predictions, strict=True):
    yield list(zip(gold_answers(target, None), prediction, strict=True))


def mean(values: Sequence[float]) -> float:
  """The mean; 0 of no values."""
  return float(sum(values) / len(values)) if values else 0.0
