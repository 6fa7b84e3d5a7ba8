# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Processes of a run: how they join, agree, and end; and who has MODEL_DIR."""

import argparse
import errno
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import distributed_processes as processes
import jax
import pytest

from pid_jax import distributed
from pid_jax import errors
from pid_jax import locks
from pid_jax.distributed import coordination
from pid_jax.distributed import run_lock

_TALKING = pathlib.Path(__file__).parent / 'distributed_talking.py'
_TRAIN = ['-m', 'pid_jax.train', '--gin_file=runs/quickstart.gin']


@pytest.fixture
def initialize(monkeypatch):
  """Returns what `distributed.initialize` asks JAX for; None if nothing."""

  def given(env=None, argv=(), error=None):
    for name in list(os.environ):
      prefixes = ('JAX_COORD', 'JAX_NUM_P', 'JAX_PROC', 'SLURM', 'OMPI', 'KUBE')
      if name.startswith(prefixes):
        monkeypatch.delenv(name)
    for name, value in (env or {}).items():
      monkeypatch.setenv(name, value)
    calls = []

    def record(**kwargs):
      calls.append(kwargs)
      if error is not None:
        raise error

    monkeypatch.setattr(jax.distributed, 'initialize', record)
    parser = argparse.ArgumentParser()
    distributed.add_flags(parser)
    distributed.initialize(parser.parse_args(list(argv)), True)
    if not calls:
      return None
    names = ('coordinator_address', 'num_processes', 'process_id')
    return tuple(calls[0][name] for name in names)

  return given


FLAGS = ('--coordinator_address=a:1', '--num_processes=4', '--process_id=3')
ENV = {
  'JAX_COORDINATOR_ADDRESS': 'b:2',
  'JAX_NUM_PROCESSES': '8',
  'JAX_PROCESS_ID': '0',
}


def test_flags_come_before_the_environment_before_the_cluster(initialize):
  assert initialize(argv=FLAGS) == ('a:1', 4, 3)
  assert initialize(ENV) == ('b:2', 8, 0)
  assert initialize(ENV, ('--process_id=5',)) == ('b:2', 8, 5)
  assert initialize({'SLURM_NTASKS': '3'}) == (None, None, None)
  assert initialize({'SLURM_NTASKS': '1'}, FLAGS) == ('a:1', 4, 3)


@pytest.mark.parametrize(
  'env, argv',
  [
    ({'SLURM_NTASKS': '1'}, ()),
    ({'OMPI_COMM_WORLD_SIZE': '1', 'SLURM_NTASKS': '4'}, ()),
    ({'KUBERNETES_SERVICE_HOST': 'k'}, ()),  # A pod that is no indexed job.
    ({'SLURM_NTASKS': '3'}, ('--num_processes=1',)),
  ],
)
def test_a_process_that_is_alone_starts_nothing(initialize, env, argv):
  assert initialize(env, argv) is None


@pytest.mark.parametrize(
  'env, argv, message',
  [
    ({}, FLAGS[:2], 'process id'),
    ({'JAX_PROCESS_ID': '1'}, (), 'coordinator_address'),
    ({**ENV, 'JAX_PROCESS_ID': 'x'}, (), "JAX_PROCESS_ID is 'x', not a num"),
    ({}, (*FLAGS, '--process_id=4'), 'process_id < num_processes'),
    ({}, (*FLAGS, '--coordinator_address=a'), "address is 'a', not HOST:PORT"),
  ],
)
def test_a_mistake_in_flags_is_one_line(env, argv, message):
  """By JAX itself, which starts nothing then; None of its backends either."""
  code = (
    'import sys; from pid_jax import cli; '
    'cli.run(lambda args: print("ran"), "", join=True, argv=sys.argv[1:])'
  )
  (ended,) = processes.run(1, ['-c', code, *argv], env=env)
  assert (ended.status, ended.out) == (2, '')
  *_, last = ended.err.splitlines()
  assert last.startswith('error: ') and message in last


def test_without_a_cluster_it_runs_alone(tmp_path):
  code = (
    'from pid_jax import cli, distributed; '
    'cli.run(lambda args: print(distributed.process_count()), "", join=True, '
    'argv=[])'
  )
  (ended,) = processes.run(1, ['-c', code])
  assert (ended.status, ended.out, ended.err) == (0, '1\n', '')


def test_another_failure_to_join_is_an_error(initialize):
  error = RuntimeError('UNKNOWN: no route\nmore')
  with pytest.raises(errors.UserError, match='of a cluster.*no route$'):
    initialize({'SLURM_NTASKS': '3'}, error=error)


def test_first_difference():
  first = coordination.first_difference
  assert first('x\ny = 1', 'x\n  y = 2\nz') == (2, 'y = 1', '  y = 2')
  assert first('x', 'x\ny') == (2, None, 'y')


def test_hosts_that_differ_are_told_the_line():
  ended = processes.run(2, [_TALKING], scenario='differ')
  assert [e.status for e in ended] == [2, 2]
  assert '0 greets 1 greets again' in ended[0].out
  assert 'greets' not in ended[1].out
  for one in ended:
    *_, line = one.err.splitlines()
    assert line.startswith('error: the hosts do not agree on the recipe')
    assert "'rye' in process 0" in line and "'milk' in process 1" in line


