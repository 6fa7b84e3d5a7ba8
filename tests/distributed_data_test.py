# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Each process's part of the data and of a job, simulated in one process."""

import contextlib
import os

import numpy as np
import pytest
import seqio
import tensorflow as tf
from toys import training as toy

from pid_jax import distributed
from pid_jax import errors
from pid_jax.inference import batching
from pid_jax.inference import jobs
from pid_jax.inference import partial_results
from pid_jax.inference import planning
from pid_jax.trainer import data

SHARDS = 2
NUM_EXAMPLES = 200


def numbers_config() -> data.DatasetConfig:
  """A task from a source of one part: SeqIO divides it by examples."""
  feature = seqio.Feature(
    seqio.PassThroughVocabulary(NUM_EXAMPLES), add_eos=False, dtype=tf.int32
  )
  if 'numbers' not in seqio.TaskRegistry.names():
    seqio.TaskRegistry.add(
      'numbers',
      source=seqio.FunctionDataSource(
        lambda split, shuffle_files, seed=None: tf.data.Dataset.range(
          NUM_EXAMPLES, output_type=tf.int32
        ).map(lambda n: {'inputs': n[None] + 1, 'targets': n[None] + 1}),
        splits=['train'],
      ),
      preprocessors=[],
      output_features={'inputs': feature, 'targets': feature},
      shuffle_buffer_size=20,
    )
  return data.DatasetConfig(
    'numbers',
    {'inputs': 1, 'targets': 1},
    batch_size=8,
    seed=0,
    pack=False,
    num_threads=1,
  )


def iterators(num_processes: int) -> list[data.ShardedIterator]:
  """One iterator per process, with equal blocks of rows."""
  cfg = numbers_config()
  rows = np.split(np.arange(cfg.batch_size), num_processes)
  return [
    data.ShardedIterator(cfg, SHARDS, dict(enumerate(rows)), process)
    for process in range(num_processes)
  ]


def test_any_number_of_processes_resumes_with_the_same_batches():
  """Two processes stop, one resumes and stops, four resume, two per shard."""
  (whole,) = iterators(1)
  batches, position, saved_by = [], {}, []
  for count in (2, 1, 4):
    readers = iterators(count)
    for reader in readers:
      if position:
        reader.restore(position)
    for _ in range(3):
      parts = [next(reader) for reader in readers]
      batch = {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}
      batches.append(batch['encoder_input_tokens'][:, 0] - 1)
      expected = next(whole)
      assert batch.keys() == expected.keys()
      for name, value in expected.items():
        np.testing.assert_array_equal(batch[name], value, err_msg=name)
    own = [reader.save() for reader in readers]
    saved_by.append([sorted({name[:12] for name in files}) for files in own])
    position = {name: x for files in own for name, x in files.items()}
    assert len(position) == sum(map(len, own))
  first, second = 'shard_0_of_2', 'shard_1_of_2'
  assert saved_by == [
    [[first], [second]],
    [[first, second]],
    [[first], [], [second], []],
  ]
  numbers = np.concatenate(batches)
  assert len(set(numbers)) == len(numbers) == 72
  # Block i of a batch is of shard i.
  np.testing.assert_array_equal(
    np.array(batches) % SHARDS, np.repeat([[0, 1]], 4, axis=1).repeat(9, axis=0)
  )


def test_one_shard_has_the_batches_of_one_process():
  cfg = toy.dataset_config(seed=0)
  old = data.TrainIterator(data.dataset(cfg, None))
  new = data.ShardedIterator(cfg, 1)
  for _ in range(2):
    expected, batch = next(old), next(new)
    for name, value in expected.items():
      np.testing.assert_array_equal(batch[name], value, err_msg=name)
  saved = {f'process_0_of_1.{k}': v for k, v in old.save().items()}
  assert data.find_num_shards(cfg, saved) == 1
  again = data.ShardedIterator(cfg, 1)
  assert not again.needs('commit_success.txt')
  again.restore(saved)
  np.testing.assert_array_equal(
    next(again)['encoder_input_tokens'], next(old)['encoder_input_tokens']
  )


