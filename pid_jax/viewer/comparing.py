# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What kind of error a prediction is, if it is one.

Strings are right when they are equal up to runs of white space, as the
strictest metrics compare them. Metrics that forgive more (SQuAD's drop case,
punctuation and articles) may count as right what is a near miss here.
"""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Hashable
from collections.abc import Sequence
import enum

from pid_jax.subtasks import metrics

# Targets that say "nothing here" in the tasks of this library.
EMPTY_WORDS = ('', 'none', 'unanswerable')
NEAR = 0.75  # From this `similarity` on, a wrong value is a near miss.


class Kind(enum.Enum):
  """The outcome of a subtask; the value is its letter in a page's data."""

  RIGHT = 'r'
  MISSED = 'm'  # Gold has a value, the prediction is empty.
  INVENTED = 'i'  # The other way round.
  WRONG = 'w'  # Both have values, and they differ.
  NEAR_MISS = 'n'  # They differ little.
  ABSENT = 'a'  # There is no prediction; never right.
  UNJUDGED = 'u'  # There is no gold.

  @property
  def is_error(self) -> bool:
    return self not in (Kind.RIGHT, Kind.UNJUDGED)


ERRORS = tuple(kind for kind in Kind if kind.is_error)


def compare(
  golds: Sequence[str],
  prediction: str | None,
  empty_words: Collection[str] = EMPTY_WORDS,
) -> Kind:
  """Compares a prediction with all right values of a subtask.

  Args:
    golds: the target first; none if it is not known.
    prediction: None if there is none.
    empty_words: what stands for "nothing here", as written. The value 'None'
      is none of them.

  Returns:
    The kind. With several right values, the prediction is missed or invented
    by the first one, and near by any.
  """
  if not golds:
    return Kind.UNJUDGED
  if prediction is None:
    return Kind.ABSENT
  words = prediction.split()
  if any(words == gold.split() for gold in golds):
    return Kind.RIGHT
  is_missing = ' '.join(words) in empty_words
  has_value = ' '.join(golds[0].split()) not in empty_words
  if is_missing:  # If gold is empty too, it says so in another word.
    return Kind.MISSED if has_value else Kind.NEAR_MISS
  if not has_value:
    return Kind.INVENTED
  near = any(similarity(gold, prediction) >= NEAR for gold in golds)
  return Kind.NEAR_MISS if near else Kind.WRONG


def similarity(a: str, b: str) -> float:
  """How much two strings look alike, from 0 to 1.

  Both are made alike in case, white space, punctuation and articles
  (metrics.normalize_answer). Then it is 1 - d / n, with d the least number of
  characters to insert, delete or replace, and n the length of the longer. But
  strings whose digits differ are not alike at all: '18:30' is not nearly
  '18:35'.

  Args:
    a: a string.
    b: another one.
  """
  a, b = metrics.normalize_answer(a), metrics.normalize_answer(b)
  if _digits(a) != _digits(b):
    return 0.0
  longer = max(len(a), len(b))
  return 1.0 - edit_distance(a, b) / longer if longer else 1.0


def edit_distance(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
  """Levenshtein's distance: insertions, deletions and replacements.

  The columns of the table are bit vectors, which Python's integers are at any
  length: len(b) steps of a few operations each. Source: Myers (1999), "A fast
  bit-vector algorithm for approximate string matching based on dynamic
  programming", for whole strings as in Hyyrö (2003).

  Args:
    a: a sequence; its items are the rows of the table.
    b: another one; its items are the columns.
  """
  if not a:
    return len(b)
  places = {}
  for i, item in enumerate(a):
    places[item] = places.get(item, 0) | 1 << i
  all_rows, last_row = (1 << len(a)) - 1, 1 << len(a) - 1
  # Bit i: the table grows, or falls, by one from row i - 1 to row i.
  grows, falls = all_rows, 0
  distance = len(a)
  for item in b:
    equal = places.get(item, 0)
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
