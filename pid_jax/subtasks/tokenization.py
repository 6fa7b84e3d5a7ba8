# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO preprocessors common to all layouts: tokens and sampling keys.

`tokenize` is the last preprocessor before SeqIO's offline cache. `draw_keys`
runs after the cache, so that each epoch has other keys.
"""

from __future__ import annotations

from collections.abc import Mapping

import seqio
import tensorflow as tf

from pid_jax.subtasks import newlines
from pid_jax.subtasks import tf_assertions

# Features of a decomposable example, with their ranks; all are strings.
EXAMPLE_RANKS = {
  'example_id': 0,
  'inputs': 0,
  'prompts': 1,
  'subtasks': 1,
  'targets': 1,
}

Example = Mapping[str, tf.Tensor]


def tokenize(
  dataset: tf.data.Dataset,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  empty_target: str | None,
  newline: str | None = None,
) -> tf.data.Dataset:
  """Encodes the strings of decomposable examples.

  Args:
    dataset: of decomposable examples, optionally with float32 [U]
      `subtask_weights` and int32 [U] `subtask_odds`; other features pass
      through.
    task: name of the task, for messages.
    vocabulary: of inputs, prompts and targets.
    empty_target: the target that means "nothing here", or None.
    newline: a sentinel to write newlines as, or None; see newlines.py.

  Returns:
    A dataset with, for each k of inputs, prompts, targets and subtasks, the
    string(s) `k_pretokenized`, and with
      inputs                int32 [s]
      prompts, targets      int32 [n], the tokens of all U strings, concatenated
                            (SeqIO's cache cannot hold ragged matrices)
      prompts_row_lengths, targets_row_lengths  int32 [U]
      subtasks              int32 [U], the subtask's odds (1 by default) where
                            the target is `empty_target`, else 0
      subtask_weights       float32 [U]

  Raises:
    ValueError: the examples lack features of a decomposable example, or the
      vocabulary cannot express `newline`.
    tf.errors.InvalidArgumentError: while iterating; see tf_assertions.py.
  """
  _check_spec(dataset.element_spec, task)
  newlines.check(newline, vocabulary)

  @tf.autograph.experimental.do_not_convert
  def encode(example: Example) -> Example:
    example = dict(example)
    strings = {k: example.pop(k) for k in EXAMPLE_RANKS if k != 'example_id'}
    _check_counts(task, example, strings)
    num_subtasks = tf.size(strings['prompts'])

    # A call of the tokenizer costs far more than one more string in it.
    texts = tf.concat(
      [strings['prompts'], strings['targets'], [strings['inputs']]], axis=0
    )
    if newline is not None:
      tf_assertions.check_no_sentinel(task, example, texts, newline)
      texts = _mark_newlines(texts, newline)
    tokens = _encode(vocabulary, texts)
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    sizes = [num_subtasks, num_subtasks, 1]
    prompts, targets, _ = tf.split(lengths, sizes)
    target_start = tf.reduce_sum(prompts)
    input_start = target_start + tf.reduce_sum(targets)

    if empty_target is None:
      is_empty = tf.zeros([num_subtasks], tf.int32)
    else:
      is_empty = tf.cast(strings['targets'] == empty_target, tf.int32)
    weights = example.pop('subtask_weights', tf.ones([num_subtasks]))
    odds = example.pop('subtask_odds', tf.ones([num_subtasks], tf.int32))
    return {
      **example,
      **{f'{k}_pretokenized': v for k, v in strings.items()},
      'inputs': tokens.values[input_start:],
      'prompts': tokens.values[:target_start],
      'prompts_row_lengths': prompts,
      'targets': tokens.values[target_start:input_start],
      'targets_row_lengths': targets,
      'subtasks': is_empty * odds,
      'subtask_weights': weights,
    }

  return dataset.map(encode, num_parallel_calls=tf.data.AUTOTUNE)


@seqio.map_over_dataset(num_seeds=1)
@tf.autograph.experimental.do_not_convert
def draw_keys(example: Example, seed: tf.Tensor) -> Example:
  """Draws a random sampling key for each subtask with an empty target.

  A run that trains on k of these subtasks takes those with the k smallest keys:
  weighted sampling without replacement (Efraimidis and Spirakis, 2006). One of
  odds 4 comes before one of odds 1 four times out of five.

  Args:
    example: with `subtasks` int32 [U], the odds of a subtask with an empty
      target, else 0.
    seed: int64 [2], from SeqIO.

  Returns:
    The example with `subtasks` int32 [U], a key from 1 to 2**31 - 2 where it
    was not 0.
  """
  odds = example['subtasks']
  uniform = tf.random.stateless_uniform(tf.shape(odds), seed, dtype=tf.float64)
  # Distributed as the smallest of `odds` uniform numbers.
  smallest = 1 - uniform ** (1 / tf.maximum(tf.cast(odds, tf.float64), 1))
  keys = 1 + tf.cast(smallest * (tf.int32.max - 2), tf.int32)
  return {**example, 'subtasks': keys * tf.minimum(odds, 1)}


def _mark_newlines(texts: tf.Tensor, sentinel: str) -> tf.Tensor:
  """Applies `newlines.mark` to a tensor of strings."""
  replacement = newlines.spaced(sentinel).replace('\\', r'\\')
  return tf.strings.regex_replace(texts, newlines.PATTERN, replacement)


def _encode(vocabulary: seqio.Vocabulary, strings: tf.Tensor) -> tf.Tensor:
  """[n] strings -> int32 [n, (length)], ragged."""
  if isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return vocabulary.encode_tf(strings)
  # Not every vocabulary encodes a vector of strings.
  return tf.map_fn(
    vocabulary.encode_tf,
    strings,
    fn_output_signature=tf.RaggedTensorSpec([None], tf.int32, ragged_rank=0),
  )


def _check_spec(spec: Mapping[str, tf.TensorSpec], task: str) -> None:
  """Raises ValueError unless the elements are decomposable examples."""
  for key, rank in EXAMPLE_RANKS.items():
    want = f'a string tensor of rank {rank}'
    if key not in spec:
      raise ValueError(
        f'examples of task {task!r} lack {key!r} ({want}). Got {sorted(spec)}.'
      )
    if spec[key].dtype != tf.string or spec[key].shape.rank != rank:
      raise ValueError(
        f'{key!r} of task {task!r} must be {want}. Got {spec[key]}.'
      )


def _check_counts(task: str, example: Example, strings: Example) -> None:
  """Stops the dataset unless prompts, targets and names are equally many."""
  prompts, targets, names = (
    tf.size(strings[k]) for k in ('prompts', 'targets', 'subtasks')
  )
  tf_assertions.require(
    (prompts > 0) & (targets == prompts) & (names == prompts),
    lambda: [
      *tf_assertions.where(task, example), ' has ', prompts, ' prompts, ',
      targets, ' targets and ', names, ' subtask names; it needs an equal '
      'number of each, and at least one',
    ],
  )  # fmt: skip
