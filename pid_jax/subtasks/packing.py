# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Packs a window of inputs with their subtasks into rows of S and L tokens.

Pure TensorFlow, stateless and deterministic: a window of consecutive examples
is packed by itself, with no state between windows. So the dataset's iterator
can be checkpointed, and a resumed run sees the same rows.

Three steps, each on whole vectors (a graph with many small operations per
example would cost more than the work itself):
  1. An input whose subtasks exceed L tokens is split into parts. Each part
     repeats the input, so no subtask is dropped. Most inputs are one part.
  2. First fit: parts in decreasing order of their share of a row, each into the
     first row with room for its input and its subtasks.
  3. Rows are ordered by their earliest input (decreasing order would make
     batches of long inputs only), then concatenated.

Letters: W inputs of the window, K subtasks kept in it, I parts, R rows, n
tokens in all; lower case s, u, p, t are the largest sizes in the window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import tensorflow as tf

from pid_jax.subtasks import preprocessors
from pid_jax.subtasks import tf_assertions


class _Parts(NamedTuple):
  """Inputs, each with those of its subtasks that share a row with it."""

  input_index: tf.Tensor  # int32 [I], index of the input in the window.
  is_first: tf.Tensor  # bool [I], whether it is the first part of its input.
  of_subtask: tf.Tensor  # int32 [K], the part of each kept subtask.
  size: tf.Tensor  # int32 [I, 3], encoder tokens, decoder tokens, 1.


def pack_window(
  window: Mapping[str, tf.Tensor],
  *,
  encoder_length: int,
  decoder_length: int,
  max_inputs_per_row: int,
  max_empty_subtasks: int | None,
  bos_id: int,
  eos_id: int,
) -> dict[str, tf.Tensor]:
  """Packs the multi-prompt features of W inputs into R rows.

  Args:
    window: `inputs` int32 [W, s]; `prompts` [W, u, p]; `targets` [W, u, t];
      `subtasks` [W, u]; `subtask_weights` float32 [W, u]; `inputs_truncated`
      [W, 1]; padded with 0. Subtasks without any token are padding.
    encoder_length: S; no input is longer.
    decoder_length: L; no prompt with its target is longer.
    max_inputs_per_row: the most inputs in a row.
    max_empty_subtasks: of the subtasks of an input with a sampling key (a
      `subtasks` other than 0), keep at most this many, those with the smallest
      keys; None keeps all.
    bos_id: first decoder input token of every subtask.
    eos_id: last token of a target that was not truncated.

  Returns:
    The model's training features, [R, ...], as documented in
    `PromptInDecoderFeatureConverter`.
  """
  inputs, prompts, targets = (
    window[k] for k in ('inputs', 'prompts', 'targets')
  )
  input_lengths = _num_tokens(inputs)  # [W]
  prompt_lengths, target_lengths = _num_tokens(prompts), _num_tokens(targets)
  lengths = prompt_lengths + target_lengths  # [W, u]
  keep = lengths > 0
  if max_empty_subtasks is not None:
    ranks = preprocessors.key_ranks(window['subtasks'])
    keep &= ranks < max_empty_subtasks
  lengths = tf.where(keep, lengths, 0)

  parts = _split(input_lengths, lengths, keep, decoder_length)
  capacity = [encoder_length, decoder_length, max_inputs_per_row]
  row_of_part = _first_fit(parts.size, capacity)  # [I]

  # Sort parts and subtasks by row.
  order = tf.argsort(row_of_part, stable=True)
  row_of_part = tf.gather(row_of_part, order)
  position_of_part = tf.math.invert_permutation(order)
  part_of_subtask = tf.gather(position_of_part, parts.of_subtask)  # [K]
  subtask_order = tf.argsort(part_of_subtask, stable=True)
  part_of_subtask = tf.gather(part_of_subtask, subtask_order)
  segment = _count_within(row_of_part)  # [I]
  row_of_subtask = tf.gather(row_of_part, part_of_subtask)
  kept = tf.gather(tf.where(keep), subtask_order)  # int64 [K, 2]

  input_index = tf.gather(parts.input_index, order)
  encoder = _encoder_rows(
    tf.gather(inputs, input_index),
    tf.gather(input_lengths, input_index),
    row_of_part,
    segment,
    encoder_length,
  )
  decoder = _decoder_rows(
    tf.gather_nd(prompts, kept),
    tf.gather_nd(prompt_lengths, kept),
    tf.gather_nd(targets, kept),
    tf.gather_nd(target_lengths, kept),
    tf.gather_nd(window['subtask_weights'], kept),
    row_of_subtask,
    tf.gather(segment, part_of_subtask),
    decoder_length,
    bos_id,
  )

  first = tf.cast(tf.gather(parts.is_first, order), tf.int32)
  inputs_truncated = first * tf.gather(
    window['inputs_truncated'][:, 0], input_index
  )
  has_eos = tf.reduce_any(targets == eos_id, axis=-1)
  targets_truncated = tf.cast(~tf.gather_nd(has_eos, kept), tf.int32)
  return {
    **encoder,
    **decoder,
    'inputs_truncated': tf.math.segment_sum(inputs_truncated, row_of_part),
    'targets_truncated': tf.math.segment_sum(targets_truncated, row_of_subtask),
    'inputs_repeated': tf.math.segment_sum(1 - first, row_of_part),
  }


