# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of longer texts, by the rouge-score package."""

from __future__ import annotations

from collections.abc import Callable
import functools
from typing import Any

from pid_jax.subtasks.metrics import base


def rouge(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  use_stemmer: bool = False,
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
  for want, got in base.pairs(targets, predictions):
    if got is None:
      result = dict.fromkeys(scores, 0.0)
    elif not tokenize(want) and not tokenize(got):
      result = dict.fromkeys(scores, 1.0)
    else:
      result = {k: s.fmeasure for k, s in scorer.score(want, got).items()}
    for name, values in scores.items():
      values.append(result[name])
  return {name: base.mean(values) for name, values in scores.items()}


@functools.cache
def _rouge(use_stemmer: bool) -> tuple[Any, Callable[[str], list[str]]]:
  # Loads nltk; only those who ask for ROUGE should wait for it.
  from rouge_score import rouge_scorer
  from rouge_score import tokenizers

  kinds = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum']
  tokenizer = tokenizers.DefaultTokenizer(use_stemmer)
  scorer = rouge_scorer.RougeScorer(kinds, tokenizer=tokenizer)
  return scorer, tokenizer.tokenize
