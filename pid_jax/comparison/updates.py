# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of PiE, joint and others with the very examples of PiD's updates.

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
  a task of other granularity (one subtask for each domain instead of each slot,
         say) with the same inputs in the same order: its example of each input
         in the batch, once, with all its subtasks, packed as PiD.

The pairs of one update are packed, first fit, into as few rows as they need,
and these are padded with empty rows to the number that the fullest update
needs, because every update must have one shape. `measure` finds that number by
reading through all updates beforehand, and the length of decoder rows with
which it makes for the fewest tokens in all.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import math

import numpy as np
import seqio
import tensorflow as tf

from pid_jax.comparison import rows as rows_lib
from pid_jax.subtasks import packing
from pid_jax.subtasks import preprocessors
from pid_jax.subtasks import tf_assertions
from pid_jax.trainer import data

LAYOUTS = ('pid', 'pie', 'joint')
_MULTIPLE = 8  # Of lengths, for the sake of vector units.
_SHARES = (0.6, 0.8, 1.0, 1.2)
_FEATURES = (
  'inputs', 'inputs_truncated', 'prompts', 'subtasks', 'targets',
  'subtask_weights',
)  # fmt: skip

_Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Arm:
  """One of those that are compared.

  Attributes:
    name: 'pid', 'pie' or 'joint': a layout of the task; or another multi-prompt
      task, whose examples have the same inputs in the same order.
    lengths: of the features of that other task; None for a layout.
  """

  name: str
  lengths: Mapping[str, int] | None = dataclasses.field(
    default=None, hash=False
  )

  @property
  def layout(self) -> str:
    return self.name if self.lengths is None else 'pid'

  def task(self, task: str) -> str:
    """The task to train and evaluate on, given that of PiD."""
    if self.lengths is not None:
      return self.name
    return task if self.name == 'pid' else f'{task}_{self.name}'


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

  @property
  def tokens(self) -> int:
    """Of a batch, padding included."""
    return self.rows * (self.encoder_length + self.decoder_length)


def lengths_of(cfg: data.DatasetConfig, arm: Arm) -> Mapping[str, int]:
  """The feature lengths of an arm's task.

  Those of PiE and joint are such that nothing is cut that PiD does not cut.

  Args:
    cfg: what PiD reads.
    arm: any.
  """
  lengths = cfg.task_feature_lengths
  inputs, targets = lengths['inputs'], lengths['targets']
  if arm.lengths is not None:
    return {**arm.lengths, 'inputs': inputs}
  if arm.name == 'pid':
    return lengths
  if arm.name == 'pie':
    return {'inputs': inputs + lengths['prompts'], 'targets': targets}
  between = len(separator(cfg.mixture_or_task_name))
  between *= lengths['subtasks'] - 1
  return {
    'inputs': inputs,
    'targets': lengths['subtasks'] * (targets - 1) + between + 1,
  }


