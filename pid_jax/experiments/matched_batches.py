# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The same examples in the same updates for PiD, PiE, joint and other tasks.

SeqIO shuffles the three tasks of one registration in three orders, and packs
them so that a batch of a given number of rows holds a different number of
inputs in each layout. A like-for-like comparison needs the same inputs in the
same update. So there is one stream, that of PiD: its task, its shuffling, its
draw of empty subtasks, its packing and its batches, exactly as its run
reads them. Each of its batches of B packed rows is then laid out again:

  pie    each subtask in the batch is a pair: prompt, input (as it was cut for
         PiD) and EOS; its target. Same subtasks, same loss weights.
  joint  each input in the batch is a pair: the input; *all* its targets with
         separators between them, also those of empty subtasks that PiD's draw
         left out, since a joint target cannot leave one out. An input whose
         subtasks fill several rows of PiD is there once, in the first.
  a task of other granularity (one subtask for each domain instead of each slot,
         say) with the same inputs in the same order: its example of each input
         in the batch, once, with all its subtasks, packed as PiD.

The pairs of one update are packed, first fit, into as few rows as they need,
and padded with empty rows to the number that the fullest update needs, because
all updates have one shape. `measure` finds that number by reading all updates
beforehand, and the length of decoder rows that makes for the fewest tokens.

Letters: W inputs of a window, R rows that packing made of them, m items of a
row, K items of an update; lower case s, u, p, t are the largest extents.
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

from pid_jax.subtasks import packing
from pid_jax.subtasks import preprocessors
from pid_jax.subtasks import tf_assertions
from pid_jax.trainer import data

_MULTIPLE = 8  # Of lengths, for the sake of vector units.
_SHARES = (0.6, 0.8, 1.0, 1.2)
_FEATURES = (
  'inputs', 'inputs_truncated', 'prompts', 'subtasks', 'targets',
  'subtask_weights',
)  # fmt: skip

_Tensors = dict[str, tf.Tensor]


@dataclasses.dataclass(frozen=True)
class Arm:
  """One side of a comparison.

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
    inputs: in all updates together.
    pairs: inputs with a target (of PiD: subtasks) in all updates together.
    encoder_tokens: in all updates, padding left out.
    decoder_tokens: in all updates, padding left out.
  """

  rows: int
  encoder_length: int
  decoder_length: int
  inputs: int
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
  cfg: data.DatasetConfig, arm: Arm, num_updates: int, row_multiple: int = 1
) -> Shape:
  """Reads the updates of PiD and finds what an arm makes of them.

  Args:
    cfg: of PiD's run, with its seed.
    arm: whose updates.
    num_updates: to read.
    row_multiple: of the rows; microbatches times devices, which share them.
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
      inputs,
      num_pairs,
      encoder_tokens,
      decoder_tokens,
    )
    for decoder_length in decoder_lengths
  ]
  if arm.name == 'pid':
    return shapes[0]
  packers = [_packer(cfg, arm, shape) for shape in shapes]

  def count(update: _Tensors) -> tf.Tensor:
    return tf.stack(
      [tf.shape(pack(update)['decoder_positions'])[0] for pack in packers]
    )

  # Made again: a dataset that is iterated a second time shuffles differently.
  counts = _updates(cfg, arm).take(num_updates)
  counts = counts.map(_plain(count), num_parallel_calls=tf.data.AUTOTUNE)
  fullest = np.max(list(counts.as_numpy_iterator()), axis=0)
  shapes = [
    dataclasses.replace(
      shape, rows=row_multiple * -(-int(rows) // row_multiple)
    )
    for shape, rows in zip(shapes, fullest, strict=True)
  ]
  return min(shapes, key=lambda shape: shape.tokens)


def train_config(
  cfg: data.DatasetConfig, arm: Arm, shape: Shape
) -> data.DatasetConfig:
  """Returns what an arm trains on so that its updates are those of PiD.

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
    feature_converter=lambda pack: MatchedBatches(cfg, arm, shape),
  )


