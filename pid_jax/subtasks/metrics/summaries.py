# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of longer texts, by the rouge-score package.

Figures of different papers differ by the stemmer, by what counts as a sentence
for ROUGE-Lsum (here: a line), by bootstrapping (here: none, plain means), and
by what becomes of texts that are absent. These have the rule of the division of
clinical notes: absent on both sides is perfect, on one side alone is 0.
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
  word on either side, the score is 1: nothing was wanted and nothing was said.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words.
    empty_target: the text that says "nothing here", if there is one; it counts
      as no text at all.
    by_subtask: whether to give the means of each subtask, too.

  Returns:
    `rouge1`, `rouge2`, `rougeL` and `rougeLsum`; with `by_subtask` also, for
    each name of a subtask, `rouge1_NAME` and so on.
  """
  scores = {}
  for u, name, target, prediction in _subtasks(targets, predictions):
    want = _text(target['targets'][u], empty_target)
    got = _text(prediction[u], empty_target)
    scores.setdefault(name, []).append(_score(want, got, use_stemmer))
  figures = _means([s for own in scores.values() for s in own])
  if by_subtask:
    for name in sorted(scores):
      own = _means(scores[name])
      figures |= {f'{kind}_{name}': value for kind, value in own.items()}
  return figures


def rouge_of_whole(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  use_stemmer: bool = False,
  empty_target: str | None = None,
) -> dict[str, float]:
  """ROUGE of the text that an example's subtasks make together.

  Such as a note, of its divisions. The texts of the subtasks are put together
  in order, each from a new line; absent ones are left out. The F-measures of
  these whole texts, as `rouge` computes them, are averaged over examples. A
  text of which a part was not predicted (None) scores 0.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words.
    empty_target: the text that says "nothing here", if there is one.

  Returns:
    `whole_rouge1`, `whole_rouge2`, `whole_rougeL` and `whole_rougeLsum`.
  """
  scores = []
  for target, prediction in zip(targets, predictions, strict=True):
    got = None
    if None not in prediction:
      got = _joined(prediction, empty_target)
    want = _joined(target['targets'], empty_target)
    scores.append(_score(want, got, use_stemmer))
  return {f'whole_{kind}': value for kind, value in _means(scores).items()}


def _subtasks(targets: base.Targets, predictions: base.Predictions):
  """Yields index, name, target and prediction of each subtask of an example.

  The name of a subtask without prediction may be unknown (wholes.regroup says
  when); it is that of the subtasks in its place then.
  """
  in_place = {}
  for target in targets:
    for u, name in enumerate(target.get('subtasks', ())):
      in_place[u] = in_place.get(u) or name
  for target, prediction in zip(targets, predictions, strict=True):
    names = target.get('subtasks') or [''] * len(prediction)
    for u, (name, _) in enumerate(zip(names, prediction, strict=True)):
      yield u, name or in_place.get(u, ''), target, prediction


def _text(text: str | None, empty_target: str | None) -> str | None:
  """'' where a text says "nothing here"."""
  if text is None or empty_target is None:
    return text
  return '' if base.equal(empty_target, text) else text


def _joined(texts: Sequence[str], empty_target: str | None) -> str:
  texts = [_text(text, empty_target).strip() for text in texts]
  return '\n'.join(text for text in texts if text)


def _score(
  want: str, got: str | None, use_stemmer: bool
) -> Mapping[str, float]:
  scorer, tokenize = _rouge(use_stemmer)
  if got is None:
    return dict.fromkeys(KINDS, 0.0)
  if not tokenize(want) and not tokenize(got):
    return dict.fromkeys(KINDS, 1.0)
  return {k: score.fmeasure for k, score in scorer.score(want, got).items()}


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
  return {kind: base.mean([score[kind] for score in scores]) for kind in KINDS}


@functools.cache
def _rouge(use_stemmer: bool) -> tuple[Any, Callable[[str], list[str]]]:
  # Loads nltk; only those who ask for ROUGE should wait for it.
  from rouge_score import rouge_scorer
  from rouge_score import tokenizers

  tokenizer = tokenizers.DefaultTokenizer(use_stemmer)
  scorer = rouge_scorer.RougeScorer(list(KINDS), tokenizer=tokenizer)
  return scorer, tokenizer.tokenize
