# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The official metrics of the Schema-Guided Dialogue data set.

Its scorer gives partial credit for an open value that is nearly right, so its
joint goal accuracy is a mean of products and not a share of turns. It cannot be
compared with that of MultiWOZ.
"""

from __future__ import annotations

import difflib
import re

from pid_jax.subtasks import slot_strings
from pid_jax.subtasks.metrics import base

# The official scorer drops these characters on conversion to ASCII. Those above
# are not in its table, and stay.
_LATIN_1 = dict.fromkeys(range(128, 256))


def sgd_goal_accuracy(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = slot_strings.EMPTY,
) -> dict[str, float]:
  """Joint and average goal accuracy by the fuzzy rule of SGD.

  An example is a frame: a service in a user turn. A slot scores
    1 or 0         if it should be empty: whether it is predicted to be
    0              if it should be filled and is predicted to be empty
    1 or 0         if it is categorical: whether the value is equal
    `similarity`   otherwise, the highest to one of its gold values
  The joint goal accuracy of a frame is the product of the scores of its slots,
  its average goal accuracy the mean over those that should be filled; a frame
  without any such slot has none. Both are averaged over frames.

  Source: the evaluation of the eighth Dialog System Technology Challenge, track
  4 (Rastogi et al., 2020; schema_guided_dst/metrics.py and evaluate.py of
  google-research), whose figures these equal. That also scores slots that no
  intent of a service uses; they are never filled, and do not change the figures
  as long as a model leaves them empty.

  Args:
    targets: N whole examples, with
      answers         str [U], as documented in states.py
      is_categorical  int [U], 1 or 0
      is_seen         int, 1 if the service occurs in training, else 0
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `sgd_joint_goal_accuracy` and `sgd_average_goal_accuracy`, and the same of
    services that occur in training and of those that do not,
    '..._accuracy/seen' and '/unseen', where there are any.
  """
  joint, average = {}, {}
  for target, prediction in zip(targets, predictions, strict=True):
    kinds = ['']
    if 'is_seen' in target:
      kinds.append('/seen' if target['is_seen'] else '/unseen')
    scores = _scores(target, prediction, empty_target)
    product = 1.0
    for score, _ in scores:
      product *= score
    filled = [score for score, is_filled in scores if is_filled]
    for kind in kinds:
      joint.setdefault(kind, []).append(product)
      if filled:
        average.setdefault(kind, []).append(base.mean(filled))
  return {
    **{f'sgd_joint_goal_accuracy{k}': base.mean(v) for k, v in joint.items()},
    **{
      f'sgd_average_goal_accuracy{k}': base.mean(v) for k, v in average.items()
    },
  }


def similarity(left: str, right: str) -> float:
  """The similarity of strings regardless of word order, 0 to 1.

  Equals token_sort_ratio / 100 of the package fuzzywuzzy without
  python-Levenshtein, as the official scorer's requirements install it: then it
  computes with Python's difflib, else its figures differ. Like the original,
  this is not quite symmetric, and rounded to two decimals.

  Args:
    left: the gold value.
    right: the predicted value.
  """
  left, right = _sorted_words(left), _sorted_words(right)
  if left == right:
    return 1.0
  return round(100 * difflib.SequenceMatcher(None, left, right).ratio()) / 100


def _sorted_words(text: str) -> str:
  words = re.sub(r'\W', ' ', text.translate(_LATIN_1)).lower().split()
  return ' '.join(sorted(words))


def _scores(
  target: base.Target, prediction: base.Prediction, empty_target: str
) -> list[tuple[float, bool]]:
  """Returns the score of each slot, and whether it should be filled."""
  scores = []
  for gold, golds, is_categorical, text in zip(
    target['targets'],
    base.gold_answers(target, None),
    target.get('is_categorical') or [0] * len(prediction),
    prediction,
    strict=True,
  ):
    is_filled = not base.equal(empty_target, gold)
    if text is None:
      score = 0.0
    elif not is_filled or is_categorical or base.equal(empty_target, text):
      score = float(base.equal(gold, text))
    else:
      score = max(similarity(value, text) for value in golds)
    scores.append((score, is_filled))
  return scores
