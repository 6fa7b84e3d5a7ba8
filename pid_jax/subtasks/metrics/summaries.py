# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of longer texts, by the rouge-score package.

Figures of different papers differ in the stemmer, in what counts as a sentence
for ROUGE-Lsum (here: a line), in bootstrapping (here: none, plain means), and
in the score of empty texts. Here, as for the divisions of clinical notes: two
empty texts score 1, one empty text scores 0.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

from pid_jax.subtasks.metrics import base

KINDS = ('rouge1', 'rouge2', 'rougeL', 'rougeLsum')


def rouge(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  use_stemmer: bool = False,
  empty_target: str | None = None,
  by_subtask: bool = False,
) -> dict[str, float]:
  """The mean over subtasks of ROUGE-1, -2, -L and -Lsum F-measures.

  Computed by the rouge-score package (Lin, 2004, as reimplemented by Google).
  ROUGE-Lsum takes each line of a text as a sentence. Where the package finds no
  word on either side, the score is 1.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words.
    empty_target: a text that means "nothing here" and counts as empty, or None.
    by_subtask: whether to return the means of each subtask, too.

  Returns:
    `rouge1`, `rouge2`, `rougeL` and `rougeLsum`; with `by_subtask` also, for
    each name of a subtask, `rouge1_NAME` and so on.
  """
  scores = {}
  for u, name, target, prediction in _subtasks(targets, predictions):
    gold = _text(target['targets'][u], empty_target)
    text = _text(prediction[u], empty_target)
    scores.setdefault(name, []).append(_score(gold, text, use_stemmer))
  figures = _means([score for values in scores.values() for score in values])
  if by_subtask:
    for name in sorted(scores):
      means = _means(scores[name])
      figures |= {f'{kind}_{name}': value for kind, value in means.items()}
  return figures


def rouge_of_whole(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  use_stemmer: bool = False,
  empty_target: str | None = None,
) -> dict[str, float]:
  """ROUGE of the concatenated texts of an example's subtasks.

  Such as of a note, whose subtasks are its divisions. The texts of the subtasks
  are concatenated in order, each on a new line; empty ones are left out. The
  F-measures of these whole texts, as `rouge` computes them, are averaged over
  examples. A text with a missing prediction (None) scores 0.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words.
    empty_target: a text that means "nothing here" and counts as empty, or None.

  Returns:
    `whole_rouge1`, `whole_rouge2`, `whole_rougeL` and `whole_rougeLsum`.
  """
  scores = []
  for target, prediction in zip(targets, predictions, strict=True):
    text = None
    if None not in prediction:
      text = _joined(prediction, empty_target)
    gold = _joined(target['targets'], empty_target)
    scores.append(_score(gold, text, use_stemmer))
  return {f'whole_{kind}': value for kind, value in _means(scores).items()}


def _subtasks(targets: base.Targets, predictions: base.Predictions):
  """Yields index, name, target and prediction of each subtask of an example.

  The name of a subtask without a prediction may be missing (see
  postprocessors.group_by_example). Then it is that of the same index in another
  example.
  """
  name_at = {}
  for target in targets:
    for u, name in enumerate(target.get('subtasks', ())):
      name_at[u] = name_at.get(u) or name
  for target, prediction in zip(targets, predictions, strict=True):
    names = target.get('subtasks') or [''] * len(prediction)
    for u, (name, _) in enumerate(zip(names, prediction, strict=True)):
      yield u, name or name_at.get(u, ''), target, prediction


def _text(text: str | None, empty_target: str | None) -> str | None:
  """Returns '' for a text that means "nothing here"."""
  if text is None or empty_target is None:
    return text
  return '' if base.equal(empty_target, text) else text


def _joined(texts: Sequence[str], empty_target: str | None) -> str:
  texts = [_text(text, empty_target).strip() for text in texts]
  return '\n'.join(text for text in texts if text)


def _score(
  gold: str, text: str | None, use_stemmer: bool
) -> Mapping[str, float]:
  scorer, tokenize = _rouge(use_stemmer)
  if text is None:
    return dict.fromkeys(KINDS, 0.0)
  if not tokenize(gold) and not tokenize(text):
    return dict.fromkeys(KINDS, 1.0)
  return {k: score.fmeasure for k, score in scorer.score(gold, text).items()}


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
  return {kind: base.mean([score[kind] for score in scores]) for kind in KINDS}


@functools.cache
def _rouge(use_stemmer: bool) -> tuple[Any, Callable[[str], list[str]]]:
  # Imported here, since it imports nltk, which is slow.
  from rouge_score import rouge_scorer
  from rouge_score import tokenizers

  tokenizer = tokenizers.DefaultTokenizer(use_stemmer)
  scorer = rouge_scorer.RougeScorer(list(KINDS), tokenizer=tokenizer)
  return scorer, tokenizer.tokenize
