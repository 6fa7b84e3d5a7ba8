# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO preprocessors that lay a tokenised example out for a model.

  multi-prompt (`NAME`), one example per input, for the PiD model:
    inputs            int32 [s], ends in EOS
    prompts           int32 [u, p], rows padded with 0
    targets           int32 [u, t], rows end in EOS, padded with 0
    subtasks          int32 [u], 0, or the number that `draw` gave to a subtask
                      with an empty target
    subtask_weights   float32 [u], weight of each subtask in the loss
    inputs_truncated  int32 [1], 1 if the input was cut
  prompt-in-encoder (`NAME_pie`), one example per subtask, for any T5:
    inputs            int32 [s], the prompt, then the input, then EOS
    targets           int32 [t], ends in EOS
  joint (`NAME_joint`), one example per input, for any T5:
    inputs            int32 [s], as in multi-prompt
    targets           int32 [t], all targets with a separator between them, EOS

SeqIO would cut what is longer than its feature length without a word. Here
inputs are cut on a side of one's choice, targets at their end (where they lose
EOS, so that no model learns to stop there), both leave a trace, and prompts are
never cut: an example whose prompts do not fit ends the run with its name.

`sequence_length` has S as `inputs`, P as `prompts`, T as `targets`, U as
`subtasks` and L as `decoder`; what it lacks is without limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import functools
import re

import seqio
import tensorflow as tf

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
  """Lays examples out as an input with a matrix of prompts and one of targets.

  Args:
    dataset: from `tokenize` and `draw`.
    sequence_length: S, P, T, U and L.
    task: name of the task, for messages.
    vocabulary: gives the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'.

  Returns:
    A dataset of the features above, besides strings and whatever else was
    there.
  """
  limits = tf_assertions.Limits.of(sequence_length)

  @tf.autograph.experimental.do_not_convert
  def lay_out(example: Example) -> Example:
    example = dict(example)
    prompt_lengths = example.pop('prompts_row_lengths')
    target_lengths = example.pop('targets_row_lengths')
    tf_assertions.check_multi_prompt(
      task, example, prompt_lengths, target_lengths + 1, limits
    )
    inputs, cut = _fit(
      task, example, example['inputs'], limits.inputs, long_inputs
    )
    targets = _rows_with_eos(
      _rows(example['targets'], target_lengths), target_lengths, vocabulary
    )
    return {
      **example,
      'inputs': _with_eos(inputs, vocabulary),
      'inputs_truncated': cut[tf.newaxis],
      'prompts': _rows(example['prompts'], prompt_lengths),
      'targets': targets[:, : limits.targets],
    }

  return dataset.map(lay_out, num_parallel_calls=tf.data.AUTOTUNE)


