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
import re

import seqio
import tensorflow as tf

from pid_jax.subtasks import messages

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
  limits = messages.Limits.of(sequence_length)

  def lay_out(example: Example) -> Example:
    example = dict(example)
    prompt_lengths = example.pop('prompts_row_lengths')
    target_lengths = example.pop('targets_row_lengths')
    messages.check_multi_prompt(
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
) -> tf.data.Dataset:
  """Lays each subtask out as a text-to-text example of its own.

  Args:
    dataset: from `tokenize` and `draw`.
    sequence_length: S (of prompt and input together) and T.
    task: name of the task, for messages.
    vocabulary: gives the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'; the prompt stays whole.

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
    and whatever else the example has. Strings of the whole example (the last
    two lines) and all else are at home in the first subtask and empty in the
    others: metrics need them once, and U times would be a great deal of memory.
  """
  limits = messages.Limits.of(sequence_length)

  def subtasks(example: Example) -> tf.data.Dataset:
    example = dict(example)
    lengths = [example.pop(f'{k}_row_lengths') for k in ('prompts', 'targets')]
    prompts, targets = (
      tf.RaggedTensor.from_row_lengths(example.pop(k), n, validate=False)
      for k, n in zip(('prompts', 'targets'), lengths, strict=True)
    )
    messages.check_prompt_in_encoder(task, example, lengths[0], limits)
    empty_place = places(example.pop('subtasks'))
    inputs = example.pop('inputs')
    texts = {k: example.pop(f'{k}_pretokenized') for k in ('inputs', 'targets')}
    del example['subtask_weights']  # Text-to-text training has none.
    names = example['subtasks_pretokenized']
    whole = {
      **{k: v for k, v in example.items() if k != 'example_id'},
      'example_inputs': texts['inputs'],
      'example_targets': texts['targets'],
    }

    def subtask(u: tf.Tensor) -> Example:
      room = limits.inputs
      room = None if room is None else room - lengths[0][u]
      context, inputs_cut = _fit(task, example, inputs, room, long_inputs)
      target = _with_eos(targets[u], vocabulary)
      return {
        **{k: _only_if(u == 0, v) for k, v in whole.items()},
        'example_id': example['example_id'],
        'subtask_index': tf.cast(u, tf.int32),
        'num_subtasks': tf.size(names),
        'subtask_name': names[u],
        'empty_place': empty_place[u],
        'inputs': _with_eos(tf.concat([prompts[u], context], 0), vocabulary),
        'inputs_pretokenized': tf.strings.join(
          [example['prompts_pretokenized'][u], texts['inputs']], ' '
        ),
        'inputs_truncated': inputs_cut,
        'targets': target[: limits.targets],
        'targets_pretokenized': texts['targets'][u],
        'targets_truncated': _is_over(target, limits.targets),
      }

    return tf.data.Dataset.range(tf.size(names, tf.int64)).map(subtask)

  return dataset.flat_map(subtasks)


def joint(
  dataset: tf.data.Dataset,
  sequence_length: Lengths = None,
  *,
  task: str,
  vocabulary: seqio.Vocabulary,
  long_inputs: str,
  separator: str,
) -> tf.data.Dataset:
  """Lays each example out with one long target.

  Args:
    dataset: from `tokenize`.
    sequence_length: S and T (of all targets with separators and EOS).
    task: name of the task, for messages.
    vocabulary: encodes the separator, gives the EOS id.
    long_inputs: 'keep_start', 'keep_end' or 'error'.
    separator: stands between targets; no target may contain it.

  Returns:
    A dataset of `inputs` and `targets`, of `inputs_truncated` and
    `targets_truncated` (int32, 1 if cut) and of the example's strings, with
    `targets_pretokenized` joined and `example_targets` [U].

  Raises:
    ValueError: the vocabulary cannot express the separator.
  """
  limits = messages.Limits.of(sequence_length)
  between = tf.constant(separator_ids(vocabulary, separator))
  pattern = f'(?s).*{re.escape(separator.strip())}.*'

  def lay_out(example: Example) -> Example:
    example = dict(example)
    texts = example.pop('targets_pretokenized')
    has_separator = tf.strings.regex_full_match(texts, pattern)
    messages.check_joint(task, example, has_separator, separator.strip())
    lengths = example.pop('targets_row_lengths')
    for key in ('prompts', 'prompts_row_lengths', 'subtasks'):
      del example[key]
    del example['subtask_weights']

    rows = _rows(example['targets'], lengths)
    num_subtasks = tf.shape(rows)[0]
    separators = tf.tile(between[tf.newaxis], [num_subtasks, 1])
    rows = tf.concat([rows, separators], axis=1)
    mask = tf.concat(
      [
        tf.sequence_mask(lengths, tf.shape(rows)[1] - tf.size(between)),
        tf.ones_like(separators, tf.bool),
      ],
      axis=1,
    )
    targets = tf.boolean_mask(rows, mask)
    targets = targets[: tf.size(targets) - tf.size(between)]
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
      'targets_truncated': _is_over(targets, limits.targets),
      'example_targets': texts,
    }

  return dataset.map(lay_out, num_parallel_calls=tf.data.AUTOTUNE)


def separator_ids(vocabulary: seqio.Vocabulary, separator: str) -> list[int]:
  """Encodes the separator of the joint layout; raises if that loses it."""
  ids = vocabulary.encode(separator)
  if not separator.strip() or vocabulary.decode(ids).strip() != (
    separator.strip()
  ):
    raise ValueError(
      f'the vocabulary cannot express the joint separator {separator!r}: it '
      f'decodes as {vocabulary.decode(ids)!r}; choose another joint_separator'
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
    messages.check_input(task, example, cut, size + 1, limit)
  elif long_inputs == 'keep_end':
    tokens = tokens[tf.maximum(0, size - (limit - 1)) :]
  return tokens[: limit - 1], tf.cast(cut, tf.int32)


def _is_over(tokens: tf.Tensor, limit: int | None) -> tf.Tensor:
  """int32, 1 if there are more tokens than `limit`."""
  if limit is None:
    return tf.constant(0)
  return tf.cast(tf.size(tokens) > limit, tf.int32)


def _only_if(condition: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
  """`value`, or something empty of its type and rank."""
  if value.shape.rank == 0:
    return tf.where(condition, value, tf.zeros([], value.dtype))
  return value[: tf.where(condition, tf.shape(value)[0], 0)]


def _with_eos(tokens: tf.Tensor, vocabulary: seqio.Vocabulary) -> tf.Tensor:
  return tf.pad(tokens, [[0, 1]], constant_values=vocabulary.eos_id)


def _rows(flat: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
  """[n], [U] -> [U, max(lengths)], padded with 0."""
  rows = tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)
  return rows.to_tensor()


def _rows_with_eos(
  rows: tf.Tensor, lengths: tf.Tensor, vocabulary: seqio.Vocabulary
) -> tf.Tensor:
  """[U, t], [U] -> [U, t + 1], each row with EOS behind its last token."""
  rows = tf.pad(rows, [[0, 0], [0, 1]])
  return rows + vocabulary.eos_id * tf.one_hot(
    lengths, tf.shape(rows)[1], dtype=tf.int32
  )