@pytest.mark.parametrize('scenario', ['fail', 'kill'])
def test_a_process_that_fails_alone_ends_all(scenario):
  started = processes.start(2, [_TALKING], scenario=scenario, heartbeat=5)
  began = time.monotonic()
  ended = processes.end(started)
  assert time.monotonic() - began < 120
  assert all(e.status for e in ended)
  if scenario == 'fail':
    assert 'error: one is unwell\n' in ended[1].err
  else:
    assert ended[1].status == -signal.SIGKILL


def test_a_signal_to_one_stops_all_at_one_step():
  """SIGINT, which is turned into SIGTERM first."""
  ended = processes.run(2, [_TALKING], scenario='stop')
  assert [e.status for e in ended] == [128 + signal.SIGTERM] * 2
  first, second = (re.findall(r'stopped at (\d+)', e.out) for e in ended)
  assert first == second and int(first[0]) > 3


def test_commands_that_differ_end_before_any_work():
  ended = processes.run(2, [_TALKING], scenario=['differ', 'fail'])
  assert [e.status for e in ended] == [2, 2]
  for one in ended:
    *_, line = one.err.splitlines()
    assert 'do not agree on what they run' in line
    assert 'greets' not in one.out


@pytest.mark.slow
def test_trainings_that_differ_end_before_any_work(tmp_path):
  ended = processes.run(
    2,
    [*_TRAIN, f'--gin.MODEL_DIR={str(tmp_path / "m")!r}'],
    **{'gin.TRAIN_STEPS': [5, 6]},
  )
  assert [e.status for e in ended] == [2, 2]
  for one in ended:
    *_, line = one.err.splitlines()
    assert 'do not agree on what they run' in line
    assert 'TRAIN_STEPS = 5' in line and 'TRAIN_STEPS = 6' in line
  assert not (tmp_path / 'm').exists()


def test_one_run_a_model_dir(tmp_path):
  with run_lock.RunLock(tmp_path / 'new' / 'model') as held:
    for attempt in (held.check, run_lock.RunLock(held._folder).__enter__):
      with pytest.raises(errors.UserError) as e:
        attempt()
      assert f'in use by another run (pid {os.getpid()} on ' in str(e.value)
    run_lock.RunLock(held._folder, enabled=False).__enter__()
  held.check()
  with run_lock.RunLock(held._folder):
    pass


def test_the_lock_ends_with_its_process(tmp_path):
  script = (
    'import os, signal, sys\n'
    'from pid_jax.distributed import run_lock\n'
    'with run_lock.RunLock(sys.argv[1]):\n'
    '  os.kill(os.getpid(), signal.SIGKILL)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', script, str(tmp_path)], check=False
  )
  assert done.returncode == -signal.SIGKILL
  assert (tmp_path / 'run.lock').exists()
  with run_lock.RunLock(tmp_path):
    pass


def test_a_model_dir_that_the_hosts_do_not_share(tmp_path, monkeypatch):
  with run_lock.RunLock(tmp_path) as first:
    monkeypatch.setattr(coordination, 'broadcast', lambda text: first.owner)
    run_lock.RunLock(tmp_path, enabled=False).check_shared(0.0)
    with pytest.raises(errors.UserError, match='a file system that all hosts'):
      run_lock.RunLock(tmp_path / 'local', enabled=False).check_shared(0.0)


def test_in_a_bucket_the_last_one_counts(tmp_path, monkeypatch, caplog):
  first, second = run_lock.RunLock(tmp_path), run_lock.RunLock(tmp_path)
  for one in (first, second):
    monkeypatch.setattr(one, '_is_remote', True)
  second.owner = second.owner.replace(f'{os.getpid()}', '99')
  with first:
    first.check_held()
    assert not caplog.messages
    with second:
      assert 'a bucket has no locks' in caplog.text
      second.check_held()
      with pytest.raises(errors.UserError, match='taken over .*pid 99 on'):
        first.check_held()
  # A run that ended leaves nothing to warn of.
  caplog.clear()
  with first:
    assert not caplog.messages


@pytest.mark.parametrize('number', [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_warned_of(
  tmp_path, monkeypatch, caplog, number
):
  def refuse(*unused):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(locks.fcntl, 'flock', refuse)
  for _ in range(2):  # The second finds a lock file.
    caplog.clear()
    lock = run_lock.RunLock(tmp_path)
    monkeypatch.setattr(locks, '_SECONDS_TO_WRITE', 0.0)
    lock.check()
    with lock:
      (warning,) = caplog.messages
      assert os.strerror(number) in warning and str(tmp_path) in warning


@pytest.mark.parametrize('first', ['exists', 'makedirs'])
def test_a_bucket_without_permission_is_told(first, monkeypatch):
  import tensorflow as tf

  words = (
    'Error executing an HTTP request: HTTP response code 403 with body '
    "'someone does not have storage.objects.create access'\n\t when writing"
  )

  def deny(*unused_args, **unused_kwargs):
    raise tf.errors.PermissionDeniedError(None, None, words)

  monkeypatch.setattr(tf.io.gfile, 'exists', lambda path: False)
  monkeypatch.setattr(tf.io.gfile, first, deny)
  with pytest.raises(errors.UserError) as e:
    held = run_lock.RunLock('gs://theirs/model')
    held.check()
    assert first != 'exists'
    held.__enter__()
  told = str(e.value)
  assert told.startswith(
    (
      'cannot write to MODEL_DIR gs://theirs/model: Error ',
      'cannot use gs://theirs/model: Error ',
    )
  )
  assert 'storage.objects.create access' in told and '\n' not in told
