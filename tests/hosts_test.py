# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Processes of a run: how they find each other, agree, and end together."""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys

import hosts_processes as processes
import pytest

from pid_jax import distributed
from pid_jax import errors
from pid_jax.distributed import coordination
from pid_jax.distributed import launch
from pid_jax.distributed import relay
from pid_jax.distributed import run_lock

_TALKING = pathlib.Path(__file__).parent / 'hosts_talking.py'
_TRAIN = ['-m', 'pid_jax.train', '--gin_file=runs/quickstart.gin']


def place(monkeypatch, env=None, argv=()):
  """Where flags and environment put a process."""
  for name in list(os.environ):
    if name.startswith(('JAX_COORD', 'JAX_NUM_P', 'JAX_PROC', 'SLURM', 'OMPI')):
      monkeypatch.delenv(name)
  for name, value in (env or {}).items():
    monkeypatch.setenv(name, value)
  parser = argparse.ArgumentParser()
  distributed.add_flags(parser)
  return launch.find_place(parser.parse_args(list(argv)))


FLAGS = ('--coordinator_address=a:1', '--num_processes=4', '--process_id=3')
ENV = {
  'JAX_COORDINATOR_ADDRESS': 'b:2',
  'JAX_NUM_PROCESSES': '8',
  'JAX_PROCESS_ID': '0',
}
SLURM = {
  'SLURM_JOB_ID': '7',
  'SLURM_STEP_NODELIST': 'node[03-04],other',
  'SLURM_NTASKS': '3',
  'SLURM_PROCID': '2',
  'SLURM_LOCALID': '0',
}


def test_flags_come_before_the_environment_before_the_cluster(monkeypatch):
  assert place(monkeypatch) is None
  assert place(monkeypatch, argv=FLAGS) == ('a:1', 4, 3)
  assert place(monkeypatch, ENV) == ('b:2', 8, 0)
  assert place(monkeypatch, ENV, ('--process_id=5',)) == ('b:2', 8, 5)
  address, count, me = place(monkeypatch, SLURM)
  assert address.startswith('node03:') and (count, me) == (3, 2)
  assert place(monkeypatch, SLURM, FLAGS) == ('a:1', 4, 3)


def test_who_is_alone_is_left_alone(monkeypatch):
  assert place(monkeypatch, {**SLURM, 'SLURM_NTASKS': '1'}) is None
  assert place(monkeypatch, SLURM, ('--num_processes=1',)) is None
  # In an allocation of SLURM's, but not started by srun.
  del_step = {k: v for k, v in SLURM.items() if k != 'SLURM_STEP_NODELIST'}
  assert place(monkeypatch, del_step) is None


@pytest.mark.parametrize(
  'env, argv, message',
  [
    ({}, FLAGS[:2], 'give --process_id, too'),
    ({'JAX_PROCESS_ID': '1'}, (), 'give --coordinator_address and --num_pro'),
    ({**ENV, 'JAX_PROCESS_ID': 'x'}, (), "JAX_PROCESS_ID is 'x', not a num"),
    ({}, (*FLAGS, '--process_id=4'), 'process_id=4 is none of --num_processes'),
    ({}, (*FLAGS, '--coordinator_address=a'), '=a is not HOST:PORT'),
  ],
)
def test_a_place_that_cannot_be(monkeypatch, env, argv, message):
  with pytest.raises(errors.UserError, match=message):
    place(monkeypatch, env, argv)


def test_first_difference():
  show = lambda a, b: coordination.first_difference(a, b, 'A', 'B')
  assert show('x\ny = 1', 'x\n  y = 2') == (
    "line 2 is 'y = 1' in A, but 'y = 2' in B"
  )
  assert show('x', 'x\ny') == "line 2 is nothing in A, but 'y' in B"
  assert 'white space' in show('x', 'x\n')


# JAX's own words, of jaxlib 0.10.2.
_FATAL = (
  'F1126 14:57:27.040955 7928 client.h:80] Terminating process because the JAX '
  'distributed service detected fatal errors. This most likely indicates that '
  'another task died; see the other task logs for more details. absl::Status: '
)
_SILENT = (
  'UNAVAILABLE: The following tasks are unhealthy (stopped sending heartbeats):'
  '\n1\n3\nThe tasks have crashed. Check the task logs for an earlier error\n'
)
_CLOSED = (
  'UNAVAILABLE: Failed to send RPC to coordination service. Either the leader '
  'task was preempted/died/restarted unexpectedly\n:UNKNOWN:Error received '
  'from peer  {grpc_message:"Socket closed", grpc_status:14}\n'
)
_LATE = 'DEADLINE_EXCEEDED: Deadline Exceeded\n\nRPC: /xla.RegisterTask\n'
_OTHER = 'INVALID_ARGUMENT: Unexpected task registered with task=2\n'
_TWICE = (
  'ABORTED: 1 unexpectedly tried to connect with a different incarnation. It '
  'has likely restarted.\n'
)
_PEERS = [['a', 10], ['a', 11], ['b', 12], ['b', 13]]