def measure(
  cfg: data.DatasetConfig, arm: Arm, num_updates: int
) -> tuple[Shape, int]:
  """Reads the updates of PiD and finds what an arm makes of them.

  Args:
    cfg: of PiD's run, with its seed.
    arm: whose updates.
    num_updates: to read.

  Returns:
    The shape, and the number of inputs in all updates.
  """
  inputs = num_pairs = encoder_tokens = decoder_tokens = longest = 0
  for update in _updates(cfg, arm).take(num_updates).as_numpy_iterator():
    # Of one pair each; of another task's examples [n, u] -> [n u].
    targets = (update['targets'] > 0).sum(-1)
    if arm.lengths is not None:
      targets = (targets + (update['prompts'] > 0).sum(-1)).reshape(-1)
      targets = targets[targets > 0]
    inputs += int(update['num_inputs'])
    num_pairs += len(targets)
    encoder_tokens += int((update['inputs'] > 0).sum())
    decoder_tokens += int(targets.sum())
    longest = max(longest, int(targets.max(initial=0)))
  lengths = cfg.task_feature_lengths
  encoder_length = lengths['inputs']
  decoder_lengths = [(arm.lengths or lengths)['decoder']]
  if arm.name in ('pie', 'joint'):
    if arm.name == 'pie':
      encoder_length += lengths['prompts']
    # Beside a row that is full of inputs; how inputs and targets fit into rows
    # together decides which share of it is best.
    beside = encoder_length * decoder_tokens / max(encoder_tokens, 1)
    wanted = {max(longest, share * beside) for share in _SHARES}
    rounded = {_MULTIPLE * math.ceil(x / _MULTIPLE) for x in wanted}
    decoder_lengths = sorted(rounded)
  shapes = [
    Shape(
      cfg.batch_size,
      encoder_length,
      decoder_length,
      num_pairs,
      encoder_tokens,
      decoder_tokens,
    )
    for decoder_length in decoder_lengths
  ]
  if arm.name == 'pid':
    return shapes[0], inputs
  packers = [_packer(cfg, arm, shape) for shape in shapes]

  def count(update: _Tensors) -> tf.Tensor:
    return tf.stack(
      [tf.shape(pack(update)['decoder_positions'])[0] for pack in packers]
    )

  # A dataset that is read again would be shuffled anew.
  counts = _updates(cfg, arm).take(num_updates)
  counts = counts.map(_plain(count), num_parallel_calls=tf.data.AUTOTUNE)
  fullest = np.max(list(counts.as_numpy_iterator()), axis=0)
  shapes = [
    dataclasses.replace(shape, rows=int(rows))
    for shape, rows in zip(shapes, fullest, strict=True)
  ]
  return min(shapes, key=lambda shape: shape.tokens), inputs


def train_config(
  cfg: data.DatasetConfig, arm: Arm, shape: Shape
) -> data.DatasetConfig:
  """What an arm trains on so that its updates are those of PiD.

  Args:
    cfg: of PiD's run, with its seed.
    arm: that trains.
    shape: of `measure`.
  """
  if arm.name == 'pid':
    return cfg
  return dataclasses.replace(
    cfg,
    mixture_or_task_name=arm.task(cfg.mixture_or_task_name),
    task_feature_lengths=lengths_of(cfg, arm),
    batch_size=shape.rows,
    feature_converter=lambda pack: SameUpdates(cfg, arm, shape),
  )


class SameUpdates(seqio.FeatureConverter):
  """Gives an arm's task the rows that PiD's updates make.

  It converts nothing of what it is handed: what it returns comes in the order
  of PiD's task. `Shape.rows` consecutive rows are one update.
  """

  TASK_FEATURES = {}
  MODEL_FEATURES = {}
  PACKING_FEATURE_DTYPES = {}

  def __init__(self, cfg: data.DatasetConfig, arm: Arm, shape: Shape):
    """Configures the converter.

    Args:
      cfg: of PiD's run, with its seed.
      arm: any but PiD itself.
      shape: of `measure`.
    """
    super().__init__()
    self._cfg, self._arm, self._shape = cfg, arm, shape

  def __call__(
    self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
  ) -> tf.data.Dataset:
    """Returns packed rows: of `packing.pack_pairs`, or `pack_window`."""
    del ds, task_feature_lengths
    num_rows = self._shape.rows
    pack = _packer(self._cfg, self._arm, self._shape)

    def pad(update: _Tensors) -> _Tensors:
      rows = pack(update)
      missing = num_rows - tf.shape(rows['encoder_input_tokens'])[0]
      tf_assertions.require(
        missing >= 0,
        lambda: [
          f'an update needs more than the {num_rows} rows that were measured '
          'before: the data changed since; begin with a new --output'
        ],
      )
      widths = lambda value: [[0, missing]] + [[0, 0]] * (len(value.shape) - 1)
      return {
        name: tf.ensure_shape(
          tf.pad(value, widths(value)), [num_rows, *value.shape[1:]]
        )
        for name, value in rows.items()
      }

    ds = _updates(self._cfg, self._arm)
    return ds.map(_plain(pad), num_parallel_calls=tf.data.AUTOTUNE).unbatch()

  def _convert_features(self, ds, task_feature_lengths):
    # SeqIO's base class wants one, and calls it from its own __call__ alone.
    raise NotImplementedError('see __call__')

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """See base class; of the one feature that nobody can guess."""
    return {'decoder_target_tokens': self._shape.decoder_length}


