# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Classifies predictions by kind of error.

`metrics.is_right` decides what is right, as for `exact_match` and the metrics
of slots, so that a report counts the errors that `evaluate` does. More lenient
metrics (SQuAD's ignore case, punctuation and articles) may count a near miss as
right.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Sequence
import enum

from pid_jax.subtasks import metrics

# Targets that mean "nothing here" in the tasks of this library.
EMPTY_WORDS = ('', 'none', 'unanswerable')
NEAR = 0.75  # The least `similarity` of a near miss.


class Kind(enum.Enum):
  """The outcome of a subtask; the value is its letter in a page's data."""

  RIGHT = 'r'
  MISSED = 'm'  # The gold value is not empty, the prediction is.
  INVENTED = 'i'  # The prediction is not empty, the gold value is.
  WRONG = 'w'  # Both are not empty, and differ.
  NEAR_MISS = 'n'  # Both are not empty, and differ little.
  ABSENT = 'a'  # There is no prediction.
  UNJUDGED = 'u'  # There is no gold value.

  @property
  def is_error(self) -> bool:
    return self not in (Kind.RIGHT, Kind.UNJUDGED)


ERRORS = tuple(kind for kind in Kind if kind.is_error)


def compare(
  golds: Sequence[str],
  prediction: str | None,
  empty_words: Collection[str] = EMPTY_WORDS,
) -> Kind:
  """Compares a prediction with all gold values of a subtask.

  Args:
    golds: the target first; [] if it is unknown.
    prediction: None if it is missing.
    empty_words: that mean "nothing here"; case matters, so the value 'None' is
      not one of them.

  Returns:
    The kind of outcome. With several gold values, the first one decides between
    missed and invented, and a near miss may be near any of them.
  """
  if not golds:
    return Kind.UNJUDGED
  if prediction is None:
    return Kind.ABSENT
  if metrics.is_right(golds, prediction):
    return Kind.RIGHT
  is_empty = ' '.join(prediction.split()) in empty_words
  has_value = ' '.join(golds[0].split()) not in empty_words
  if is_empty:  # An empty gold value is another empty word.
    return Kind.MISSED if has_value else Kind.NEAR_MISS
  if not has_value:
    return Kind.INVENTED
  near = any(similarity(gold, prediction) >= NEAR for gold in golds)
  return Kind.NEAR_MISS if near else Kind.WRONG


def similarity(a: str, b: str) -> float:
  """Returns the similarity of two strings, from 0 to 1.

  Both are normalised by metrics.normalize_answer (case, white space,
  punctuation and articles). The similarity is 1 - d / n, with their edit
  distance d and the length n of the longer. It is 0 if their digits differ:
  '18:30' and '18:35' are not similar.
  """
  a, b = metrics.normalize_answer(a), metrics.normalize_answer(b)
  if _digits(a) != _digits(b):
    return 0.0
  longer = max(len(a), len(b))
  return 1.0 - edit_distance(a, b) / longer if longer else 1.0


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
  """Returns the Levenshtein distance: insertions, deletions, replacements.

  Columns of the dynamic programming table are bit vectors, for which Python's
  integers serve at any length, so there are len(b) steps of a few operations.
  Source: Myers (1999), "A fast bit-vector algorithm for approximate string
  matching based on dynamic programming"; for whole strings, Hyyrö (2003).

  Args:
    a: its items are the rows of the table.
    b: its items are the columns.
  """
  if not a:
    return len(b)
  positions = {}
  for i, item in enumerate(a):
    positions[item] = positions.get(item, 0) | 1 << i
  all_rows, last_row = (1 << len(a)) - 1, 1 << len(a) - 1
  # Bit i: the table increases, or decreases, by 1 from row i - 1 to row i.
  grows, falls = all_rows, 0
  distance = len(a)
  for item in b:
    equal = positions.get(item, 0)
    flat = (((equal & grows) + grows) ^ grows) | equal | falls
    # The same from one column to the next.
    right_grows = falls | ~(flat | grows) & all_rows
    right_falls = grows & flat
    distance += bool(right_grows & last_row) - bool(right_falls & last_row)
    right_grows = right_grows << 1 | 1  # The first row is 0, 1, 2, ...
    right_falls <<= 1
    grows = (right_falls | ~(flat | right_grows)) & all_rows
    falls = right_grows & flat & all_rows
  return distance


def _digits(text: str) -> str:
  return ''.join(filter(str.isdigit, text))