@pytest.mark.parametrize(
  'text, me, peers, said',
  [
    (
      _SILENT,
      0,
      _PEERS,
      'error: process 1 of 4 (host a, pid 11), process 3 of 4 (host b, pid 13) '
      'are gone',
    ),
    (_SILENT, 2, _PEERS, None),  # 0 says it.
    (_CLOSED, 2, _PEERS, 'error: process 0 of 4 (host a, pid 10) is gone'),
    (_CLOSED, 1, _PEERS, None),  # Its host may be down as well.
    (_CLOSED, 1, _PEERS[:2], 'error: process 0 of 4 (host a, pid 10) is gone'),
    (_TWICE, 0, _PEERS, 'error: process 1 of 4 was started a second time'),
    (_LATE, 1, None, 'error: process 1 waited 9 s at h:1 for all 4 processes'),
    (_OTHER, 2, None, 'error: process 2 was started with --num_processes=4'),
  ],
)
def test_what_is_said_of_who_is_gone(text, me, peers, said):
  explained = relay.explain(_FATAL + text, ('h:1', 4, me), peers, '9')
  if said is None:
    assert explained is None
  else:
    assert explained.startswith(said) and '\n' not in explained


def test_the_relay_passes_on_what_it_does_not_know():
  text = (
    '[Gloo] Rank 0 is connected to 1 peer ranks.\na word of Python\n'
    f'{relay.PEERS}{json.dumps(_PEERS)}\n'
    'E1126 14:57:27.0 99 coordination_service.cc:1549] Use error polling:\n'
    '1\n'
    'E1126 14:57:27.0 99 unknown.cc:1] a word of C++\n'
    f'{_FATAL}{_SILENT}*** Check failure stack trace: ***\n    @  0x7f33 abc\n'
  )
  done = subprocess.run(
    [sys.executable, relay.__file__, 'h:1', '4', '0', '9'],
    input=text,
    capture_output=True,
    text=True,
    check=True,
  )
  zeroth, first, second = done.stderr.splitlines()
  assert zeroth == 'a word of Python' and first.endswith('a word of C++')
  assert second.startswith('error: process 1 of 4 (host a, pid 11), process 3')


def test_two_that_do_not_agree_say_so_once():
  ended = processes.run(2, [_TALKING], scenario='differ')
  assert [e.status for e in ended] == [2, 2]
  assert ended[0].out == '0 greets 1 greets 0 greets again 1 greets again\n'
  assert ended[1].out == ''
  assert ended[0].err + ended[1].err == (
    "error: the hosts do not agree on the recipe: line 2 is 'water' in process "
    "0, but 'milk' in process 1. Start the same command, from the same files, "
    'on all of them.\n'
  )


def test_what_one_cannot_do_ends_all():
  ended = processes.run(2, [_TALKING], scenario='fail')
  assert [e.status for e in ended] == [2, 2]
  assert ended[0].err == '' and ended[1].err == 'error: one is unwell\n'


def test_one_that_is_killed_ends_all():
  ended = processes.run(2, [_TALKING], scenario='kill', heartbeat=5)
  assert ended[1].status == -signal.SIGKILL and ended[0].status != 0
  (line,) = ended[0].err.splitlines()
  assert line.startswith('error: process 1 of 2 (host ')
  assert 'is gone: killed, or its host is down' in line


def test_commands_that_differ_end_before_any_work(tmp_path):
  ended = processes.run(
    2,
    [*_TRAIN, f'--gin.MODEL_DIR={str(tmp_path / "m")!r}'],
    **{'gin.TRAIN_STEPS': [5, 6]},
  )
  assert [e.status for e in ended] == [2, 2]
  (line,) = (ended[0].err + ended[1].err).splitlines()
  assert 'the hosts do not agree on what they run' in line
  assert 'TRAIN_STEPS = 5' in line and 'TRAIN_STEPS = 6' in line
  assert not (tmp_path / 'm').exists()


def test_nobody_there():
  command = [_TALKING, '--initialization_timeout=1', '--num_processes=2']
  address = f'--coordinator_address=127.0.0.1:{processes.free_port()}'
  (ended,) = processes.run(1, [*command, address, '--process_id=1'])
  assert ended.status == 2
  assert ended.err.startswith('error: process 1 of 2 finds nobody at --coord')
  assert ended.err.count('\n') == 1


def test_one_run_a_model_dir(tmp_path):
  with run_lock.RunLock(tmp_path / 'new' / 'model') as held:
    for attempt in (held.check, run_lock.RunLock(held._model_dir).__enter__):
      with pytest.raises(errors.UserError) as e:
        attempt()
      assert f'in use by another run (pid {os.getpid()} on ' in str(e.value)
    run_lock.RunLock(held._model_dir, enabled=False).__enter__()
  held.check()
  with run_lock.RunLock(held._model_dir):
    pass


def test_a_run_that_was_killed_has_no_claim(tmp_path):
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
    monkeypatch.setattr(
      coordination, 'gather', lambda name, text: [first._words]
    )
    run_lock.RunLock(tmp_path, enabled=False).check_shared(0.0)
    with pytest.raises(errors.UserError, match='a file system that all hosts'):
      run_lock.RunLock(tmp_path / 'local', enabled=False).check_shared(0.0)


def test_in_a_bucket_the_last_one_counts(tmp_path, monkeypatch):
  first, second = run_lock.RunLock(tmp_path), run_lock.RunLock(tmp_path)
  for one in (first, second):
    monkeypatch.setattr(one, '_is_bucket', True)
  second._words = second._words.replace(f'{os.getpid()}', '99')
  with first:
    first.still_held()
    with second:
      second.still_held()
      with pytest.raises(errors.UserError, match='taken over .*pid 99 on'):
        first.still_held()


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
  assert told.startswith('Cannot write to MODEL_DIR gs://theirs/model: Error ')
  assert 'storage.objects.create access' in told and '\n' not in told