def _packer(
  cfg: data.DatasetConfig, arm: Arm, shape: Shape
) -> Callable[[_Tensors], _Tensors]:
  """The function that packs an update of `_updates` into rows."""
  if arm.lengths is not None:
    own = dataclasses.replace(
      cfg, mixture_or_task_name=arm.name, feature_converter=None
    )
    converter = data.feature_converter(own)
    return lambda update: converter.pack_window(update, arm.lengths)
  return lambda update: packing.pack_pairs(
    update['inputs'],
    update['targets'],
    update['weights'],
    encoder_length=shape.encoder_length,
    decoder_length=shape.decoder_length,
    bos_id=0,
  )


def _updates(cfg: data.DatasetConfig, arm: Arm) -> tf.data.Dataset:
  """What is in one update after another, without end.

  Returns:
    Of a layout pairs: `inputs` int32 [K, s], `targets` int32 [K, t] and
    `weights` float32 [K]; see `rows.of_pairs`. Of another task the features of
    K examples. `num_inputs` int32.
  """
  converter = data.feature_converter(cfg)
  lengths = dict(cfg.task_feature_lengths)
  task = cfg.mixture_or_task_name
  between = separator(task) if arm.name == 'joint' else []

  def pack(window: _Tensors, other: _Tensors) -> _Tensors:
    rows = converter.pack_window(rows_lib.coded(window), lengths)
    if other:
      return rows_lib.of_examples(other, rows)
    return rows_lib.of_pairs(window, rows, arm.name, between)

  def join(rows: _Tensors) -> _Tensors:
    """[B, m, ...] -> [K, ...]."""
    num_inputs = tf.reduce_sum(rows.pop('num_inputs'))
    there = tf.not_equal(rows['targets'], 0)
    there = tf.reduce_any(there, axis=range(2, len(there.shape)))
    joined = {name: tf.boolean_mask(x, there) for name, x in rows.items()}
    return {**joined, 'num_inputs': num_inputs}

  ds = examples(cfg, task, lengths)
  if arm.lengths is None:
    ds = ds.map(lambda example: (example, {}))
  else:
    ds = tf.data.Dataset.zip(ds, examples(cfg, arm.name, arm.lengths))
    ds = ds.map(_plain(functools.partial(_check_inputs, task, arm.name)))
  ds = ds.padded_batch(converter.window)
  ds = ds.map(_plain(pack), num_parallel_calls=tf.data.AUTOTUNE).unbatch()
  ds = ds.padded_batch(cfg.batch_size, drop_remainder=True)
  return ds.map(_plain(join), num_parallel_calls=tf.data.AUTOTUNE)


def examples(
  cfg: data.DatasetConfig, task: str, lengths: Mapping[str, int]
) -> tf.data.Dataset:
  """The features of a multi-prompt task, in the order of PiD's run.

  Args:
    cfg: of PiD's run, with its seed.
    task: its task, or another one on the same inputs.
    lengths: of the task's features.
  """
  ds = data.get_task(task).get_dataset(
    dict(lengths),
    cfg.split,
    use_cached=cfg.use_cached,
    shuffle=cfg.shuffle,
    seed=cfg.seed,
    num_epochs=None,
  )
  return ds.map(_plain(lambda example: {k: example[k] for k in _FEATURES}))


def _check_inputs(
  task: str, other: str, example: _Tensors, of_other: _Tensors
) -> tuple[_Tensors, _Tensors]:
  """Requires that two tasks have the same input, token by token."""
  mine, theirs = example['inputs'], of_other['inputs']
  is_same = tf.cond(
    tf.size(mine) == tf.size(theirs),
    lambda: tf.reduce_all(mine == theirs),
    lambda: False,
  )
  tf_assertions.require(
    is_same,
    lambda: [
      f'{other!r} has other inputs than {task!r}, or has them in another '
      "order, or cuts them elsewhere: give it the same 'inputs' length"
    ],
  )
  return example, of_other


def separator(name: str) -> list[int]:
  """Token ids between the targets of `name`_joint."""
  task = data.get_task(f'{name}_joint')
  return preprocessors.separator_ids(
    task.output_features['targets'].vocabulary,
    task.layout.joint_separator,
    task.layout.newline,
  )


def _plain(function):
  return tf.autograph.experimental.do_not_convert(function)
