# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of short answers, by SQuAD's rules."""

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

  Both strings are lower-cased, stripped of punctuation and the articles a, an
  and the, and white space is unified; see `normalize_answer`. Source: the
  evaluation script of SQuAD 1.1 (Rajpurkar et al., 2016).

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `exact_match`.
  """
  right = [
    prediction is not None
    and normalize_answer(gold) == normalize_answer(prediction)
    for gold, prediction in base.pairs(targets, predictions)
  ]
  return {'exact_match': base.mean(right)}


def token_f1(
  targets: base.Targets, predictions: base.Predictions
) -> dict[str, float]:
  """The mean over subtasks of the F1 of bags of words, by SQuAD's rule.

  Words are those of `normalize_answer`. If a side has no words, the score is 1
  if neither has any, else 0. Source: the evaluation script of SQuAD 2.0
  (Rajpurkar et al., 2018).

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `token_f1`.
  """
  scores = [
    0.0
    if prediction is None
    else _f1(normalize_answer(gold), normalize_answer(prediction))
    for gold, prediction in base.pairs(targets, predictions)
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
  punctuation) counts as the empty string. Answers are compared as in
  `exact_match` and `token_f1`, each with its best gold answer. Means are over
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
    answers = gold_answers(target, empty_target)
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
      f1.append(max(_f1(gold, text) for gold in golds))
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


def gold_answers(
  target: base.Target, empty_target: str | None = 'unanswerable'
) -> list[list[str]]:
  """Returns all gold answers of each subtask, [U] lists.

  Args:
    target: a whole example. Where its `answers` are missing or '', the target
      is the only gold answer.
    empty_target: a target that means "no answer", and is none; or None.
  """
  texts = target['targets']
  joined = target.get('answers') or [''] * len(texts)
  return [
    json.loads(answers) if answers else [text] * (text != empty_target)
    for text, answers in zip(texts, joined, strict=True)
  ]


def join_answers(answers: Sequence[str]) -> str:
  """Formats the gold answers of a subtask for the feature `answers`."""
  return json.dumps(list(answers), ensure_ascii=False)


def join_alternatives(answers: Sequence[str]) -> str:
  """As `join_answers`, but '' for a single one, which is the target."""
  return join_answers(answers) if len(answers) > 1 else ''


def normalize_answer(text: str) -> str:
  """Lower-cases, drops punctuation and articles, unifies white space."""
  text = text.lower().translate(_DROP_PUNCTUATION)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


def _f1(gold: str, prediction: str) -> float:
  """F1 of the bags of words of normalised answers."""
  gold_words, words = gold.split(), prediction.split()
  total = len(gold_words) + len(words)
  common = collections.Counter(gold_words) & collections.Counter(words)
  return 2 * common.total() / total if total else 1.0