class MatchedBatches(seqio.FeatureConverter):
  """Feeds an arm the rows that it makes of PiD's updates.

  It ignores the dataset that it is given, and returns rows in the order of
  PiD's task. `Shape.rows` consecutive rows are one update.
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
      is_enough = tf_assertions.require(
        missing >= 0,
        lambda: [
          f'an update needs more than the {num_rows} rows that were measured '
          'before: the data changed since; begin with a new --output'
        ],
      )
      with tf.control_dependencies([is_enough]):
        missing = tf.identity(missing)
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
    # Abstract in the base class, whose __call__ alone calls it.
    raise NotImplementedError('see __call__')

  def get_model_feature_lengths(
    self, task_feature_lengths: Mapping[str, int]
  ) -> Mapping[str, int]:
    """See base class; only the length that no task feature has."""
    return {'decoder_target_tokens': self._shape.decoder_length}


def _packer(
  cfg: data.DatasetConfig, arm: Arm, shape: Shape
) -> Callable[[_Tensors], _Tensors]:
  """The function that packs an update of `_updates` into rows."""
  if arm.lengths is not None:
    other = dataclasses.replace(
      cfg, mixture_or_task_name=arm.name, feature_converter=None
    )
    converter = data.feature_converter(other)
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
  """Returns the contents of one update after another, without end.

  Returns:
    Of a layout pairs: `inputs` int32 [K, s], `targets` int32 [K, t] and
    `weights` float32 [K]; see `_pairs_by_row`. Of another task the features of
    K examples. `num_inputs` int32.
  """
  converter = data.feature_converter(cfg)
  lengths = dict(cfg.task_feature_lengths)
  task = cfg.mixture_or_task_name
  between = separator(task) if arm.name == 'joint' else []

  def pack(window: _Tensors, other: _Tensors) -> _Tensors:
    rows = converter.pack_window(_indexed(window), lengths)
    if other:
      return _examples_by_row(other, rows)
    return _pairs_by_row(window, rows, arm.name, between)

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
  expected, found = example['inputs'], of_other['inputs']
  is_same = tf.cond(
    tf.size(expected) == tf.size(found),
    lambda: tf.reduce_all(expected == found),
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


def _indexed(window: _Tensors) -> _Tensors:
  """Replaces each token by the index of its input or subtask.

  Packing looks at lengths alone, so the packed indices tell where every input
  and subtask went. Input w is w + 1, and its subtask j is w u + j + 1.
  """
  num_inputs, num_subtasks = tf.unstack(tf.shape(window['prompts'])[:2])
  inputs = tf.range(num_inputs)[:, tf.newaxis] + 1
  subtasks = tf.range(num_inputs * num_subtasks) + 1
  subtasks = tf.reshape(subtasks, [num_inputs, num_subtasks, 1])
  is_real = lambda name: tf.cast(window[name] > 0, tf.int32)
  return {
    **window,
    'inputs': is_real('inputs') * inputs,
    'prompts': is_real('prompts') * subtasks,
    'targets': is_real('targets') * subtasks,
  }


def _pairs_by_row(
  window: _Tensors, rows: _Tensors, layout: str, separator: list[int]
) -> _Tensors:
  """Returns the pairs in each row of PiD.

  Args:
    window: the features of W examples.
    rows: what packing made of `_indexed(window)`.
    layout: 'pid', 'pie' or 'joint'.
    separator: token ids between the targets of joint.

  Returns:
    `inputs` int32 [R, m, s], `targets` int32 [R, m, t], `weights` float32
    [R, m] and `num_inputs` int32 [R]; no pair where `targets` is 0. Of PiD,
    `inputs` is empty but for the first subtask of an input, and `targets` is a
    prompt with its target.
  """
  first_inputs, row_of_input = _first_inputs(rows)
  begin = (rows['decoder_positions'] == 0) & (rows['decoder_segment_ids'] > 0)
  row_of_subtask = tf.cast(tf.where(begin)[:, 0], tf.int32)
  subtask = tf.boolean_mask(rows['decoder_target_tokens'], begin) - 1  # [k]
  num_rows, num_subtasks = tf.shape(begin)[0], tf.shape(window['prompts'])[1]
  of_input = subtask // num_subtasks

  def of_subtask(name: str) -> tf.Tensor:
    value = window[name]
    flat = tf.reshape(value, tf.concat([[-1], tf.shape(value)[2:]], axis=0))
    return tf.gather(flat, subtask)

  if layout == 'joint':
    row, weights = row_of_input, tf.ones_like(first_inputs, tf.float32)
    inputs = tf.gather(window['inputs'], first_inputs)
    targets = tf.gather(_joint_targets(window, separator), first_inputs)
  else:
    row, weights = row_of_subtask, of_subtask('subtask_weights')
    inputs = tf.gather(window['inputs'], of_input)
    prompts, targets = of_subtask('prompts'), of_subtask('targets')
    if layout == 'pie':
      inputs = _concatenated(prompts, inputs)
    else:
      is_first = tf.cast(_is_first(of_input), tf.int32)
      inputs *= is_first[:, tf.newaxis]
      targets = _concatenated(prompts, targets)
  pairs = {'inputs': inputs, 'targets': targets, 'weights': weights}
  counts = _count(row_of_input, num_rows)
  return {**_by_row(pairs, row, num_rows), 'num_inputs': counts}


def _examples_by_row(window: _Tensors, rows: _Tensors) -> _Tensors:
  """Returns the examples of a window, each in the first row with its input.

  Args:
    window: features of W examples.
    rows: as of `_pairs_by_row`.

  Returns:
    The features with [R, m] in place of [W], 0 where there is no example, and
    `num_inputs` int32 [R].
  """
  which, row = _first_inputs(rows)
  num_rows = tf.shape(rows['encoder_positions'])[0]
  chosen = {name: tf.gather(value, which) for name, value in window.items()}
  counts = _count(row, num_rows)
  return {**_by_row(chosen, row, num_rows), 'num_inputs': counts}


def _first_inputs(rows: _Tensors) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns the inputs [n] of the window in the rows, and the row [n] of each.

  Of an input that stands in several rows, the first.
  """
  begin = (rows['encoder_positions'] == 0) & (rows['encoder_segment_ids'] > 0)
  row = tf.cast(tf.where(begin)[:, 0], tf.int32)
  which = tf.boolean_mask(rows['encoder_input_tokens'], begin) - 1
  is_first = _is_first(which)
  return tf.boolean_mask(which, is_first), tf.boolean_mask(row, is_first)


