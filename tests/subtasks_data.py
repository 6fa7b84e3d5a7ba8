# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A vocabulary and examples that the tests of subtasks share."""

import functools
import itertools
import json
import os
import tempfile
from typing import Any

import numpy as np
import sentencepiece
import seqio
import tensorflow as tf

from pid_jax import subtasks
from pid_jax.subtasks import metrics

WORDS = 'two nights in the old hotel near a red bridge for six guests'.split()
EMPTY = 'none'
ALL_METRICS = tuple(metrics.names.values())

_counter = itertools.count()


@functools.cache
def vocabulary() -> seqio.SentencePieceVocabulary:
  """A word of WORDS or a slot's name is one piece; letters make up the rest."""
  slots = [f's{i}' for i in range(10)]
  sentence = ' '.join([*WORDS, *slots, EMPTY, ';', ':'])
  prefix = os.path.join(tempfile.mkdtemp(), 'vocabulary')
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter([sentence] * 20),
    model_prefix=prefix,
    model_type='word',
    vocab_size=len(WORDS) + 16,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )
  return seqio.SentencePieceVocabulary(prefix + '.model')


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
  """Registers examples under a name of their own, and returns it."""
  name = f'subtasks_test_{next(_counter)}'
  options = dict(
    vocabulary=vocabulary(), metric_fns=ALL_METRICS, empty_target=EMPTY
  )
  source = subtasks.InMemoryDataSource(splits)
  subtasks.register(name, source=source, **{**options, **kwargs})
  return name


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


def assert_same_rows(left: tf.data.Dataset, right: tf.data.Dataset):
  """Rows of two datasets are the same, in whatever order."""
  key = lambda row: (row['example_id'], row.get('subtask_index', 0))
  left, right = (
    sorted(dataset.as_numpy_iterator(), key=key) for dataset in (left, right)
  )
  assert len(left) == len(right)
  for one, other in zip(left, right, strict=True):
    assert one.keys() == other.keys()
    for name in one.keys() - {'subtasks', 'empty_rank'}:  # Drawn at random.
      np.testing.assert_array_equal(one[name], other[name], err_msg=name)
      assert np.asarray(one[name]).dtype == np.asarray(other[name]).dtype
    if 'subtasks' in one:
      np.testing.assert_array_equal(one['subtasks'] > 0, other['subtasks'] > 0)
