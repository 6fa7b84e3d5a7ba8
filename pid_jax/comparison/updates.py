# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of PiE and joint that hold the very examples of PiD's updates.

SeqIO shuffles the three tasks of one registration in three orders, and packs
them so that a batch of so many rows holds a different number of inputs in each
layout. A like-for-like comparison needs the same inputs in the same update. So
there is one stream, that of PiD: its task, its shuffling, its draw of empty
subtasks, its packing and its batches, exactly as its own run reads them. Each
of its batches of B packed rows is then laid out anew:

  pie    each subtask in the batch is a pair: prompt, input (as it was cut for
         PiD) and EOS; its target. Same subtasks, same loss weights.
  joint  each input in the batch is a pair: the input; *all* its targets with
         separators between them, also those of empty subtasks that PiD's draw
         left out, since a joint target has no way to leave out one. An input
         whose subtasks fill several rows of PiD comes once, with the first.

The pairs of one update are packed, first fit, into as few rows as they need,
and these are padded with empty rows to the number that the fullest update
needs, because every update must have one shape. `measure` finds that number by
reading through all updates beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import math

import seqio
import tensorflow as tf

from pid_jax.subtasks import layouts
from pid_jax.subtasks import messages
from pid_jax.subtasks import packing
from pid_jax.trainer import data

LAYOUTS = ('pid', 'pie', 'joint')
_MULTIPLE = 8  # Of lengths, for the sake of vector units.

_Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Shape:
  """The shape of a layout's updates, and what is in them.

  Attributes:
    rows: of a batch.
    encoder_length: S, tokens of an encoder row.
    decoder_length: L, tokens of a decoder row.
    pairs: inputs with a target (of PiD: subtasks) in all updates together.
    encoder_tokens: in all updates, padding left out.
    decoder_tokens: in all updates, padding left out.
  """

  rows: int
  encoder_length: int
  decoder_length: int
  pairs: int
  encoder_tokens: int
  decoder_tokens: int


def text_lengths(
  layout: str, lengths: Mapping[str, int], separator_tokens: int
) -> dict[str, int]:
  """The feature lengths under which nothing is cut that PiD does not cut.

  Args:
    layout: 'pie' or 'joint'.
    lengths: of PiD's task features: S, P, T and U.
    separator_tokens: between two targets of the joint layout.

  Returns:
    Lengths of `inputs` and `targets`.
  """
  inputs, targets = lengths['inputs'], lengths['targets']
  if layout == 'pie':
    return {'inputs': inputs + lengths['prompts'], 'targets': targets}
  between = (lengths['subtasks'] - 1) * separator_tokens
  return {
    'inputs': inputs,
    'targets': lengths['subtasks'] * (targets - 1) + between + 1,
  }


def measure(
  cfg: data.DatasetConfig, layout: str, num_updates: int
) -> tuple[Shape, int]:
  """Reads the updates of PiD and finds what a layout makes of them.

  Args:
    cfg: of PiD's run, with its seed.
    layout: 'pid', 'pie' or 'joint'.
    num_updates: to read.

  Returns:
    The shape, and the number of inputs in all updates.
  """
  inputs = num_pairs = encoder_tokens = decoder_tokens = longest = 0
  for update in _pairs(cfg, layout).take(num_updates).as_numpy_iterator():
    targets = (update['targets'] > 0).sum(-1)
    inputs += int(update['num_inputs'])
    num_pairs += len(targets)
    encoder_tokens += int((update['inputs'] > 0).sum())
    decoder_tokens += int(targets.sum())
    longest = max(longest, int(targets.max(initial=0)))
  lengths = cfg.task_feature_lengths
  rows, encoder_length = cfg.batch_size, lengths['inputs']
  decoder_length = lengths['decoder']
  if layout != 'pid':
    rows = 0
    if layout == 'pie':
      encoder_length += lengths['prompts']
    # A row that is full of inputs should have room for their targets.
    beside = 1.1 * encoder_length * decoder_tokens / max(encoder_tokens, 1)
    decoder_length = _MULTIPLE * math.ceil(max(longest, beside) / _MULTIPLE)
  shape = Shape(
    rows,
    encoder_length,
    decoder_length,
    num_pairs,
    encoder_tokens,
    decoder_tokens,
  )
  if layout != 'pid':
    size = lambda update: tf.shape(_packed(update, shape)['decoder_positions'])
    # A dataset that is read again would be shuffled anew.
    counts = (
      _pairs(cfg, layout)
      .take(num_updates)
      .map(
        _plain(size),
        num_parallel_calls=tf.data.AUTOTUNE,
      )
    )
    fullest = max(int(n) for n, _ in counts.as_numpy_iterator())
    shape = dataclasses.replace(shape, rows=fullest)
  return shape, inputs