def pack_pairs(
  inputs: tf.Tensor,
  targets: tf.Tensor,
  weights: tf.Tensor,
  *,
  encoder_length: int,
  decoder_length: int,
  bos_id: int,
) -> dict[str, tf.Tensor]:
  """Packs K inputs, each with one target, into R rows.

  A text-to-text example is an input with one subtask and an empty prompt.

  Args:
    inputs: int32 [K, s], padded with 0; K > 0.
    targets: int32 [K, t], padded with 0, each with at least one token.
    weights: float32 [K], of the targets in the loss.
    encoder_length: S; no input is longer.
    decoder_length: L; no target is longer.
    bos_id: first decoder input token of every target.

  Returns:
    int32 `encoder_` and `decoder_` `input_tokens`, `segment_ids` and
    `positions`, `decoder_target_tokens`, and float32 `decoder_loss_weights`:
    [R, S] and [R, L].
  """
  targets, weights = targets[:, tf.newaxis], weights[:, tf.newaxis]
  rows = pack_window(
    {
      'inputs': inputs,
      'inputs_truncated': tf.zeros([tf.shape(inputs)[0], 1], tf.int32),
      'prompts': tf.zeros_like(targets[:, :, :1]),
      'subtask_weights': weights,
      'subtasks': tf.zeros_like(weights, tf.int32),
      'targets': targets,
    },
    encoder_length=encoder_length,
    decoder_length=decoder_length,
    max_inputs_per_row=tf.int32.max,
    max_empty_subtasks=None,
    bos_id=bos_id,
    eos_id=0,  # Truncation is not counted here.
  )
  # The segments identify the targets.
  del rows['decoder_subtask_ids']
  return {k: v for k, v in rows.items() if k.startswith(('encoder', 'decoder'))}


def _num_tokens(tokens: tf.Tensor) -> tf.Tensor:
  """[..., n] -> [...]; no token has id 0."""
  return tf.math.count_nonzero(tokens, axis=-1, dtype=tf.int32)


def _split(
  input_lengths: tf.Tensor,
  lengths: tf.Tensor,
  keep: tf.Tensor,
  decoder_length: int,
) -> _Parts:
  """Splits each input into parts whose kept subtasks fit into a row.

  Args:
    input_lengths: int32 [W].
    lengths: int32 [W, u], of prompt and target; 0 where not kept.
    keep: bool [W, u].
    decoder_length: L.

  Returns:
    The parts, in the order of the inputs.
  """
  num_subtasks = tf.shape(lengths)[1]

  def next_fit():
    """The part of each subtask, [W, u]; for all inputs at once."""

    def step(j, part, used, parts):
      length = lengths[:, j]
      full = used + length > decoder_length
      part += tf.cast(full, tf.int32)
      used = tf.where(full, length, used + length)
      return j + 1, part, used, parts.write(j, part)

    zeros = tf.zeros_like(input_lengths)
    parts = tf.TensorArray(tf.int32, num_subtasks, element_shape=zeros.shape)
    *_, parts = tf.while_loop(
      lambda j, *_: j < num_subtasks, step, (0, zeros, zeros, parts)
    )
    return tf.transpose(parts.stack())

  fits = tf.reduce_max(tf.reduce_sum(lengths, axis=1)) <= decoder_length
  part = tf.cond(fits, lambda: tf.zeros_like(lengths), next_fit)

  kept = tf.cast(tf.where(keep), tf.int32)  # [K, 2]
  kept_input, kept_part = kept[:, 0], tf.boolean_mask(part, keep)
  # No input has more parts than subtasks, so these codes are unique.
  code, of_subtask = tf.unique(kept_input * num_subtasks + kept_part)
  input_index = code // tf.maximum(num_subtasks, 1)
  decoder_tokens = tf.math.segment_sum(
    tf.boolean_mask(lengths, keep), of_subtask
  )
  size = [
    tf.gather(input_lengths, input_index),
    decoder_tokens,
    tf.ones_like(decoder_tokens),
  ]
  is_first = _count_within(input_index) == 1
  return _Parts(input_index, is_first, of_subtask, tf.stack(size, axis=1))


