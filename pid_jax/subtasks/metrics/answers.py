# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of short answers: equality, bags of words, and SQuAD's rules.

Only `squad` forgives case, punctuation and articles.
"""

from __future__ import annotations

import collections
import re
import string

from pid_jax.subtasks.metrics import base
from pid_jax.subtasks.metrics import words

_DROP_PUNCTUATION = str.maketrans('', '', string.punctuation)


def exact_match(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of subtasks whose answer equals one of their gold answers.

  White space at both ends is trimmed; nothing else is forgiven, white space
  inside included (see `base.equal`).

  Args:
    targets: N whole examples, with or without `answers`.
    predictions: [N][U].

  Returns:
    `exact_match`.
  """
  right = [
    base.is_right(golds, text)
    for subtasks in base.pairs(targets, predictions)
    for golds, text in subtasks
  ]
  return {'exact_match': base.mean(right)}


def example_exact_match(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The share of examples all of whose subtasks are right by `exact_match`.

  Of dialogue states it is the joint goal accuracy.

  Args:
    targets: N whole examples, with or without `answers`.
    predictions: [N][U].

  Returns:
    `example_exact_match`.
  """
  right = [
    all(base.is_right(golds, text) for golds, text in subtasks)
    for subtasks in base.pairs(targets, predictions)
  ]
  return {'example_exact_match': base.mean(right)}


def token_f1(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The mean over subtasks of the F1 of bags of tokens.

  Tokens are those of `words.tokens`, for texts in any script: words, numbers
  and signs, in their case. A bag has no order. The gold answer with the highest
  F1 counts. If a side has no tokens, the score is 1 if neither has any, else 0.

  Args:
    targets: N whole examples, with or without `answers`.
    predictions: [N][U].

  Returns:
    `token_f1`.
  """
  scores = [
    0.0
    if text is None
    else max(_f1(words.tokens(gold), words.tokens(text)) for gold in golds)
    for subtasks in base.pairs(targets, predictions)
    for golds, text in subtasks
  ]
  return {'token_f1': base.mean(scores)}


def squad(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = 'unanswerable',
) -> dict[str, float]:
  """Exact match and F1 by the rules of SQuAD 2.0, against all gold answers.

  A question may have several gold answers: `answers` [U] of an example is a
  JSON list of strings for each subtask, empty for an unanswerable question; an
  example without `answers` has its targets as gold answers. Gold answers that
  normalise to nothing are ignored; if none is left, the gold answer is the
  empty string. A prediction of `empty_target` (in any case, with any
  punctuation) counts as the empty string. Answers are compared after
  `normalize_answer`, each with its best gold answer: 1.5 equals 15, + equals -,
  and "A" is no word. F1 is that of their bags of words. Means are over
  all questions, and over those with and without gold answers separately, where
  there are any. The script's thresholds on probabilities are left out.

  Source: the evaluation script of SQuAD 2.0 (Rajpurkar et al., 2018). That of
  1.1 differs only for gold answers that normalise to nothing, such as the
  letter "A": their F1 is always 0 there.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    empty_target: the word for "unanswerable".

  Returns:
    `squad_exact_match` and `squad_f1`; `has_answer_exact_match` and
    `has_answer_f1`; `no_answer_exact_match` (the F1 is equal to it).
  """
  empty, exact, f1, has_answer = normalize_answer(empty_target), [], [], []
  for target, prediction in zip(targets, predictions, strict=True):
    answers = base.gold_answers(target, empty_target)
    for golds, text in zip(answers, prediction, strict=True):
      has_answer.append(bool(golds))
      if text is None:
        exact.append(0.0)
        f1.append(0.0)
        continue
      golds = [gold for gold in map(normalize_answer, golds) if gold] or ['']
      golds = ['' if gold == empty else gold for gold in golds]
      text = normalize_answer(text)
      text = '' if text == empty else text
      exact.append(float(text in golds))
      f1.append(max(_f1(gold.split(), text.split()) for gold in golds))
  select = lambda scores, has: [
    score for score, x in zip(scores, has_answer, strict=True) if x is has
  ]
  figures = {'squad_exact_match': base.mean(exact), 'squad_f1': base.mean(f1)}
  if any(has_answer):
    figures['has_answer_exact_match'] = base.mean(select(exact, True))
    figures['has_answer_f1'] = base.mean(select(f1, True))
  if not all(has_answer):
    figures['no_answer_exact_match'] = base.mean(select(exact, False))
  return figures


def normalize_answer(text: str) -> str:
  """Lower-cases, drops punctuation and articles, unifies white space."""
  text = text.lower().translate(_DROP_PUNCTUATION)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def _f1(gold: list[str], prediction: list[str]) -> float:
  """F1 of bags of words."""
  total = len(gold) + len(prediction)
  common = collections.Counter(gold) & collections.Counter(prediction)
  return 2 * common.total() / total if total else 1.0
