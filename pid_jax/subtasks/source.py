# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A SeqIO data source over a list of decomposable examples in memory.

seqio.FunctionDataSource around a Python generator can neither be checkpointed
nor sharded, and it shuffles through a buffer of whole examples, which then go
into every checkpoint of the iterator. Examples that fit in memory do better:
here only their indices are shuffled, all of them, anew in each epoch.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from pid_jax import errors

Examples = Sequence[Mapping[str, Any]]


class InMemoryDataSource(seqio.DataSource):
  """Serves examples from memory, shuffled in full and shardable at will."""

  def __init__(self, splits: Mapping[str, Examples | Callable[[], Examples]]):
    """Remembers where the examples come from; nothing is read yet.

    Args:
      splits: from the name of each split to its examples, or to a function
        without arguments that returns them (called once, when first needed).
        All examples of a split have the same keys; a value is a str, int or
        float, or a list of these, of any length.
    """
    super().__init__(
      splits=tuple(splits),
      performs_internal_shuffling=True,
    )
    self._examples = dict(splits)
    self._columns = {}

  def __getstate__(self):
    # Tensors do not pickle (Beam sends the task to its workers).
    return {**self.__dict__, '_columns': {}}

  def examples(self, split: str) -> Examples:
    """Returns the examples of a split, in order."""
    if callable(self._examples[split]):
      self._examples[split] = self._examples[split]()
    return self._examples[split]

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    return [split]

  def num_input_examples(self, split: str) -> int | None:
    return len(self.examples(split))

  def get_dataset(
    self,
    split: str = 'train',
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused_kwargs,
  ) -> tf.data.Dataset:
    """See base class."""
    if split not in self._columns:
      self._columns[split] = _columns(self.examples(split), split)
    columns = self._columns[split]
    dataset = tf.data.Dataset.range(len(self.examples(split)))
    if shard_info:
      dataset = dataset.shard(shard_info.num_shards, shard_info.index)
    if shuffle:
      dataset = dataset.shuffle(
        max(1, dataset.cardinality().numpy()), seed=seed
      )
    return dataset.map(
      lambda i: {key: column(i) for key, column in columns.items()},
      num_parallel_calls=tf.data.AUTOTUNE,
    )


def _columns(examples: Examples, split: str) -> dict[str, Callable]:
  """Returns for each key a function from an index to that example's value."""
  if not examples:
    raise errors.UserError(f'the split {split!r} has no examples')
  keys = set(examples[0])
  for number, example in enumerate(examples):
    if set(example) != keys:
      odd = sorted(keys.symmetric_difference(example))
      raise errors.UserError(
        f'example {number} of the split {split!r} differs from the first one '
        f'in its keys: {", ".join(odd)}'
      )
  return {key: _column([e[key] for e in examples]) for key in sorted(keys)}


def _column(values: Sequence[Any]) -> Callable:
  # Constants stay on the host: every look-up runs inside tf.data.
  with tf.device('/cpu:0'):
    if not isinstance(values[0], list | tuple | np.ndarray):
      return functools.partial(tf.gather, tf.constant(_typed(values)))
    flat = tf.constant(_typed([item for value in values for item in value]))
    ends = np.cumsum([0] + [len(value) for value in values])
    ends = tf.constant(ends, tf.int64)
  return lambda i: flat[ends[i] : ends[i + 1]]


def _typed(values: Sequence[Any]) -> np.ndarray:
  """Returns an array of bytes (object), int32 or float32."""
  if not values or isinstance(values[0], str | bytes):
    return np.array(values, dtype=object)
  array = np.asarray(values)
  narrow = np.float32 if array.dtype.kind == 'f' else np.int32
  return array.astype(narrow)
