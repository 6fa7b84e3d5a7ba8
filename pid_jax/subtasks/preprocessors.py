# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO preprocessors from a tokenised example to the features of a layout.

  multi-prompt (`NAME`), one example per input, for the PiD model:
    inputs            int32 [s], ends in EOS
    prompts           int32 [u, p], rows padded with 0
    targets           int32 [u, t], rows end in EOS, padded with 0
    subtasks          int32 [u], the sampling key of a subtask with an empty
                      target (see tokenization.draw_keys), else 0
    subtask_weights   float32 [u], weight of each subtask in the loss
    inputs_truncated  int32 [1], 1 if the input was truncated
  prompt-in-encoder (`NAME_pie`), one example per subtask, for any T5:
    inputs            int32 [s], the prompt, then the input, then EOS
    targets           int32 [t], ends in EOS
  joint (`NAME_joint`), one example per input, for any T5:
    inputs            int32 [s], as in multi-prompt
    targets           int32 [t], all targets with separators between them, EOS

SeqIO would silently trim every feature to its length. Here the caller chooses
which end of an input is truncated. A truncated target loses its EOS, so that
the model does not learn to stop there. Both are counted. Prompts are never
truncated: an example whose prompts do not fit stops the run with its id.

`sequence_length` has S as `inputs`, P as `prompts`, T as `targets`, U as
`subtasks` and L as `decoder`; a missing one means no limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import re

import seqio
import tensorflow as tf

from pid_jax import errors
from pid_jax.subtasks import examples
from pid_jax.subtasks import newlines
from pid_jax.subtasks import prompt_in_encoder as pie
from pid_jax.subtasks import tf_assertions

Example = Mapping[str, tf.Tensor]
Lengths = Mapping[str, int] | None


def multi_prompt(
  dataset: tf.data.Dataset,
  sequence_length: Lengths = None,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  long_inputs: str,
) -> tf.data.Dataset:
  """Builds one example per input, with a matrix of prompts and one of targets.

  Args:
    dataset: from `tokenize` and `draw_keys`.
    sequence_length: S, P, T, U and L.
    task: name of the task, for messages.
    vocabulary: provides the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'.

  Returns:
    A dataset of the features above. All other features pass through.
  """
  limits = tf_assertions.Limits.from_lengths(sequence_length)

  @tf.autograph.experimental.do_not_convert
  def build(example: Example) -> Example:
    example = dict(example)
    prompt_lengths = example.pop('prompts_row_lengths')
    target_lengths = example.pop('targets_row_lengths')
    tf_assertions.check_multi_prompt(
      task, example, prompt_lengths, target_lengths + 1, limits
    )
    inputs, is_truncated = _truncate(
      task, example, example['inputs'], limits.inputs, long_inputs
    )
    targets = _append_eos_to_rows(
      _padded(example['targets'], target_lengths), target_lengths, vocabulary
    )
    return {
      **example,
      'inputs': _append_eos(inputs, vocabulary),
      'inputs_truncated': is_truncated[tf.newaxis],
      'prompts': _padded(example['prompts'], prompt_lengths),
      'targets': targets[:, : limits.targets],
    }

  return dataset.map(build, num_parallel_calls=tf.data.AUTOTUNE)