def _first_fit(size: tf.Tensor, capacity: list[int]) -> tf.Tensor:
  """Returns the row of each part; rows are numbered by their earliest part.

  Args:
    size: int32 [I, 3], of each part.
    capacity: [3], of each row; no part is larger.

  Returns:
    int32 [I].
  """
  num_parts = tf.shape(size)[0]
  # The preprocessors have checked each example of a `DecomposableTask`, with a
  # message that names it; others are checked here.
  tf_assertions.require(
    tf.reduce_all(size <= capacity),
    lambda: [
      'an input of ', tf.reduce_max(size[:, 0]), ' tokens or a prompt with its '
      'target of ', tf.reduce_max(size[:, 1]), ' tokens exceeds the packed row '
      f'of {capacity[0]} and {capacity[1]} tokens',
    ],
  )  # fmt: skip
  share = tf.reduce_max(size[:, :2] / tf.constant(capacity[:2]), axis=1)
  order = tf.argsort(share, direction='DESCENDING', stable=True)
  size = tf.gather(size, order)

  def step(i, room, rows):
    fits = tf.reduce_all(room >= size[i], axis=1)
    row = tf.argmax(fits, output_type=tf.int32)
    room = tf.tensor_scatter_nd_sub(room, [[row]], size[i : i + 1])
    return i + 1, room, rows.write(i, row)

  room = tf.tile(tf.constant([capacity]), [num_parts, 1])
  rows = tf.TensorArray(tf.int32, num_parts, element_shape=[])
  *_, rows = tf.while_loop(lambda i, *_: i < num_parts, step, (0, room, rows))
  rows = tf.gather(rows.stack(), tf.math.invert_permutation(order))
  # Renumber; unused rows have no earliest part and come last.
  earliest = tf.math.unsorted_segment_min(tf.range(num_parts), rows, num_parts)
  number = tf.math.invert_permutation(tf.argsort(earliest, stable=True))
  return tf.gather(number, rows)


def _count_within(rows: tf.Tensor) -> tf.Tensor:
  """Counts within runs of equal values, from 1: sorted [n] -> [n]."""
  index = tf.range(tf.shape(rows)[0])
  return index - tf.searchsorted(rows, rows) + 1


def _encoder_rows(
  inputs: tf.Tensor,
  lengths: tf.Tensor,
  rows: tf.Tensor,
  segment: tf.Tensor,
  encoder_length: int,
) -> dict[str, tf.Tensor]:
  """Concatenates inputs [I, s] to rows [R, S]; `rows` and `segment` are [I]."""
  position = tf.range(tf.shape(inputs)[1])
  mask = position < lengths[:, tf.newaxis]
  tokens = tf.stack(
    [
      inputs,
      tf.broadcast_to(segment[:, tf.newaxis], tf.shape(inputs)),
      tf.broadcast_to(position, tf.shape(inputs)),
    ],
    axis=-1,
  )
  packed = _rows(
    tf.boolean_mask(tokens, mask),
    tf.math.segment_sum(lengths, rows),
    encoder_length,
  )
  names = ('input_tokens', 'segment_ids', 'positions')
  return {f'encoder_{n}': packed[..., i] for i, n in enumerate(names)}


def _decoder_rows(
  prompts: tf.Tensor,
  prompt_lengths: tf.Tensor,
  targets: tf.Tensor,
  target_lengths: tf.Tensor,
  weights: tf.Tensor,
  rows: tf.Tensor,
  segment: tf.Tensor,
  decoder_length: int,
  bos_id: int,
) -> dict[str, tf.Tensor]:
  """Concatenates subtasks to rows [R, L].

  Args:
    prompts: int32 [K, p].
    prompt_lengths: int32 [K].
    targets: int32 [K, t].
    target_lengths: int32 [K].
    weights: float32 [K].
    rows: int32 [K], sorted.
    segment: int32 [K], the input of the row that a subtask belongs to, from 1.
    decoder_length: L.
    bos_id: the token before each prompt.

  Returns:
    The decoder's features, [R, L].
  """
  mask = tf.concat(
    [
      tf.sequence_mask(prompt_lengths, tf.shape(prompts)[1]),
      tf.sequence_mask(target_lengths, tf.shape(targets)[1]),
    ],
    axis=1,
  )
  output = tf.boolean_mask(tf.concat([prompts, targets], axis=1), mask)  # [n]
  lengths = prompt_lengths + target_lengths
  subtask = tf.repeat(tf.range(tf.shape(lengths)[0]), lengths)  # [n]
  start = tf.cumsum(lengths, exclusive=True)
  position = tf.range(tf.size(output)) - tf.gather(start, subtask)
  before = tf.where(position == 0, bos_id, tf.roll(output, 1, 0))
  is_target = position >= tf.gather(prompt_lengths, subtask)
  weight = tf.where(is_target, tf.gather(weights, subtask), 0.0)
  per_subtask = tf.stack([segment, _count_within(rows)], axis=1)  # [K, 2]

  row_lengths = tf.math.segment_sum(lengths, rows)
  columns = [
    tf.stack([before, output, position], axis=1),
    tf.gather(per_subtask, subtask),
  ]
  packed = _rows(tf.concat(columns, axis=1), row_lengths, decoder_length)
  names = (
    'input_tokens',
    'target_tokens',
    'positions',
    'segment_ids',
    'subtask_ids',
  )
  return {
    **{f'decoder_{n}': packed[..., i] for i, n in enumerate(names)},
    'decoder_loss_weights': _rows(weight, row_lengths, decoder_length),
  }


def _rows(values: tf.Tensor, lengths: tf.Tensor, width: int) -> tf.Tensor:
  """[n, ...], [R] -> [R, width, ...], padded with 0."""
  rows = tf.RaggedTensor.from_row_lengths(values, lengths, validate=False)
  return rows.to_tensor(shape=[None, width, *values.shape[1:]])
