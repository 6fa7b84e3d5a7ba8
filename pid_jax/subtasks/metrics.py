# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics over whole examples, the same for every layout. No TensorFlow.

Each function takes `targets`, a list of dictionaries that hold `subtasks` and
`targets` ([U] str), and `predictions`, a list of [U] str or None; wholes.py
makes them. None, no prediction, is wrong everywhere, even where the target is
empty. All figures are fractions between 0 and 1. Unless a rule says otherwise,
strings are equal if they are after runs of white space became single spaces.

`names` maps the names that users choose metrics by to functions.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import re
import string
from typing import Any

from pid_jax import errors

Targets = Sequence[dict[str, Any]]
Predictions = Sequence[Sequence[str | None]]


def joint_goal_accuracy(
  targets: Targets, predictions: Predictions
) -> dict[str, float]:
  """The share of examples all of whose subtasks are right.

  In dialogue state tracking: of turns whose whole state is right. Published
  figures differ in what they forgive; this one forgives nothing: empty slots
  and "don't care" must be predicted like any others.

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `joint_goal_accuracy`.
  """
  right = [
    all(_equal(want, got) for want, got in zip(t['targets'], p, strict=True))
    for t, p in zip(targets, predictions, strict=True)
  ]
  return {'joint_goal_accuracy': _mean(right)}


def slot_accuracy(
  targets: Targets, predictions: Predictions
) -> dict[str, float]:
  """The share of subtasks that are right, over all examples.

  Where most slots are empty, saying "empty" always scores high.

  Args:
    targets: N whole examples.
    predictions: [N][U].

  Returns:
    `slot_accuracy`.
  """
  pairs = _pairs(targets, predictions)
  return {'slot_accuracy': _mean([_equal(*pair) for pair in pairs])}


def slot_f1(
  targets: Targets, predictions: Predictions, *, empty_target: str = 'none'
) -> dict[str, float]:
  """Precision, recall and F1 of the slots that are not empty.

  A slot filled with the right value is a true positive. One filled with a wrong
  value is a false positive and, if the target is filled, a false negative too.
  Micro-averaged over all examples; 0 / 0 counts as 1 (nothing to find, and
  nothing claimed).

  Args:
    targets: N whole examples.
    predictions: [N][U].
    empty_target: the value of an empty slot.

  Returns:
    `slot_precision`, `slot_recall` and `slot_f1`.
  """
  hits = claimed = wanted = 0
  for want, got in _pairs(targets, predictions):
    is_wanted = not _equal(want, empty_target)
    is_claimed = got is not None and not _equal(empty_target, got)
    wanted += is_wanted
    claimed += is_claimed
    hits += is_wanted and is_claimed and _equal(want, got)
  return {
    'slot_precision': hits / claimed if claimed else 1.0 - bool(wanted),
    'slot_recall': hits / wanted if wanted else 1.0 - bool(claimed),
    'slot_f1': 2 * hits / (claimed + wanted) if claimed + wanted else 1.0,
  }


def exact_match(targets: Targets, predictions: Predictions) -> dict[str, float]:
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
    for want, got in _pairs(targets, predictions)
  ]
  return {'exact_match': _mean(right)}


def token_f1(targets: Targets, predictions: Predictions) -> dict[str, float]:
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
  for want, got in _pairs(targets, predictions):
    if got is None:
      scores.append(0.0)
      continue
    want_words = normalize_answer(want).split()
    got_words = normalize_answer(got).split()
    total = len(want_words) + len(got_words)
    common = collections.Counter(want_words) & collections.Counter(got_words)
    scores.append(2 * common.total() / total if total else 1.0)
  return {'token_f1': _mean(scores)}


def rouge(
  targets: Targets, predictions: Predictions, *, use_stemmer: bool = False
) -> dict[str, float]:
  """The mean over subtasks of ROUGE-1, -2, -L and -Lsum F-measures.

  Computed by the rouge-score package (Lin, 2004, as reimplemented by Google).
  ROUGE-Lsum takes each line of a text as a sentence. Where the package finds no
  word on either side, the score is 1: nothing was wanted and nothing was said.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words.

  Returns:
    `rouge1`, `rouge2`, `rougeL` and `rougeLsum`.
  """
  scorer, tokenize = _rouge(use_stemmer)
  scores = {name: [] for name in ('rouge1', 'rouge2', 'rougeL', 'rougeLsum')}
  for want, got in _pairs(targets, predictions):
    if got is None:
      result = dict.fromkeys(scores, 0.0)
    elif not tokenize(want) and not tokenize(got):
      result = dict.fromkeys(scores, 1.0)
    else:
      result = {k: s.fmeasure for k, s in scorer.score(want, got).items()}
    for name, values in scores.items():
      values.append(result[name])
  return {name: _mean(values) for name, values in scores.items()}


names = {
  'joint_goal_accuracy': joint_goal_accuracy,
  'slot_accuracy': slot_accuracy,
  'slot_f1': slot_f1,
  'exact_match': exact_match,
  'token_f1': token_f1,
  'rouge': rouge,
}


def by_name(name: str) -> Callable[[Targets, Predictions], dict[str, float]]:
  """Returns the metric of that name.

  Args:
    name: a key of `names`.

  Raises:
    UserError: there is none.
  """
  if name not in names:
    raise errors.unknown('metric', name, names)
  return names[name]


def normalize_answer(text: str) -> str:
  """Lower-cases, drops punctuation and articles, unifies white space."""
  text = text.lower().translate(_DROP_PUNCTUATION)
  return ' '.join(re.sub(r'\b(a|an|the)\b', ' ', text).split())


_DROP_PUNCTUATION = str.maketrans('', '', string.punctuation)


@functools.cache
def _rouge(use_stemmer: bool) -> tuple[Any, Callable[[str], list[str]]]:
  # Loads nltk; only those who ask for ROUGE should wait for it.
  from rouge_score import rouge_scorer
  from rouge_score import tokenizers

  kinds = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum']
  tokenizer = tokenizers.DefaultTokenizer(use_stemmer)
  scorer = rouge_scorer.RougeScorer(kinds, tokenizer=tokenizer)
  return scorer, tokenizer.tokenize


def _pairs(
  targets: Targets, predictions: Predictions
) -> Iterator[tuple[str, str | None]]:
  for target, prediction in zip(targets, predictions, strict=True):
    yield from zip(target['targets'], prediction, strict=True)


def _equal(want: str, got: str | None) -> bool:
  return got is not None and want.split() == got.split()


def _mean(values: Sequence[float]) -> float:
  return float(sum(values) / len(values)) if values else 0.0
