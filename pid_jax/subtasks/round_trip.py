# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts the texts of a task that its vocabulary does not give back.

`vocabulary.RoundTripCounter` says what that means: a target that the vocabulary
rewrites can never be predicted as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import textwrap

import numpy as np
import seqio

from pid_jax import vocabulary as vocabulary_lib
from pid_jax.subtasks import newlines
from pid_jax.subtasks import tf_assertions

TEXTS = ('targets', 'prompts', 'inputs')
_NUM_EXAMPLES = 500
_WIDTH = 80


def plain_vocabulary(
  vocabulary: seqio.Vocabulary,
) -> vocabulary_lib.AnyVocabulary | None:
  """Returns the vocabulary of `pid_jax.vocabulary` with the same ids.

  Args:
    vocabulary: of a task's feature.

  Returns:
    None for a kind that has no equal there.

  Raises:
    UserError: the file cannot be read.
  """
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    path = vocabulary.sentencepiece_model_file
    plain = vocabulary_lib.Vocabulary(path, vocabulary.extra_ids or 0)
    if vocabulary_lib.first_difference(plain, vocabulary) is None:
      return plain
    # Its normaliser or order of sentinels is not that of the file.
    return vocabulary_lib.Vocabulary(path, 0, vocabulary.sp_model)
  if isinstance(vocabulary, seqio.ByteVocabulary):
    return vocabulary_lib.ByteVocabulary(
      vocabulary.extra_ids, sentinels_in_text=False
    )
  return None


def count(
  mixture_or_task: seqio.Task | seqio.Mixture,
  split: str,
  *,
  features: Sequence[str] = TEXTS,
  num_examples: int = _NUM_EXAMPLES,
  use_cached: bool = False,
) -> dict[str, vocabulary_lib.RoundTripCounter]:
  """Encodes and decodes the texts of a split.

  Args:
    mixture_or_task: in any of the three layouts. Tasks of a mixture without
      this split are left out.
    split: such as 'train'.
    features: of `TEXTS`.
    num_examples: number of examples to read of each task, its first ones.
    use_cached: read the cache of seqio_cache_tasks.

  Returns:
    A counter for each feature whose texts the task keeps.

  Raises:
    UserError: the vocabulary cannot be read.
    tf.errors.InvalidArgumentError: an example is invalid; see tf_assertions.py.
  """
  counters: dict[str, vocabulary_lib.RoundTripCounter] = {}
  for task in seqio.get_subtasks(mixture_or_task):
    vocabulary = plain_vocabulary(task.output_features['targets'].vocabulary)
    if vocabulary is None:
      continue
    for name, text in _texts(task, split, features, num_examples, use_cached):
      if name not in counters:
        counters[name] = vocabulary_lib.RoundTripCounter(vocabulary, name)
      counters[name].count(text)
  return counters


def sample(
  mixture_or_task: seqio.Task | seqio.Mixture,
  split: str,
  *,
  num_examples: int = 100,
  use_cached: bool = False,
) -> Iterator[str]:
  """Yields the texts of the first examples of each task; see `count`."""
  for task in seqio.get_subtasks(mixture_or_task):
    for _, text in _texts(task, split, TEXTS, num_examples, use_cached):
      yield text


def _texts(
  task: seqio.Task,
  split: str,
  features: Sequence[str],
  num_examples: int,
  use_cached: bool,
) -> Iterator[tuple[str, str]]:
  """Yields (feature, text), newlines written as the task's sentinel."""
  if split not in task.splits:
    return
  newline = getattr(getattr(task, 'layout', None), 'newline', None)
  dataset = task.get_dataset(
    None, split, shuffle=False, num_epochs=1, use_cached=use_cached
  ).take(num_examples)
  for example in dataset.as_numpy_iterator():
    for name in features:
      for text in np.ravel(example.get(f'{name}_pretokenized', ())):
        yield name, newlines.mark(text.decode(errors='replace'), newline)


def report(
  task: seqio.Task, splits: Sequence[str], num_examples: int = _NUM_EXAMPLES
) -> str:
  """Returns the lines of all counters of some splits; '' if all texts return.

  Args:
    task: in any of the three layouts.
    splits: to read.
    num_examples: see `count`.

  Raises:
    UserError: an example is invalid.
  """
  lines = []
  for split in splits:
    with tf_assertions.raise_user_errors():
      counters = count(task, split, num_examples=num_examples)
    for counter in counters.values():
      for line in counter.lines():
        lines += textwrap.wrap(
          f'! {split}: {line}', _WIDTH, subsequent_indent='  '
        )
  return '\n'.join(lines)
