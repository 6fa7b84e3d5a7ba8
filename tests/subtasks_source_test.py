# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Examples in memory, and SeqIO's offline cache."""

import os
import pickle
import subprocess
import sys

import pytest
import seqio
import tensorflow as tf
from toys import subtasks_data

from pid_jax import errors
from pid_jax import subtasks

ROWS = [
  {'a': 'x', 'b': ['p', 'q'], 'c': 3, 'd': [0.5], 'e': []},
  {'a': 'y\u00e4', 'b': ['p', 'q'], 'c': -1, 'd': [1.5, 2], 'e': []},
  {'a': 'x', 'b': [], 'c': 2**31 - 1, 'd': [], 'e': []},
]


def _plain(dataset) -> list[dict]:
  rows = [
    {k: v.tolist() if hasattr(v, 'tolist') else v for k, v in row.items()}
    for row in dataset.as_numpy_iterator()
  ]
  text = lambda v: v.decode() if isinstance(v, bytes) else v
  return [
    {
      k: [text(x) for x in v] if isinstance(v, list) else text(v)
      for k, v in row.items()
    }
    for row in rows
  ]


def test_values_are_preserved():
  rows = [{**row, 'd': [float(x) for x in row['d']]} for row in ROWS]
  source = subtasks.InMemoryDataSource({'train': lambda: iter(rows)})
  for copy in (source, pickle.loads(pickle.dumps(_picklable(rows)))):
    dataset = copy.get_dataset('train', shuffle=False)
    assert _plain(dataset) == rows
    assert copy.num_input_examples('train') == len(dataset) == 3
  kinds = {k: (v.dtype, v.shape.rank) for k, v in dataset.element_spec.items()}
  assert kinds == {
    'a': (tf.string, 0),
    'b': (tf.string, 1),
    'c': (tf.int32, 0),
    'd': (tf.float32, 1),
    'e': (tf.string, 1),
  }


def _picklable(rows) -> subtasks.InMemoryDataSource:
  source = subtasks.InMemoryDataSource({'train': rows})
  source.get_dataset('train')
  return source


def test_each_epoch_is_a_new_permutation_of_all():
  source = subtasks.InMemoryDataSource({'train': [{'n': i} for i in range(50)]})
  dataset = source.get_dataset('train', shuffle=True, seed=1).repeat(3)
  order = [row['n'] for row in dataset.as_numpy_iterator()]
  epochs = [order[i : i + 50] for i in (0, 50, 100)]
  assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
  assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
  again = source.get_dataset('train', shuffle=True, seed=1).repeat(3)
  assert [row['n'] for row in again.as_numpy_iterator()] == order


def test_more_shards_than_examples_leave_some_empty():
  source = subtasks.InMemoryDataSource({'train': [{'n': i} for i in range(3)]})
  shards = [
    [
      int(row['n'])
      for row in source.get_dataset(
        'train', shuffle=True, shard_info=seqio.ShardInfo(i, 5)
      ).as_numpy_iterator()
    ]
    for i in range(5)
  ]
  assert shards == [[0], [1], [2], [], []]


def test_inconsistent_examples_are_refused():
  read = lambda rows: subtasks.InMemoryDataSource({'t': rows}).get_dataset('t')
  with pytest.raises(errors.UserError, match='example 1 .* in its keys: a, b'):
    read([{'a': 1}, {'b': 1}])
  with pytest.raises(errors.UserError, match="'t' has no examples"):
    read([])
  with pytest.raises(ValueError, match='all str, all int or all float'):
    read([{'a': 1}, {'a': 'x'}])
  with pytest.raises(ValueError, match='some values are lists'):
    read([{'a': [1]}, {'a': 1}])


LENGTHS = dict(inputs=8, prompts=3, targets=3, subtasks=5, decoder=16)


def test_a_cached_task_has_the_same_rows(tmp_path):
  examples = subtasks_data.examples(20)
  for index, example in enumerate(examples):
    example['turn'] = index
    example['subtask_weights'] = [0.5] * len(example['prompts'])
  name = subtasks_data.register({'train': examples})
  before = seqio.get_global_cache_dirs()
  seqio.set_global_cache_dirs([str(tmp_path)])
  try:
    for task in (name, f'{name}_pie', f'{name}_joint'):
      task = seqio.TaskRegistry.get(task)
      subtasks_data.write_cache(task, 'train', str(tmp_path / task.name))
      cached = task.get_dataset(
        LENGTHS, split='train', shuffle=False, use_cached=True
      )
      subtasks_data.assert_same_rows(
        list(cached.as_numpy_iterator()),
        subtasks_data.rows(task.name, examples, LENGTHS),
      )

    # Shuffled though it is read from files.
    dataset = seqio.TaskRegistry.get(name).get_dataset(
      split='train', use_cached=True, shuffle=True, seed=0
    )
    order = [row['turn'] for row in dataset.as_numpy_iterator()]
    assert sorted(order) == list(range(20)) != order
  finally:
    seqio.set_global_cache_dirs(before)


_REGISTER = """
import sys
sys.path.insert(0, {tests!r})
from toys import subtasks_data
assert subtasks_data.register(
  {{'train': subtasks_data.examples(12), 'test': subtasks_data.examples(5)}}
) == 'subtasks_test_0'
"""


@pytest.mark.slow
def test_seqio_cache_tasks(tmp_path):
  """SeqIO's own command, with Beam, on all three layouts."""
  pytest.importorskip('apache_beam')
  (tmp_path / 'cached_module.py').write_text(
    _REGISTER.format(tests=os.path.dirname(__file__))
  )
  cache = tmp_path / 'cache'
  path = [str(tmp_path), os.environ.get('PYTHONPATH', '')]
  subprocess.run(
    [
      sys.executable, '-m', 'seqio.scripts.cache_tasks_main',
      '--module_import=cached_module', '--tasks=subtasks_test_0.*',
      f'--output_cache_dir={cache}', '--min_shards=2',
    ],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join(path)},
    check=True,
  )  # fmt: skip
  name = subtasks_data.register(
    {'train': subtasks_data.examples(12), 'test': subtasks_data.examples(5)}
  )
  before = seqio.get_global_cache_dirs()
  try:
    for layout in ('', '_pie', '_joint'):
      task = seqio.TaskRegistry.get(name + layout)
      os.rename(cache / f'subtasks_test_0{layout}', cache / task.name)
      seqio.set_global_cache_dirs([str(cache)])
      for split in ('train', 'test'):
        get = lambda cached, task=task, split=split: list(
          task.get_dataset(
            LENGTHS, split=split, shuffle=False, use_cached=cached
          ).as_numpy_iterator()
        )
        subtasks_data.assert_same_rows(get(True), get(False))
  finally:
    seqio.set_global_cache_dirs(before)
