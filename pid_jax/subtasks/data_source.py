# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A SeqIO data source of decomposable examples in memory.

A seqio.FunctionDataSource of a Python generator can neither be checkpointed nor
sharded, and it shuffles a buffer of whole examples, which becomes part of every
checkpoint of the iterator. For examples that fit in memory, this source
shuffles only their indices, all of them, in each epoch.

Examples are stored by column. Each distinct string is stored once, and so are
runs of equal values, since the prompts and names of subtasks rarely change: a
million turns of 30 slots take about 150 MB besides their text.
"""

from __future__ import annotations

import array
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from pid_jax import errors
from pid_jax.subtasks import tf_devices

tf_devices.hide_gpus()

Examples = Iterable[Mapping[str, Any]]


class InMemoryDataSource(seqio.DataSource):
  """Examples in memory, fully shuffled, with any number of shards."""

  def __init__(
    self,
    splits: Mapping[str, Examples | Callable[[], Examples]],
    optional: Sequence[str] = (),
  ):
    """Stores where the examples come from, without reading them.

    Args:
      splits: split -> its examples, or a function without arguments that
        returns or yields them, called when the split is first used. All
        examples of a split have the same keys; a value is a str, int or float,
        or a list of these, of any length.
      optional: keys of string features that a split is without where all
        strings are empty.
    """
    super().__init__(splits=tuple(splits), performs_internal_shuffling=True)
    self._examples, self._optional = dict(splits), tuple(optional)
    self._tables = {}

  def __getstate__(self):
    # Tensors cannot be pickled (Beam sends the task to its workers).
    return {**self.__dict__, '_tables': {}}

  @property
  def supports_arbitrary_sharding(self) -> bool:
    return True

  def list_shards(self, split: str) -> Sequence[str]:
    return [split]

  def num_input_examples(self, split: str) -> int:
    return self._table(split).size

  def fingerprint(self, split: str) -> str:
    """Returns a SHA-256 of the examples of a split, in their order."""
    return self._table(split).sha256

  def get_dataset(
    self,
    split: str = 'train',
    shuffle: bool = True,
    seed: int | None = None,
    shard_info: seqio.ShardInfo | None = None,
    **unused_kwargs,
  ) -> tf.data.Dataset:
    """See base class."""
    table = self._table(split)
    dataset = tf.data.Dataset.range(table.size)
    if shard_info:
      dataset = dataset.shard(shard_info.num_shards, shard_info.index)
    if shuffle:
      dataset = dataset.shuffle(
        max(1, dataset.cardinality().numpy()), seed=seed
      )
    lookup = tf.autograph.experimental.do_not_convert(table)
    return dataset.map(lookup, num_parallel_calls=tf.data.AUTOTUNE)

  def _table(self, split: str) -> _Table:
    if split not in self._tables:
      examples = self._examples[split]
      examples = examples() if callable(examples) else examples
      self._tables[split] = _Table(examples, split, self._optional)
    return self._tables[split]


class _Table:
  """Examples by column; calling it with an index returns an example.

  Attributes:
    size: number of examples.
    sha256: of their names and values.
  """

  def __init__(self, examples: Examples, split: str, optional: Sequence[str]):
    columns, self.size = {}, 0
    for example in examples:
      if not self.size:
        columns = {key: _Column() for key in sorted(example)}
      if example.keys() != columns.keys():
        keys = sorted(example.keys() ^ columns.keys())
        raise errors.UserError(
          f'example {self.size} of the split {split!r} differs from the first '
          f'one in its keys: {", ".join(keys)}'
        )
      for key, value in example.items():
        columns[key].append(value)
      self.size += 1
    if not self.size:
      raise errors.UserError(f'the split {split!r} has no examples')
    for key in optional:
      if key in columns and columns[key].is_empty:
        del columns[key]
    digest = hashlib.sha256()
    for key, column in columns.items():
      digest.update(f'{key}\0'.encode())
      column.add_to(digest)
    self.sha256 = digest.hexdigest()
    # On the host, since lookups run inside tf.data.
    with tf.device('/cpu:0'):
      self._columns = {key: column.freeze() for key, column in columns.items()}

  def __call__(self, index: tf.Tensor) -> dict[str, tf.Tensor]:
    return {key: lookup(index) for key, lookup in self._columns.items()}


class _Column:
  """The values of one feature: indices of distinct strings, or numbers."""

  def __init__(self):
    self._index_of_string = {}
    self._values = array.array('d')  # Indices too; exact below 2**53.
    self._starts = array.array('q')
    self._sizes = array.array('q')
    self._is_list = None
    self._type = None  # str, int or float; None while all lists are empty.
    self._last = None

  def append(self, value: Any) -> None:
    is_list = isinstance(value, list | tuple | np.ndarray)
    if self._is_list is None:
      self._is_list = is_list
    if is_list != self._is_list:
      raise ValueError(f'some values are lists, others are not. Got {value!r}.')
    values = list(value) if is_list else [value]
    if self._last is None or values != self._last:
      self._starts.append(len(self._values))
      self._values.extend(self._encode(v) for v in values)
      self._last = values
    else:
      self._starts.append(self._starts[-1])
    self._sizes.append(len(values))

  @property
  def is_empty(self) -> bool:
    """Whether all strings are ''."""
    return self._type in (str, None) and self._index_of_string.keys() <= {''}

  def add_to(self, digest: Any) -> None:
    """Updates a hash of hashlib with all values."""
    digest.update(f'{self._type} {self._is_list}'.encode())
    for numbers in (self._values, self._starts, self._sizes):
      digest.update(numbers.tobytes())
    for text in self._index_of_string:
      encoded = text if isinstance(text, bytes) else text.encode()
      digest.update(len(encoded).to_bytes(8, 'little') + encoded)

  def freeze(self) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns a function from the index of an example to its value."""
    values = np.frombuffer(self._values, np.float64)
    starts = tf.constant(np.frombuffer(self._starts, np.int64))
    sizes = tf.constant(np.frombuffer(self._sizes, np.int64))
    dtype = np.float32 if self._type is float else np.int32
    values = tf.constant(values.astype(dtype))
    strings = None
    if self._type in (str, None):
      strings = tf.constant(list(self._index_of_string) or [''], tf.string)

    def lookup(index: tf.Tensor) -> tf.Tensor:
      start = starts[index]
      if self._is_list:
        value = tf.slice(values, [start], [sizes[index]])
      else:
        value = values[start]
      return value if strings is None else tf.gather(strings, value)

    return lookup

  def _encode(self, value: Any) -> float:
    if isinstance(value, np.generic):
      value = value.item()
    kind = str if isinstance(value, bytes) else type(value)
    if self._type is None:
      self._type = kind
    if kind is not self._type or kind not in (str, int, float):
      raise ValueError(
        f'a feature must be all str, all int or all float. Got {value!r}.'
      )
    if kind is str:
      return self._index_of_string.setdefault(value, len(self._index_of_string))
    return value