def prompt_in_encoder(
  dataset: tf.data.Dataset,
  sequence_length: Lengths = None,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  long_inputs: str,
  subtask_features: Sequence[str] = (),
) -> tf.data.Dataset:
  """Lays each subtask out as a text-to-text example of its own.

  Args:
    dataset: from `tokenize` and `draw`.
    sequence_length: S (of prompt and input together) and T.
    task: name of the task, for messages.
    vocabulary: gives the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'; the prompt stays whole.
    subtask_features: names of features [U, ...] with an entry per subtask.

  Returns:
    A dataset of `inputs` and `targets`, with
      inputs_pretokenized, targets_pretokenized  string, of this subtask
      example_id        string, the same for all subtasks of an example
      subtask_index     int32, u
      num_subtasks      int32, U
      subtask_name      string
      empty_place       int32, -1, or the place of a subtask with an empty
                        target in the order of the draw: 0, 1, ...
      inputs_truncated, targets_truncated  int32, 1 if cut
      example_inputs    string, the input without prompt
      prompts_pretokenized, subtasks_pretokenized, example_targets  string [U]
    and whatever else the example has: of `subtask_features` the entry of this
    subtask. Strings of the whole example (the last two lines) and all else are
    at home in the first subtask and empty in the others: metrics need them
    once, and U times would be a great deal of memory.
  """
  limits = tf_assertions.Limits.of(sequence_length)

  @tf.autograph.experimental.do_not_convert
  def lay_out(example: Example) -> Example:
    example = dict(example)
    num_subtasks = tf.size(example['subtasks'])
    index = tf.range(num_subtasks)
    column = lambda value: tf.fill([num_subtasks, 1], value)
    # All subtasks at once: one run of the graph, not U.
    prompt_lengths = example.pop('prompts_row_lengths')
    tf_assertions.check_prompt_in_encoder(task, example, prompt_lengths, limits)
    prompts = _ragged(example.pop('prompts'), prompt_lengths)
    context, inputs_cut = _fit_beside(
      task, example, prompt_lengths, limits.inputs, long_inputs
    )
    target_lengths = example.pop('targets_row_lengths')
    targets = _ragged(example.pop('targets'), target_lengths)
    targets = tf.concat([targets, column(vocabulary.eos_id)], axis=1)
    empty_place = places(example.pop('subtasks'))
    for key in ('inputs', 'subtask_weights'):  # Stock T5s know no weights.
      del example[key]
    name = example.pop('example_id')
    texts = {k: example.pop(f'{k}_pretokenized') for k in ('inputs', 'targets')}
    own = {
      k: example.pop(k)
      for k in (*subtask_features, examples.CHOICES)
      if k in example or k != examples.CHOICES  # Few tasks have choices.
    }
    whole = {
      **example,
      'example_inputs': texts['inputs'],
      'example_targets': texts['targets'],
    }
    return {
      **{k: _in_first_row(v, index) for k, v in whole.items()},
      **own,
      'example_id': tf.fill([num_subtasks], name),
      'subtask_index': index,
      'num_subtasks': tf.fill([num_subtasks], num_subtasks),
      'subtask_name': example['subtasks_pretokenized'],
      'empty_place': empty_place,
      'inputs': pie.join(
        prompts,
        context,
        column(vocabulary.eos_id),
        concatenate=functools.partial(tf.concat, axis=1),
      ),
      'inputs_pretokenized': tf.strings.join(
        [example['prompts_pretokenized'], texts['inputs']], ' '
      ),
      'inputs_truncated': inputs_cut,
      'targets': targets[:, : limits.targets],
      'targets_pretokenized': texts['targets'],
      'targets_truncated': _is_over(target_lengths + 1, limits.targets),
    }

  dataset = dataset.map(lay_out, num_parallel_calls=tf.data.AUTOTUNE).unbatch()
  # Rows of ragged tensors are plain tensors, but only a map says so.
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
  """Lays each example out with one long target.

  Args:
    dataset: from `tokenize`.
    sequence_length: S and T (of all targets with separators and EOS).
    task: name of the task, for messages.
    vocabulary: encodes the separator, gives the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'.
    separator: stands between targets; no target may contain it.
    newline: a sentinel that newlines of `separator` are written as, or None.

  Returns:
    A dataset of `inputs` and `targets`, of `inputs_truncated` and
    `targets_truncated` (int32, 1 if cut) and of the example's strings, with
    `targets_pretokenized` joined and `example_targets` [U].

  Raises:
    ValueError: the vocabulary cannot express the separator.
  """
  limits = tf_assertions.Limits.of(sequence_length)
  between = separator_ids(vocabulary, separator, newline)
  pattern = f'(?s).*{re.escape(separator.strip())}.*'

  @tf.autograph.experimental.do_not_convert
  def lay_out(example: Example) -> Example:
    example = dict(example)
    texts = example.pop('targets_pretokenized')
    has_separator = tf.strings.regex_full_match(texts, pattern)
    tf_assertions.check_joint(task, example, has_separator, separator.strip())
    lengths = example.pop('targets_row_lengths')
    for key in (
      'prompts',
      'prompts_row_lengths',
      'subtasks',
      'subtask_weights',
    ):
      del example[key]

    rows = _ragged(example['targets'], lengths)
    separators = tf.tile([between], [tf.size(texts), 1])
    targets = tf.concat([rows, separators], axis=1).flat_values
    targets = targets[: tf.size(targets) - len(between)]
    targets = _with_eos(targets, vocabulary)
    inputs, cut = _fit(
      task, example, example['inputs'], limits.inputs, long_inputs
    )
    return {
      **example,
      'inputs': _with_eos(inputs, vocabulary),
      'inputs_truncated': cut,
      'targets': targets[: limits.targets],
      'targets_pretokenized': tf.strings.reduce_join(
        texts, separator=separator
      ),
      'targets_truncated': _is_over(tf.size(targets), limits.targets),
      'example_targets': texts,
    }

  return dataset.map(lay_out, num_parallel_calls=tf.data.AUTOTUNE)