def train_config(
  cfg: data.DatasetConfig, layout: str, shape: Shape
) -> data.DatasetConfig:
  """What a layout trains on so that its updates are those of PiD.

  Args:
    cfg: of PiD's run, with its seed.
    layout: 'pid', 'pie' or 'joint'.
    shape: of `measure`.
  """
  if layout == 'pid':
    return cfg
  task = data.get_task(cfg.mixture_or_task_name)
  separator = len(_separator(task.name)) if layout == 'joint' else 0
  return dataclasses.replace(
    cfg,
    mixture_or_task_name=f'{task.name}_{layout}',
    task_feature_lengths=text_lengths(
      layout, cfg.task_feature_lengths, separator
    ),
    batch_size=shape.rows,
    feature_converter=lambda pack: SameUpdates(cfg, layout, shape),
  )


class SameUpdates(seqio.FeatureConverter):
  """Gives a text-to-text task the rows that PiD's updates make.

  It converts nothing of the task's own: what it returns comes from PiD's task
  of the same registration, in PiD's order. `Shape.rows` consecutive rows are
  one update.
  """

  TASK_FEATURES = {}
  MODEL_FEATURES = {}
  PACKING_FEATURE_DTYPES = {}

  def __init__(self, cfg: data.DatasetConfig, layout: str, shape: Shape):
    """Configures the converter.

    Args:
      cfg: of PiD's run, with its seed.
      layout: 'pie' or 'joint'.
      shape: of `measure`.
    """
    super().__init__()
    self._cfg, self._layout, self._shape = cfg, layout, shape

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Returns rows [S] and [L] of packed pairs; see `packing.pack_pairs`."""
    del ds, task_feature_lengths
    shape = self._shape

    def pad(update: _Tensors) -> _Tensors:
      rows = _packed(update, shape)
      missing = shape.rows - tf.shape(rows['encoder_input_tokens'])[0]
      messages.require(
        missing >= 0,
        lambda: [
          f'an update needs more than the {shape.rows} rows that were measured '
          'before: the data changed since; begin with a new --output'
        ],
      )
      return {
        name: tf.ensure_shape(
          tf.pad(value, [[0, missing], [0, 0]]), [shape.rows, value.shape[1]]
        )
        for name, value in rows.items()
      }

    ds = _pairs(self._cfg, self._layout)
    return ds.map(_plain(pad), num_parallel_calls=tf.data.AUTOTUNE).unbatch()

  def _convert_features(self, ds, task_feature_lengths):
    raise NotImplementedError('see __call__')

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """See base class; of the one feature that nobody can guess."""
    return {'decoder_target_tokens': self._shape.decoder_length}


def _packed(update: _Tensors, shape: Shape) -> _Tensors:
  return packing.pack_pairs(
    update['inputs'],
    update['targets'],
    update['weights'],
    encoder_length=shape.encoder_length,
    decoder_length=shape.decoder_length,
    bos_id=0,
  )


def _pairs(cfg: data.DatasetConfig, layout: str) -> tf.data.Dataset:
  """The pairs of one update after another, without end.

  Returns:
    `inputs` int32 [K, s], `targets` int32 [K, t], `weights` float32 [K], and
    `num_inputs` int32. Of PiD the pairs are its own: `inputs` is empty but for
    the first subtask of an input, `targets` is a prompt with its target.
  """
  converter = data.feature_converter(cfg)
  task = data.get_task(cfg.mixture_or_task_name)
  lengths = dict(cfg.task_feature_lengths)
  separator = _separator(task.name) if layout == 'joint' else []

  def pack(window: _Tensors) -> _Tensors:
    return _rows_of_pairs(
      window, converter.pack_window(_coded(window), lengths), layout, separator
    )

  def join(rows: _Tensors) -> _Tensors:
    """[B, m, ...] -> [K, ...]."""
    there = tf.reduce_any(rows['targets'] > 0, axis=-1)
    names = ('inputs', 'targets', 'weights')
    pairs = {name: tf.boolean_mask(rows[name], there) for name in names}
    return {**pairs, 'num_inputs': tf.reduce_sum(rows['num_inputs'])}

  features = ('inputs', 'inputs_truncated', 'prompts', 'subtasks', 'targets')
  features = (*features, 'subtask_weights')
  ds = task.get_dataset(
    lengths,
    cfg.split,
    use_cached=cfg.use_cached,
    shuffle=cfg.shuffle,
    seed=cfg.seed,
    num_epochs=None,
  )
  ds = ds.map(_plain(lambda example: {k: example[k] for k in features}))
  ds = ds.padded_batch(converter.window)
  ds = ds.map(_plain(pack), num_parallel_calls=tf.data.AUTOTUNE).unbatch()
  ds = ds.padded_batch(cfg.batch_size, drop_remainder=True)
  return ds.map(_plain(join), num_parallel_calls=tf.data.AUTOTUNE)


def _coded(window: _Tensors) -> _Tensors:
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


def _rows_of_pairs(
  window: _Tensors, rows: _Tensors, layout: str, separator: list[int]
) -> _Tensors:
  """The pairs in each row of PiD.

  Args:
    window: the features of W examples.
    rows: what packing made of them, in numbers of `_coded`.
    layout: 'pid', 'pie' or 'joint'.
    separator: token ids between the targets of joint.

  Returns:
    `inputs` int32 [R, m, s], `targets` int32 [R, m, t], `weights` float32
    [R, m] and `num_inputs` int32 [R]; no pair where `targets` is 0.
  """
  # Numbers at the starts of inputs and subtasks, row after row.
  begin = (rows['encoder_positions'] == 0) & (rows['encoder_segment_ids'] > 0)
  row_of_input = tf.cast(tf.where(begin)[:, 0], tf.int32)
  which = tf.boolean_mask(rows['encoder_input_tokens'], begin) - 1  # [n]
  is_first = _is_first(which)
  row_of_input = tf.boolean_mask(row_of_input, is_first)
  first_inputs = tf.boolean_mask(which, is_first)
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
      inputs = _concatenated(prompts, inputs)
    else:
      is_first = _is_first(of_input)
      inputs *= tf.cast(is_first, tf.int32)[:, tf.newaxis]
      targets = _concatenated(prompts, targets)
  sizes = tf.math.bincount(row, minlength=num_rows, maxlength=num_rows)
  by_row = lambda values: tf.RaggedTensor.from_row_lengths(
    values, sizes, validate=False
  ).to_tensor()
  return {
    'inputs': by_row(inputs),
    'targets': by_row(targets),
    'weights': by_row(weights),
    'num_inputs': tf.math.bincount(
      row_of_input, minlength=num_rows, maxlength=num_rows
    ),
  }


def _is_first(values: tf.Tensor) -> tf.Tensor:
  """[n] -> bool [n], True where a value occurs for the first time."""
  place = tf.range(tf.size(values))
  names, group = tf.unique(values)
  first = tf.math.unsorted_segment_min(place, group, tf.size(names))
  return place == tf.gather(first, group)


def _concatenated(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
  """[k, a], [k, b], padded with 0 -> [k, c], padded with 0."""
  both = tf.concat([left, right], axis=1)
  lengths = tf.math.count_nonzero(both, axis=1, dtype=tf.int32)
  return tf.RaggedTensor.from_row_lengths(
    tf.boolean_mask(both, both > 0), lengths, validate=False
  ).to_tensor()


def _joined(window: _Tensors, separator: list[int]) -> tf.Tensor:
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


def _separator(name: str) -> list[int]:
  """Token ids between the targets of `name`_joint."""
  task = data.get_task(f'{name}_joint')
  return layouts.separator_ids(
    task.output_features['targets'].vocabulary,
    task.layout.joint_separator,
    task.layout.newline,
  )


def _plain(function):
  return tf.autograph.experimental.do_not_convert(function)
