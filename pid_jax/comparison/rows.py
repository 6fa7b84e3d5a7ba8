# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lays out anew what packing put into the rows of an update of PiD.

Letters: W inputs of a window, R rows that packing made of them, m items of a
row; lower case s, u, p, t are the largest extents.
"""

from __future__ import annotations

import tensorflow as tf

from pid_jax.subtasks import prompt_in_encoder as pie

Tensors = dict[str, tf.Tensor]


def coded(window: Tensors) -> Tensors:
  """Puts in place of each token the number of whose it is.

  Packing looks at lengths alone. So rows of such numbers say where everything
  went: input w is w + 1, and subtask j of it w u + j + 1.
  """
  inputs, prompts, targets = (
    window[k] for k in ('inputs', 'prompts', 'targets')
  )
  num_inputs, num_subtasks = tf.shape(prompts)[0], tf.shape(prompts)[1]
  of_input = tf.range(num_inputs)[:, tf.newaxis] + 1
  of_subtask = tf.reshape(
    tf.range(num_inputs * num_subtasks) + 1, [num_inputs, num_subtasks, 1]
  )
  is_there = lambda tokens: tf.cast(tokens > 0, tf.int32)
  return {
    **window,
    'inputs': is_there(inputs) * of_input,
    'prompts': is_there(prompts) * of_subtask,
    'targets': is_there(targets) * of_subtask,
  }


def of_pairs(
  window: Tensors, rows: Tensors, layout: str, separator: list[int]
) -> Tensors:
  """The pairs in each row of PiD.

  Args:
    window: the features of W examples.
    rows: what packing made of them, in numbers of `coded`.
    layout: 'pid', 'pie' or 'joint'.
    separator: token ids between the targets of joint.

  Returns:
    `inputs` int32 [R, m, s], `targets` int32 [R, m, t], `weights` float32
    [R, m] and `num_inputs` int32 [R]; no pair where `targets` is 0. Of PiD the
    pairs are its own: `inputs` is empty but for the first subtask of an input,
    `targets` is a prompt with its target.
  """
  first_inputs, row_of_input = _first_inputs(rows)
  begin = (rows['decoder_positions'] == 0) & (rows['decoder_segment_ids'] > 0)
  row_of_subtask = tf.cast(tf.where(begin)[:, 0], tf.int32)
  subtask = tf.boolean_mask(rows['decoder_target_tokens'], begin) - 1  # [k]
  num_rows, num_subtasks = tf.shape(begin)[0], tf.shape(window['prompts'])[1]
  of_input = subtask // num_subtasks

  flat = lambda name: tf.gather(
    tf.reshape(
      window[name], tf.concat([[-1], tf.shape(window[name])[2:]], axis=0)
    ),
    subtask,
  )
  if layout == 'joint':
    row, weights = row_of_input, tf.ones_like(first_inputs, tf.float32)
    inputs = tf.gather(window['inputs'], first_inputs)
    targets = tf.gather(_joined(window, separator), first_inputs)
  else:
    row, weights = row_of_subtask, flat('subtask_weights')
    inputs = tf.gather(window['inputs'], of_input)
    prompts, targets = flat('prompts'), flat('targets')
    if layout == 'pie':
      inputs = pie.join(prompts, inputs, concatenate=_concatenated)
    else:
      is_first = _is_first(of_input)
      inputs *= tf.cast(is_first, tf.int32)[:, tf.newaxis]
      targets = _concatenated([prompts, targets])
  pairs = {'inputs': inputs, 'targets': targets, 'weights': weights}
  counts = _count(row_of_input, num_rows)
  return {**_by_row(pairs, row, num_rows), 'num_inputs': counts}


def of_examples(window: Tensors, rows: Tensors) -> Tensors:
  """The examples of a window, each in the row where its input comes first.

  Args:
    window: features of W examples.
    rows: as in `of_pairs`.

  Returns:
    The features with [R, m] in place of [W], 0 where there is none, and
    `num_inputs` int32 [R].
  """
  which, row = _first_inputs(rows)
  num_rows = tf.shape(rows['encoder_positions'])[0]
  chosen = {name: tf.gather(value, which) for name, value in window.items()}
  return {
    **_by_row(chosen, row, num_rows),
    'num_inputs': _count(row, num_rows),
  }


def _first_inputs(rows: Tensors) -> tuple[tf.Tensor, tf.Tensor]:
  """Which inputs [n] of the window stand in the rows, and the row [n] of each.

  Of those that stand in several, the first.
  """
  begin = (rows['encoder_positions'] == 0) & (rows['encoder_segment_ids'] > 0)
  row = tf.cast(tf.where(begin)[:, 0], tf.int32)
  which = tf.boolean_mask(rows['encoder_input_tokens'], begin) - 1
  is_first = _is_first(which)
  return tf.boolean_mask(which, is_first), tf.boolean_mask(row, is_first)


def _by_row(values: Tensors, row: tf.Tensor, num_rows: tf.Tensor) -> Tensors:
  """[n, ...], by rising row [n] -> [R, m, ...]."""
  sizes = _count(row, num_rows)
  return {
    name: tf.RaggedTensor.from_row_lengths(
      value, sizes, validate=False
    ).to_tensor()
    for name, value in values.items()
  }


def _count(row: tf.Tensor, num_rows: tf.Tensor) -> tf.Tensor:
  return tf.math.bincount(row, minlength=num_rows, maxlength=num_rows)


def _is_first(values: tf.Tensor) -> tf.Tensor:
  """[n] -> bool [n], True where a value occurs for the first time."""
  place = tf.range(tf.size(values))
  names, group = tf.unique(values)
  first = tf.math.unsorted_segment_min(place, group, tf.size(names))
  return place == tf.gather(first, group)


def _concatenated(parts: list[tf.Tensor]) -> tf.Tensor:
  """[k, a], [k, b], padded with 0 -> [k, c], padded with 0."""
  both = tf.concat(parts, axis=1)
  lengths = tf.math.count_nonzero(both, axis=1, dtype=tf.int32)
  return tf.RaggedTensor.from_row_lengths(
    tf.boolean_mask(both, both > 0), lengths, validate=False
  ).to_tensor()


def _joined(window: Tensors, separator: list[int]) -> tf.Tensor:
  """The joint targets of the examples of a window, int32 [W, t]."""
  targets = window['targets']
  there = tf.reduce_any(window['prompts'] > 0, axis=-1)  # [W, u]
  # EOS is 1: the layouts put it, and a target that was cut has none.
  lengths = tf.math.count_nonzero(targets > 1, axis=-1, dtype=tf.int32)
  rows = tf.RaggedTensor.from_tensor(
    tf.boolean_mask(targets, there), tf.boolean_mask(lengths, there)
  )
  between = tf.tile([separator], [rows.nrows(out_type=tf.int32), 1])
  joined = tf.concat([rows, between], axis=1)
  counts = tf.math.count_nonzero(there, axis=1, dtype=tf.int32)
  of_example = tf.math.segment_sum(
    tf.cast(joined.row_lengths(), tf.int32),
    tf.repeat(tf.range(tf.size(counts)), counts),
  )
  examples = tf.RaggedTensor.from_row_lengths(
    joined.flat_values, of_example, validate=False
  )
  # EOS in place of the last separator.
  examples = examples[:, : -len(separator)]
  eos = tf.ones([tf.size(counts), 1], tf.int32)
  return tf.concat([examples, eos], axis=1).to_tensor()