def _by_row(values: _Tensors, row: tf.Tensor, num_rows: tf.Tensor) -> _Tensors:
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


def _joint_targets(window: _Tensors, separator: list[int]) -> tf.Tensor:
  """Returns the joint targets of the examples of a window, int32 [W, t]."""
  targets = window['targets']  # [W, u, t]
  exists = tf.reduce_any(window['prompts'] > 0, axis=-1, keepdims=True)
  # Without EOS, which is 1; a target that was cut has none.
  texts = tf.where(exists & (targets > 1), targets, 0)
  between = tf.cast(exists, tf.int32) * tf.constant(separator)
  joined = tf.concat([texts, between], axis=-1)
  joined = _without_padding(tf.reshape(joined, [tf.shape(joined)[0], -1]))
  # EOS in place of the last separator.
  joined = joined[:, : -len(separator)]
  eos = tf.ones([joined.nrows(), 1], tf.int32)
  return tf.concat([joined, eos], axis=1).to_tensor()


def _concatenated(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
  """[k, a], [k, b], padded with 0 -> [k, c], padded with 0."""
  return _without_padding(tf.concat([left, right], axis=1)).to_tensor()


def _without_padding(tokens: tf.Tensor) -> tf.RaggedTensor:
  """[k, a] -> [k, ...] without the zeros, wherever they stand."""
  lengths = tf.math.count_nonzero(tokens, axis=1, dtype=tf.int32)
  return tf.RaggedTensor.from_row_lengths(
    tf.boolean_mask(tokens, tokens > 0), lengths, validate=False
  )


def _plain(function):
  return tf.autograph.experimental.do_not_convert(function)
