# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Starts the processes of a run over loopback, and waits for their end."""

import os
import pathlib
import socket
import subprocess
import sys
from typing import NamedTuple

_TESTS = pathlib.Path(__file__).parent


class Ended(NamedTuple):
  status: int
  out: str
  err: str


def free_port() -> int:
  with socket.socket() as s:
    s.bind(('127.0.0.1', 0))
    return s.getsockname()[1]


def start(
  count: int, command: list, env=None, heartbeat: int = 300, **flags
) -> list[subprocess.Popen]:
  """Starts `count` processes of a command, or one that is alone.

  Args:
    count: of processes.
    command: after `python`.
    env: more of the environment.
    heartbeat: seconds of silence until a process counts as gone. Long, since a
      busy machine may stop all of them for a while.
    **flags: NAME -> value; a list has one for each process.
  """
  port = free_port()
  processes = []
  for i in range(count):
    own = {k: v[i] if isinstance(v, list) else v for k, v in flags.items()}
    if count > 1:
      own |= {
        'coordinator_address': f'127.0.0.1:{port}',
        'num_processes': count,
        'process_id': i,
        'heartbeat_timeout_seconds': heartbeat,
      }
    processes.append(
      subprocess.Popen(
        [
          *(sys.executable, *map(str, command)),
          *(f'--{name}={value}' for name, value in own.items()),
        ],
        env={
          **os.environ,
          'JAX_PLATFORMS': 'cpu',
          'TF_CPP_MIN_LOG_LEVEL': '3',
          'PYTHONPATH': f'{_TESTS.parent}:{_TESTS}',
          **(env or {}),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    )
  return processes


def end(processes: list[subprocess.Popen], timeout: float = 600) -> list[Ended]:
  """Waits for all; kills them if they do not end."""
  try:
    ended = []
    for process in processes:
      out, err = process.communicate(timeout=timeout)
      ended.append(Ended(process.returncode, out, err))
    return ended
  finally:
    for process in processes:
      process.kill()


def run(count: int, command: list, **options) -> list[Ended]:
  return end(start(count, command, **options))
