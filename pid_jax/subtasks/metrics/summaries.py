# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of longer texts: ROUGE by the rouge-score package, in any script.

Figures of different papers differ in what is a word, in the stemmer, in what
counts as a sentence for ROUGE-Lsum (here: a line), in bootstrapping (here:
none, plain means), and in the score of empty texts. Here, as for the divisions
of clinical notes: two empty texts score 1, one empty text scores 0.

The package's own words are runs of [a-z0-9]. It drops all letters of most
scripts and accented ones of others, so here words are those of
`words.rouge_words`, which are the same for ASCII text. That no word was found
does not mean that nothing was said: such texts score 1 only if they are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

from pid_jax import errors
from pid_jax.subtasks.metrics import base
from pid_jax.subtasks.metrics import words

KINDS = ('rouge1', 'rouge2', 'rougeL', 'rougeLsum')


def rouge(
  targets: base.Targets,
  predictions: base.Predictions,
  *,
  use_stemmer: bool = False,
  ascii_words: bool = False,
  empty_target: str | None = None,
  by_subtask: bool = False,
) -> dict[str, float]:
  """The mean over subtasks of ROUGE-1, -2, -L and -Lsum F-measures.

  Computed by the rouge-score package (Lin, 2004, as reimplemented by Google).
  ROUGE-Lsum takes each line of a text as a sentence. Of several gold answers,
  each figure takes the one with the highest. ROUGE ignores case, and signs and
  punctuation of ASCII; where neither side has words, the score is that of
  `base.equal`.

  Args:
    targets: N whole examples, with or without `answers`.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words (English).
    ascii_words: take the words of the rouge-score package, which drops all
      other characters than [a-z0-9], as published figures of English data do.
    empty_target: a text that means "nothing here" and counts as empty, or None.
    by_subtask: whether to return the means of each subtask, too.

  Returns:
    `rouge1`, `rouge2`, `rougeL` and `rougeLsum`; with `by_subtask` also, for
    each name of a subtask, `rouge1_NAME` and so on.
  """
  score = _Scorer(use_stemmer, ascii_words)
  scores = {}
  for name, golds, text in _subtasks(targets, predictions):
    golds = [_text(gold, empty_target) for gold in golds]
    best = score(golds, _text(text, empty_target))
    scores.setdefault(name, []).append(best)
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
  ascii_words: bool = False,
  empty_target: str | None = None,
) -> dict[str, float]:
  """ROUGE of the concatenated texts of an example's subtasks.

  Such as of a note, whose subtasks are its divisions. The texts of the subtasks
  are concatenated in order, each on a new line; empty ones are left out. The
  F-measures of these whole texts, as `rouge` computes them, are averaged over
  examples. A text with a missing prediction (None) scores 0. Further gold
  answers of a subtask are not used: which of them belong together is unknown.

  Args:
    targets: N whole examples.
    predictions: [N][U].
    use_stemmer: compare Porter stems of words (English).
    ascii_words: take the words of the rouge-score package, which drops all
      other characters than [a-z0-9], as published figures of English data do.
    empty_target: a text that means "nothing here" and counts as empty, or None.

  Returns:
    `whole_rouge1`, `whole_rouge2`, `whole_rougeL` and `whole_rougeLsum`.
  """
  score = _Scorer(use_stemmer, ascii_words)
  scores = []
  for target, prediction in zip(targets, predictions, strict=True):
    text = None
    if None not in prediction:
      text = _joined(prediction, empty_target)
    scores.append(score([_joined(target['targets'], empty_target)], text))
  return {f'whole_{kind}': value for kind, value in _means(scores).items()}


def _subtasks(
  targets: base.Targets, predictions: base.Predictions
) -> Iterator[tuple[str, list[str], str | None]]:
  """Yields name, gold answers and prediction of each subtask.

  The name of a subtask without a prediction may be missing (see
  postprocessors.group_by_example). Then it is that of the same index in another
  example.
  """
  name_at = {}
  for target in targets:
    for u, name in enumerate(target.get('subtasks', ())):
      name_at[u] = name_at.get(u) or name
  pairs = base.pairs(targets, predictions)
  for target, subtasks in zip(targets, pairs, strict=True):
    names = target.get('subtasks') or [''] * len(subtasks)
    for u, (name, (golds, text)) in enumerate(
      zip(names, subtasks, strict=True)
    ):
      yield name or name_at.get(u, ''), golds, text


def _text(text: str | None, empty_target: str | None) -> str | None:
  """Returns '' for a text that means "nothing here"."""
  if text is None or empty_target is None:
    return text
  return '' if base.equal(empty_target, text) else text


def _joined(texts: Sequence[str], empty_target: str | None) -> str:
  texts = [_text(text, empty_target).strip() for text in texts]
  return '\n'.join(text for text in texts if text)


class _Scorer:
  """Scores a text against its gold answers: `KINDS` -> F-measure."""

  def __init__(self, use_stemmer: bool, ascii_words: bool):
    self._scorer, self._tokenize = _rouge(use_stemmer, ascii_words)

  def __call__(
    self, golds: Sequence[str], text: str | None
  ) -> Mapping[str, float]:
    scores = [self._score(gold, text) for gold in golds]
    return {kind: max(score[kind] for score in scores) for kind in KINDS}

  def _score(self, gold: str, text: str | None) -> Mapping[str, float]:
    if text is None:
      return dict.fromkeys(KINDS, 0.0)
    if not self._tokenize(gold) and not self._tokenize(text):
      return dict.fromkeys(KINDS, float(base.equal(gold, text)))
    scores = self._scorer.score(gold, text)
    return {kind: score.fmeasure for kind, score in scores.items()}


def _means(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
  return {kind: base.mean([score[kind] for score in scores]) for kind in KINDS}


@functools.cache
def _rouge(
  use_stemmer: bool, ascii_words: bool
) -> tuple[Any, Callable[[str], list[str]]]:
  """Returns a scorer of the package, and its function from text to words."""
  # Imported here, since it imports nltk, which is slow.
  try:
    from rouge_score import rouge_scorer
    from rouge_score import tokenizers
  except ImportError as e:
    raise errors.UserError(
      'ROUGE needs the package rouge-score: pip install rouge-score'
    ) from e

  class UnicodeTokenizer(tokenizers.Tokenizer):
    """The package's words for ASCII text, and those of other scripts."""

    def __init__(self):
      stemmed = tokenizers.DefaultTokenizer(use_stemmer=True)
      self._stem = stemmed.tokenize if use_stemmer else None

    def tokenize(self, text: str) -> list[str]:
      found = words.rouge_words(text)
      if self._stem is None:
        return found
      stems = (
        [word] if not word.isascii() else self._stem(word) for word in found
      )
      return [stem for some in stems for stem in some]

  if ascii_words:
    tokenizer = tokenizers.DefaultTokenizer(use_stemmer)
  else:
    tokenizer = UnicodeTokenizer()
  scorer = rouge_scorer.RougeScorer(list(KINDS), tokenizer=tokenizer)
  return scorer, tokenizer.tokenize
