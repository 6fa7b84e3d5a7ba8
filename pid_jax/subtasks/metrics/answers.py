# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of short answers, by the rules of SQuAD."""

from __future__ import annotations

import collections
from collections.abc import Sequence
import json
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
  scores = [
    0.0 if got is None else _f1(normalize_answer(want), normalize_answer(got))
    for want, got in base.pairs(targets, predictions)
  ]
  return {'token_f1': base.mean(scores)}


def squad(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  empty_target: str = 'unanswerable',
) -> dict[str, float]:
  """Exact match and F1 by the rules of SQuAD 2.0, of all answers the best.

  A question may have several gold answers: `answers` [U] of an example
  holds them, a JSON list of strings for each subtask, empty if there is no
  answer; where an example has none of these, its target is the one answer. Gold
  answers of articles and punctuation alone are set aside, and without any the
  right answer is the empty string. So is a prediction that says `empty_target`
  (in any case, with any punctuation). Answers are compared as in `exact_match`
  and `token_f1`; the gold answer that fits best counts, for each of both by
  itself. Means are over all questions, and over those with and without gold
  answers apart, if there are such. Without thresholds, which the script offers
  to systems that give probabilities. Source: the evaluation script of SQuAD 2.0
  (Rajpurkar et al., 2018). That of 1.1 differs in gold answers without words
  alone: "A", as a mark, has F1 0 there, whatever is predicted.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    empty_target: the word for "no answer in this text".

  Returns:
    `squad_exact_match` and `squad_f1`; `has_answer_exact_match` and
    `has_answer_f1`; `no_answer_exact_match` (F1 is the same there).
  """
  exact, f1, has_answer = [], [], []
  for target, prediction in zip(targets, predictions, strict=True):
    answers = gold_answers(target, empty_target)
    for golds, got in zip(answers, prediction, strict=True):
      has_answer.append(bool(golds))
      if got is None:
        exact.append(0.0)
        f1.append(0.0)
        continue
      golds = [gold for gold in map(normalize_answer, golds) if gold] or ['']
      got = normalize_answer(got)
      got = '' if got == normalize_answer(empty_target) else got
      exact.append(float(got in golds))
      f1.append(max(_f1(gold, got) for gold in golds))
  chosen = lambda scores, has: [
    score for score, x in zip(scores, has_answer, strict=True) if x is has
  ]
  figures = {'squad_exact_match': base.mean(exact), 'squad_f1': base.mean(f1)}
  if any(has_answer):
    figures['has_answer_exact_match'] = base.mean(chosen(exact, True))
    figures['has_answer_f1'] = base.mean(chosen(f1, True))
  if not all(has_answer):
    figures['no_answer_exact_match'] = base.mean(chosen(exact, False))
  return figures


def gold_answers(
  target: base.Target, empty_target: str = 'unanswerable'
) -> list[list[str]]:
  """Returns the gold answers of each subtask, [U] lists; see `squad`."""
  texts = target['targets']
  held = target.get('answers') or [''] * len(texts)
  return [
    json.loads(answers)
    if answers
    else [text for text in [text] if text != empty_target]
    for text, answers in zip(texts, held, strict=True)
  ]


def join_answers(answers: Sequence[str]) -> str:
  """Writes the gold answers of a subtask as `answers` has them."""
  return json.dumps(list(answers), ensure_ascii=False)


def normalize_answer(text: str) -> str:
  """Lower-cases, drops punctuation and articles, unifies white space."""
  text = text.lower().translate(_DROP_PUNCTUATION)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def _f1(want: str, got: str) -> float:
  """F1 of the bags of words of normalised answers."""
  want_words, got_words = want.split(), got.split()
  total = len(want_words) + len(got_words)
  common = collections.Counter(want_words) & collections.Counter(got_words)
  return 2 * common.total() / total if total else 1.0
