# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A vocabulary, examples and tasks for the tests of subtasks."""

import functools
import inspect
import itertools
import json
import os
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.subtasks import tokenization
from toys import vocabularies

WORDS = 'two nights in the old hotel near a red bridge for six guests'.split()
EMPTY = 'none'
ALL_METRICS = tuple(metrics.names.values())

_counter = itertools.count()


@functools.cache
def vocabulary() -> seqio.SentencePieceVocabulary:
  """A word of WORDS or a slot's name is one piece; letters make up the rest."""
  slots = [f's{i}' for i in range(10)]
  return seqio.SentencePieceVocabulary(
    vocabularies.words(*dict.fromkeys(WORDS), *slots, EMPTY, ';', ':')
  )


def example(index: int, max_subtasks: int = 5) -> dict[str, Any]:
  """An example of 1 to `max_subtasks` subtasks, the same for each index."""
  rng = np.random.default_rng(index)
  words = lambda least, most: ' '.join(
    rng.choice(WORDS, rng.integers(least, most + 1))
  )
  names = [f's{i}' for i in range(rng.integers(1, max_subtasks + 1))]
  return {
    'example_id': f'example-{index}',
    'inputs': words(1, 12),
    'prompts': [f'{name} {words(0, 2)}'.strip() for name in names],
    'targets': [EMPTY if rng.random() < 0.6 else words(1, 4) for _ in names],
    'subtasks': names,
  }


def examples(number: int, start: int = 0, **kwargs) -> list[dict[str, Any]]:
  return [example(i, **kwargs) for i in range(start, start + number)]


def register(splits: dict[str, list[dict[str, Any]]], **kwargs) -> str:
  """Registers examples under a new name, and returns it."""
  name = f'subtasks_test_{next(_counter)}'
  options = dict(
    vocabulary=vocabulary(), metric_fns=ALL_METRICS, empty_target=EMPTY
  )
  source = subtasks.InMemoryDataSource(splits)
  subtasks.register(name, source=source, **{**options, **kwargs})
  return name


class EagerDataset:
  """The part of tf.data.Dataset that preprocessors use, without graphs.

  Tracing a graph costs a thousand times as much as running it on one example.
  """

  def __init__(self, rows: list[dict[str, tf.Tensor]]):
    self.rows = rows

  @property
  def element_spec(self) -> dict[str, tf.TensorSpec]:
    return {k: tf.TensorSpec.from_tensor(v) for k, v in self.rows[0].items()}

  def map(self, function, num_parallel_calls=None) -> 'EagerDataset':
    del num_parallel_calls
    return EagerDataset([dict(function(row)) for row in self.rows])

  def unbatch(self) -> 'EagerDataset':
    return EagerDataset(
      [
        {k: v[i] for k, v in row.items()}
        for row in self.rows
        for i in range(len(row['example_id']))
      ]
    )


def rows(
  name: str, examples: list[dict[str, Any]], lengths=None
) -> list[dict[str, Any]]:
  """Applies a task's preprocessors to examples, as its dataset does.

  But draws no sampling keys: `subtasks` has the odds.
  """
  dataset = EagerDataset(
    [{k: tf.constant(v) for k, v in e.items()} for e in examples]
  )
  for step in seqio.TaskRegistry.get(name).preprocessors:
    if step is tokenization.draw_keys or isinstance(
      step, seqio.CacheDatasetPlaceholder
    ):
      continue
    takes_lengths = 'sequence_length' in inspect.signature(step).parameters
    dataset = step(dataset, *([lengths] if takes_lengths else []))
  return [{k: v.numpy() for k, v in row.items()} for row in dataset.rows]


def write_cache(task: seqio.Task, split: str, folder: str):
  """Writes what seqio_cache_tasks does, in the format that SeqIO reads."""
  os.makedirs(folder)
  source = task.source.get_dataset(split=split, shuffle=False)
  rows = list(task.preprocess_precache(source))
  prefix = seqio.get_cached_tfrecord_prefix(folder, split)
  with tf.io.TFRecordWriter(f'{prefix}-00000-of-00001') as writer:
    for row in rows:
      writer.write(seqio.dict_to_tfexample(row).SerializeToString())
  features = {
    key: {
      # All that SeqIO keeps of a shape; a matrix would need a fixed width.
      'shape': [None, *value.shape[1:]] if value.shape.rank else [],
      'dtype': value.dtype.name,
    }
    for key, value in rows[0].items()
  }
  info = dict(num_shards=1, features=features, seqio_version=seqio.__version__)
  stats = dict(examples=len(rows))
  for path, content in [
    (seqio.get_cached_info_path(folder, split), info),
    (seqio.get_cached_stats_path(folder, split), stats),
  ]:
    with open(path, 'w') as f:
      json.dump(content, f)
  with open(os.path.join(folder, 'COMPLETED'), 'w'):
    pass


def assert_same_rows(left: list[dict], right: list[dict]):
  """Rows are the same, in any order."""
  key = lambda row: (row['example_id'], row.get('subtask_index', 0))
  left, right = sorted(left, key=key), sorted(right, key=key)
  assert len(left) == len(right)
  for one, other in zip(left, right, strict=True):
    assert one.keys() == other.keys()
    for name in one.keys() - {'subtasks', 'empty_rank'}:  # Random.
      np.testing.assert_array_equal(one[name], other[name], err_msg=name)
      assert np.asarray(one[name]).dtype == np.asarray(other[name]).dtype
    if 'subtasks' in one:
      np.testing.assert_array_equal(one['subtasks'] > 0, other['subtasks'] > 0)