def test_number_of_shards():
  cfg = lambda num_shards: toy.dataset_config(num_shards=num_shards)
  saved = ['shard_0_of_4.iterator.index', 'commit_success.txt']
  assert data.find_num_shards(cfg(None), []) == 1
  assert data.find_num_shards(cfg(None), saved) == 4
  assert data.find_num_shards(cfg(4), saved) == 4
  assert data.find_num_shards(cfg(8), []) == 8
  with pytest.raises(errors.UserError, match='is 2, but .* for 4 shards'):
    data.find_num_shards(cfg(2), saved)
  with pytest.raises(errors.UserError, match='batch of 8 .* 3 data shards'):
    data.find_num_shards(cfg(3), [])


class Stopped(Exception):
  pass


# Seven groups of one request with two prompts each.
JOB = jobs.Job(
  [batching.TokenRequest([n], [[1], [1]]) for n in range(7)],
  [[n] for n in range(7)],
)
OPTION = planning.Option((1, 16, 2, 4, 0, 0), 16)


def run(start, partial):
  """Runs the job, with groups in their order."""
  pieces = lambda groups: (x for k in groups for x in JOB.pieces(k, OPTION))
  return jobs.run(JOB, start, pieces, partial_results=partial)


class Worker:
  """Answers row u of request n with 10 n + u; stops before a batch."""

  def __init__(self, stop_before=None):
    self.ran, self._stop = [], stop_before

  def __call__(self, piece):
    number = int(piece.batch.request_ids[0])
    if number == self._stop:
      raise Stopped
    self.ran.append(number)
    return (10 * number + np.arange(2)[None],)


EXPECTED = [[10 * n, 10 * n + 1] for n in range(7)]


def answers(*arguments) -> list[list[int]]:
  return [own.tolist() for (own,) in run(*arguments)]


@contextlib.contextmanager
def open_parts(output, job='a job'):
  with partial_results.PartialResults(
    output, seconds_between_writes=0.0, seconds_to_appear=0.0
  ) as parts:
    parts.open({'job': job})
    yield parts


def test_a_job_goes_on_where_it_stopped(tmp_path):
  output = tmp_path / 'out'
  first = Worker(stop_before=5)
  with pytest.raises(Stopped), open_parts(output) as parts:
    run(first, parts)
  with open_parts(output) as parts:
    done = len(parts.known)
    assert 0 < done < len(first.ran)  # The last one had not been read.

  second = Worker()
  with open_parts(output) as parts:
    assert answers(second, parts) == EXPECTED
    assert second.ran == list(range(done, 7))
    parts.remove()
  assert not os.listdir(tmp_path)


def test_another_job_begins_anew(tmp_path):
  output = tmp_path / 'out'
  with open_parts(output) as parts:
    run(Worker(), parts)
  worker = Worker()
  with open_parts(output) as parts:
    assert parts.known.keys() == set(range(7))
  with open_parts(output, 'another') as parts:
    assert answers(worker, parts) == EXPECTED
  assert worker.ran == list(range(7))


def test_processes_share_a_job(tmp_path, monkeypatch):
  """One after the other: the first does not find what the second will do."""
  output, workers = tmp_path / 'out', []
  monkeypatch.setattr(distributed, 'process_count', lambda: 2)
  with contextlib.ExitStack() as stack:
    opened = []
    for me in range(2):
      monkeypatch.setattr(distributed, 'process_index', lambda me=me: me)
      opened.append(stack.enter_context(open_parts(output)))
    for me, parts in enumerate(opened):
      monkeypatch.setattr(distributed, 'process_index', lambda me=me: me)
      workers.append(Worker())
      if me == 0:
        with pytest.raises(errors.UserError, match='must be on a file system'):
          run(workers[0], parts)
      else:
        assert answers(workers[1], parts) == EXPECTED
  assert [worker.ran for worker in workers] == [[0, 2, 4, 6], [1, 3, 5]]


def test_two_runs_of_one_job(tmp_path):
  output = tmp_path / 'out'
  with open_parts(output) as parts:
    with pytest.raises(errors.UserError, match=f'in use .*pid {os.getpid()}'):
      partial_results.PartialResults(output)
    assert answers(Worker(), parts) == EXPECTED


def test_damaged_results_are_named(tmp_path):
  output = tmp_path / 'out'
  with open_parts(output) as parts:
    run(Worker(), parts)
  (tmp_path / 'out.parts' / '00000003-0.npz').write_bytes(b'PK\x03\x04')
  with pytest.raises(errors.UserError, match='00000003-0.npz is damaged'):
    with open_parts(output):
      pass