def prompt_in_encoder(
  dataset: tf.data.Dataset,
  sequence_length: Lengths = None,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  long_inputs: str,
  subtask_features: Sequence[str] = (),
) -> tf.data.Dataset:
  """Builds one text-to-text example per subtask.

  Args:
    dataset: from `tokenize` and `draw_keys`.
    sequence_length: S (of prompt and input together) and T.
    task: name of the task, for messages.
    vocabulary: provides the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'; the prompt stays whole.
    subtask_features: names of features [U, ...] with one entry per subtask.

  Returns:
    A dataset of `inputs` and `targets`, and
      inputs_pretokenized, targets_pretokenized  string, of this subtask
      example_id        string, the same for all subtasks of an example
      subtask_index     int32, u
      num_subtasks      int32, U
      subtask_name      string
      empty_rank        int32, rank (0, 1, ...) of this subtask among those of
                        the example with an empty target, by sampling key; -1
                        for a subtask with another target
      inputs_truncated, targets_truncated  int32, 1 if truncated
      example_inputs    string, the input without a prompt
      prompts_pretokenized, subtasks_pretokenized, example_targets  string [U]
    and all other features of the example. Each row has its subtask's entry of
    `subtask_features`. The strings of the whole example (the last two lines)
    and all other features are in the row of the first subtask and empty in the
    others: metrics need them once, and U copies would take much memory.
  """
  limits = tf_assertions.Limits.from_lengths(sequence_length)

  @tf.autograph.experimental.do_not_convert
  def build(example: Example) -> Example:
    example = dict(example)
    num_subtasks = tf.size(example['subtasks'])
    index = tf.range(num_subtasks)
    # All subtasks at once: the graph runs once per example, not U times.
    prompt_lengths = example.pop('prompts_row_lengths')
    tf_assertions.check_prompt_in_encoder(task, example, prompt_lengths, limits)
    inputs = _prepend_prompts(
      task,
      example,
      _ragged(example.pop('prompts'), prompt_lengths),
      limits.inputs,
      long_inputs,
      vocabulary.eos_id,
    )
    target_lengths = example.pop('targets_row_lengths')
    targets = _ragged(example.pop('targets'), target_lengths)
    targets = tf.concat([targets, _column(vocabulary.eos_id, index)], axis=1)
    empty_rank = key_ranks(example.pop('subtasks'))
    for key in ('inputs', 'subtask_weights'):  # Stock T5 takes no weights.
      del example[key]
    example_id = example.pop('example_id')
    texts = {k: example.pop(f'{k}_pretokenized') for k in ('inputs', 'targets')}
    of_subtask = {
      k: example.pop(k)
      for k in dict.fromkeys((*subtask_features, *examples.OPTIONAL))
      if k in example or k not in examples.OPTIONAL
    }
    of_example = {
      **example,
      'example_inputs': texts['inputs'],
      'example_targets': texts['targets'],
    }
    return {
      **{k: _in_first_row(v, index) for k, v in of_example.items()},
      **of_subtask,
      **inputs,
      'example_id': tf.fill([num_subtasks], example_id),
      'subtask_index': index,
      'num_subtasks': tf.fill([num_subtasks], num_subtasks),
      'subtask_name': example['subtasks_pretokenized'],
      'empty_rank': empty_rank,
      'targets': targets[:, : limits.targets],
      'targets_pretokenized': texts['targets'],
      'targets_truncated': _exceeds(target_lengths + 1, limits.targets),
    }

  dataset = dataset.map(build, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
  # Rows of ragged tensors are dense, but the spec says so only after a map.
  return dataset.map(tf.autograph.experimental.do_not_convert(lambda row: row))


def joint(
  dataset: tf.data.Dataset,
  sequence_length: Lengths = None,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  long_inputs: str,
  separator: str,
  newline: str | None = None,
) -> tf.data.Dataset:
  """Builds one text-to-text example per input, with all targets in one.

  Args:
    dataset: from `tokenize`.
    sequence_length: S and T (of all targets with separators and EOS).
    task: name of the task, for messages.
    vocabulary: encodes the separator and provides the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'.
    separator: written between targets; no target may contain it.
    newline: a sentinel that newlines of `separator` are written as, or None.

  Returns:
    A dataset of `inputs` and `targets`, of `inputs_truncated` and
    `targets_truncated` (int32, 1 if truncated) and of the example's strings,
    with `targets_pretokenized` joined and `example_targets` [U].

  Raises:
    UserError: the vocabulary cannot express the separator.
  """
  limits = tf_assertions.Limits.from_lengths(sequence_length)
  ids = separator_ids(vocabulary, separator, newline)
  pattern = f'(?s).*{re.escape(separator.strip())}.*'

  @tf.autograph.experimental.do_not_convert
  def build(example: Example) -> Example:
    example = dict(example)
    texts = example.pop('targets_pretokenized')
    lengths = example.pop('targets_row_lengths')
    rows = _ragged(example['targets'], lengths)
    has_separator = tf.strings.regex_full_match(texts, pattern)
    if isinstance(vocabulary, seqio.SentencePieceVocabulary):
      # It may write what only resembles the separator as the separator.
      written = vocabulary.tf_tokenizer.detokenize(rows)
      has_separator |= tf.strings.regex_full_match(written, pattern)
    tf_assertions.check_joint(task, example, has_separator, separator.strip())
    for key in (
      'prompts',
      'prompts_row_lengths',
      'subtasks',
      'subtask_weights',
    ):
      del example[key]

    separators = tf.tile([ids], [tf.size(texts), 1])
    targets = tf.concat([rows, separators], axis=1).flat_values
    targets = targets[: tf.size(targets) - len(ids)]
    targets = _append_eos(targets, vocabulary)
    inputs, is_truncated = _truncate(
      task, example, example['inputs'], limits.inputs, long_inputs
    )
    return {
      **example,
      'inputs': _append_eos(inputs, vocabulary),
      'inputs_truncated': is_truncated,
      'targets': targets[: limits.targets],
      'targets_pretokenized': tf.strings.reduce_join(
        texts, separator=separator
      ),
      'targets_truncated': _exceeds(tf.size(targets), limits.targets),
      'example_targets': texts,
    }

  return dataset.map(build, num_parallel_calls=tf.data.AUTOTUNE)


def separator_ids(
  vocabulary: seqio.Vocabulary, separator: str, newline: str | None = None
) -> list[int]:
  """Encodes the separator of the joint layout.

  Raises:
    UserError: the vocabulary cannot express it, or it and the sentinel cannot
      be told apart.
  """
  newlines.check_separator(newline, separator)
  ids = vocabulary.encode(newlines.mark(separator, newline))
  decoded = newlines.restore(vocabulary.decode(ids), newline)
  if not separator.strip() or decoded.strip() != separator.strip():
    raise errors.UserError(
      f'the vocabulary cannot express the joint separator {separator!r}: it '
      f'decodes as {decoded!r}; choose another joint_separator'
    )
  return list(ids)


def key_ranks(subtasks: tf.Tensor) -> tf.Tensor:
  """Ranks subtasks by their sampling keys.

  Args:
    subtasks: int32 [..., U], a sampling key (`draw_keys`), or 0 for none.

  Returns:
    int32 [..., U], the rank of each key in its row, from 0; -1 without a key.
  """
  has_key = subtasks > 0
  keys = tf.where(has_key, subtasks, tf.int32.max)
  order = tf.argsort(keys, stable=True)
  return tf.where(has_key, tf.argsort(order, stable=True), -1)


def _prepend_prompts(
  task: str,
  example: Example,
  prompts: tf.RaggedTensor,
  limit: int | None,
  long_inputs: str,
  eos_id: int,
) -> dict[str, tf.Tensor | tf.RaggedTensor]:
  """Puts each prompt before the input, truncated to the tokens left for it.

  Args:
    task: name of the task, for messages.
    example: with `inputs` int32 [s], and the strings `inputs_pretokenized` and
      `prompts_pretokenized` [U].
    prompts: int32 [U, (p)].
    limit: S, of prompt, input and EOS together, or None.
    long_inputs: 'keep_start', 'keep_end' or 'error'.
    eos_id: appended to each row.

  Returns:
    `inputs` int32 [U, (s)], ragged; `inputs_pretokenized` string [U];
    `inputs_truncated` int32 [U], 1 where the input was truncated.
  """
  inputs, prompt_lengths = example['inputs'], prompts.row_lengths()
  prompt_lengths = tf.cast(prompt_lengths, tf.int32)
  size = tf.size(inputs)
  start, end = pie.kept_range(
    size, prompt_lengths, limit, long_inputs, minimum=tf.minimum
  )
  is_truncated = end - start < size
  if long_inputs == 'error' and limit is not None:
    tf_assertions.check_input(
      task,
      example,
      tf.reduce_any(is_truncated),
      size + 1,
      limit - tf.reduce_max(prompt_lengths),
    )
  index = tf.ragged.range(start, end, row_splits_dtype=tf.int32)
  return {
    'inputs': pie.join(
      prompts,
      tf.gather(inputs, index),
      _column(eos_id, prompt_lengths),
      concatenate=functools.partial(tf.concat, axis=1),
    ),
    'inputs_pretokenized': tf.strings.join(
      [example['prompts_pretokenized'], example['inputs_pretokenized']], ' '
    ),
    'inputs_truncated': tf.cast(is_truncated, tf.int32),
  }


def _truncate(
  task: str,
  example: Example,
  tokens: tf.Tensor,
  limit: int | None,
  long_inputs: str,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Truncates `tokens` to `limit` - 1.

  Returns:
    The tokens; int32, 1 if they were truncated.
  """
  if limit is None:
    return tokens, tf.constant(0)
  size = tf.size(tokens)
  is_truncated = size > limit - 1
  if long_inputs == 'error':
    tf_assertions.check_input(task, example, is_truncated, size + 1, limit)
  start, end = pie.kept_range(size, 0, limit, long_inputs, minimum=tf.minimum)
  return tokens[start:end], tf.cast(is_truncated, tf.int32)


def _exceeds(lengths: tf.Tensor, limit: int | None) -> tf.Tensor:
  """int32, 1 where a length exceeds `limit`."""
  if limit is None:
    return tf.zeros_like(lengths)
  return tf.cast(lengths > limit, tf.int32)


def _in_first_row(value: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
  """[...], [U] -> [U, ...]: `value` in the first row, the others empty."""
  if value.shape.rank == 0:
    return tf.where(index == 0, value, tf.zeros([], value.dtype))
  return _ragged(value, tf.where(index == 0, tf.shape(value)[0], 0))


def _ragged(flat: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
  """[n, ...], [U] -> [U, (length), ...]."""
  return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)


def _padded(flat: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
  """[n], [U] -> [U, max(lengths)], padded with 0."""
  return _ragged(flat, lengths).to_tensor()


def _column(value: int, like: tf.Tensor) -> tf.Tensor:
  """[U] -> [U, 1]."""
  return tf.fill([tf.size(like), 1], value)


def _append_eos(tokens: tf.Tensor, vocabulary: seqio.Vocabulary) -> tf.Tensor:
  return tf.pad(tokens, [[0, 1]], constant_values=vocabulary.eos_id)


def _append_eos_to_rows(
  rows: tf.Tensor, lengths: tf.Tensor, vocabulary: seqio.Vocabulary
) -> tf.Tensor:
  """[U, t], [U] -> [U, t + 1], each row with EOS after its last token."""
  rows = tf.pad(rows, [[0, 0], [0, 1]])
  return rows + vocabulary.eos_id * tf.one_hot(
    lengths, tf.shape(rows)[1], dtype=tf.int32
  )
