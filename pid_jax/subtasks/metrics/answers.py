# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of short answers, by the rules of SQuAD."""

from __future__ import annotations

import collections
import re
import string

from pid_jax.subtasks.metrics import base

_DROP_PUNCTUATION = str.maketrans('', '', string.punctuation)


def exact_match(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of subtasks whose answer is right by SQuAD's rule.

  Both strings are lower-cased, punctuation and the articles a, an and the are
  taken out, white space is unified; see `normalize_answer`. Source: the
  evaluation script of SQuAD 1.1 (Rajpurkar et al., 2016).

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `exact_match`.
  """
  right = [
    got is not None and normalize_answer(want) == normalize_answer(got)
    for want, got in base.pairs(targets, predictions)
  ]
  return {'exact_match': base.mean(right)}


def token_f1(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The mean over subtasks of the F1 of the bag of words, by SQuAD's rule.

  Words are those of `normalize_answer`. If either side has none, the score is 1
  if neither has, else 0. Source: the evaluation script of SQuAD 2.0 (Rajpurkar
  et al., 2018).

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `token_f1`.
  """
  scores = []
  for want, got in base.pairs(targets, predictions):
    if got is None:
      scores.append(0.0)
      continue
    want_words = normalize_answer(want).split()
    got_words = normalize_answer(got).split()
    total = len(want_words) + len(got_words)
    common = collections.Counter(want_words) & collections.Counter(got_words)
    scores.append(2 * common.total() / total if total else 1.0)
  return {'token_f1': base.mean(scores)}


def normalize_answer(text: str) -> str:
  """Lower-cases, drops punctuation and articles, unifies white space."""
  text = text.lower().translate(_DROP_PUNCTUATION)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())
