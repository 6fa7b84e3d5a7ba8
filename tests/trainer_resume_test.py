# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run that is killed, again and again, ends as if nothing had happened."""

import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from pid_jax import checkpoints

_CHILD = pathlib.Path(__file__).parent / 'trainer_child.py'
_STEPS = 90
_KILLS = 6


def start(model_dir, log, cache) -> subprocess.Popen:
  return subprocess.Popen(
    [
      *(sys.executable, str(_CHILD), str(model_dir)),
      *('--steps', str(_STEPS), '--period', '3', '--log', str(log)),
    ],
    env={
      **os.environ,
      'TOY_VOCABULARY': str(cache.with_name('toy.model')),
      'JAX_COMPILATION_CACHE_DIR': str(cache),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    },
    stderr=subprocess.PIPE,
    text=True,
  )


def lines(log: pathlib.Path) -> list[dict]:
  """The whole lines of a log; the kill may have cut the last one."""
  text = log.read_text() if log.exists() else ''
  return [json.loads(line) for line in text.split('\n')[:-1]]


def saved(model_dir):
  """All arrays of the last step, by name."""
  step = checkpoints.steps(model_dir)[-1]
  folder = pathlib.Path(model_dir) / 'checkpoints' / str(step)
  arrays = {}
  for item in ('params', 'state'):
    with ocp.PyTreeCheckpointer() as checkpointer:
      tree = checkpointer.metadata(folder / item).item_metadata.tree
      as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
      tree = checkpointer.restore(
        folder / item,
        restore_args=jax.tree.map(lambda _, kind=as_numpy: kind, tree),
      )
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
      arrays[item + jax.tree_util.keystr(path)] = np.asarray(leaf)
  return step, arrays


def wait_for_lines(log, number, process, seconds=600.0):
  end = time.monotonic() + seconds
  while len(lines(log)) < number:
    assert process.poll() is None, process.communicate()[1]
    assert time.monotonic() < end
    time.sleep(0.005)


@pytest.mark.slow
def test_killed_at_random_ends_as_if_uninterrupted(tmp_path):
  whole, log = tmp_path / 'whole', tmp_path / 'whole.log'
  process = start(whole, log, tmp_path / 'cache')
  message = process.communicate()[1]
  assert process.returncode == 0, message

  killed, killed_log = tmp_path / 'killed', tmp_path / 'killed.log'
  rng = random.Random(os.getpid())
  starts, kills = [], 0
  while True:
    process = start(killed, killed_log, tmp_path / 'cache')
    before = len(lines(killed_log))
    more = rng.randint(3, _STEPS // _KILLS + 4)
    if kills < _KILLS:
      wait_for_lines(killed_log, before + more, process)
      time.sleep(rng.uniform(0, 0.1))
      process.send_signal(signal.SIGKILL)
      kills += 1
      process.communicate()
      assert process.returncode == -signal.SIGKILL
      starts.append(lines(killed_log)[before]['step'])
      continue
    message = process.communicate()[1]
    assert process.returncode == 0, message
    starts.append(lines(killed_log)[before]['step'])
    break
  assert starts[-1] > 1, f'never resumed: {starts}'

  # The same parameters, optimizer state and average, bit by bit.
  step, expected = saved(whole)
  step_killed, actual = saved(killed)
  assert step == step_killed == _STEPS
  assert expected.keys() == actual.keys()
  for name in expected:
    np.testing.assert_array_equal(actual[name], expected[name], err_msg=name)

  # The updates that count saw the same examples, and none of them twice.
  history = {line['step']: line['examples'] for line in lines(killed_log)}
  assert history == {line['step']: line['examples'] for line in lines(log)}
  seen = [number for examples in history.values() for number in examples]
  assert len(seen) == len(set(seen))