def separator_ids(
  vocabulary: seqio.Vocabulary, separator: str, newline: str | None = None
) -> list[int]:
  """Encodes the separator of the joint layout; raises if that loses it."""
  ids = vocabulary.encode(newlines.mark(separator, newline))
  found = newlines.restore(vocabulary.decode(ids), newline)
  if not separator.strip() or found.strip() != separator.strip():
    raise ValueError(
      f'the vocabulary cannot express the joint separator {separator!r}: it '
      f'decodes as {found!r}; choose another joint_separator'
    )
  return list(ids)


def places(subtasks: tf.Tensor) -> tf.Tensor:
  """Ranks the drawn subtasks.

  Args:
    subtasks: int32 [..., U], 0, or the number that `draw` gave.

  Returns:
    int32 [..., U], the place of each number > 0 among those of its row, from
    0; -1 where there is none.
  """
  drawn = subtasks > 0
  numbers = tf.where(drawn, subtasks, tf.int32.max)
  order = tf.argsort(numbers, stable=True)
  return tf.where(drawn, tf.argsort(order, stable=True), -1)


def _fit(
  task: str,
  example: Example,
  tokens: tf.Tensor,
  limit: int | tf.Tensor | None,
  long_inputs: str,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Cuts `tokens` to `limit` - 1; returns them, and int32 1 if any was cut."""
  if limit is None:
    return tokens, tf.constant(0)
  size = tf.size(tokens)
  cut = size > limit - 1
  if long_inputs == 'error':
    tf_assertions.check_input(task, example, cut, size + 1, limit)
  start, end = pie.kept_range(size, 0, limit, long_inputs, minimum=tf.minimum)
  return tokens[start:end], tf.cast(cut, tf.int32)


def _fit_beside(
  task: str,
  example: Example,
  prompt_lengths: tf.Tensor,
  limit: int | None,
  long_inputs: str,
) -> tuple[tf.Tensor, tf.Tensor]:
  """Cuts the input to what each prompt leaves of `limit` tokens with EOS.

  Args:
    task: name of the task.
    example: with `inputs` int32 [s].
    prompt_lengths: int32 [U].
    limit: of prompt, input and EOS together, or None.
    long_inputs: 'keep_start', 'keep_end' or 'error'.

  Returns:
    int32 [U, (s)], ragged; and int32 [U], 1 where any was cut.
  """
  inputs = example['inputs']
  size = tf.size(inputs)
  start, end = pie.kept_range(
    size, prompt_lengths, limit, long_inputs, minimum=tf.minimum
  )
  cut = end - start < size
  if long_inputs == 'error' and limit is not None:
    tf_assertions.check_input(
      task,
      example,
      tf.reduce_any(cut),
      size + 1,
      limit - tf.reduce_max(prompt_lengths),
    )
  kept_index = tf.ragged.range(start, end, row_splits_dtype=tf.int32)
  return tf.gather(inputs, kept_index), tf.cast(cut, tf.int32)


def _is_over(lengths: tf.Tensor, limit: int | None) -> tf.Tensor:
  """int32, 1 where a length exceeds `limit`."""
  if limit is None:
    return tf.zeros_like(lengths)
  return tf.cast(lengths > limit, tf.int32)


def _in_first_row(value: tf.Tensor, index: tf.Tensor) -> tf.Tensor:
  """[...], [U] -> [U, ...]: `value`, then U - 1 times something empty."""
  if value.shape.rank == 0:
    return tf.where(index == 0, value, tf.zeros([], value.dtype))
  return _ragged(value, tf.where(index == 0, tf.shape(value)[0], 0))


def _ragged(flat: tf.Tensor, lengths: tf.Tensor) -> tf.RaggedTensor:
  """[n, ...], [U] -> [U, (length), ...]."""
  return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)


def _with_eos(tokens: tf.Tensor, vocabulary: seqio.Vocabulary) -> tf.Tensor:
  return tf.pad(tokens, [[0, 1]], constant_values=vocabulary.eos_id)


def _rows(flat: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
  """[n], [U] -> [U, max(lengths)], padded with 0."""
  return _ragged(flat, lengths).to_tensor()


def _rows_with_eos(
  rows: tf.Tensor, lengths: tf.Tensor, vocabulary: seqio.Vocabulary
) -> tf.Tensor:
  """[U, t], [U] -> [U, t + 1], each row with EOS behind its last token."""
  rows = tf.pad(rows, [[0, 0], [0, 1]])
  return rows + vocabulary.eos_id * tf.one_hot(
    lengths, tf.shape(rows)[1], dtype=tf.int32
  )
