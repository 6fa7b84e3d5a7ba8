# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How a run of many processes ends: all together, with one word to the user.

- One has an error: it says so to the others, which end without a word, or with
  their own if that is another one.
- One is killed: JAX notices the silence and ends the others; `relay` says who
  is gone. On CPUs the collective fails at once; then we wait for that word.
- One is asked to stop (SIGTERM): all agree on a step, and stop after it.

The first two end processes hard: an orderly end waits for the others.
"""

import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from typing import NoReturn

from pid_jax.distributed import coordination
from pid_jax.distributed import relay

_NOW = coordination.PREFIX + 'now/'
_END, _STOP = _NOW + 'end', _NOW + 'stop'
_PERIOD = 1.0  # Seconds between two looks at what the others say.
_GRACE = 5.0  # Seconds to come to one's own end when another has one.

_relay: subprocess.Popen | None = None
_watcher: '_Watcher | None' = None


def start_relay(address: str, count: int, me: int, timeout: int) -> None:
  """Sends what C++ writes through `relay`; Python's own output stays as it is.

  Args:
    address: of the coordinator.
    count: number of processes.
    me: the number of this one.
    timeout: seconds that joining may take.
  """
  global _relay
  sys.stdout = _reopen(sys.stdout, 1)
  sys.stderr = _reopen(sys.stderr, 2)
  _relay = subprocess.Popen(
    [
      *(sys.executable, '-I', '-S', relay.__file__),
      *(address, str(count), str(me), str(timeout)),
    ],
    stdin=subprocess.PIPE,
    stdout=sys.stderr.fileno(),
    stderr=sys.stderr.fileno(),
    start_new_session=True,  # Ctrl-C is not for it.
  )
  for fd in (1, 2):
    os.dup2(_relay.stdin.fileno(), fd)


def _reopen(stream, fd: int):
  """The same stream on a copy of its file descriptor."""
  stream.flush()
  return io.TextIOWrapper(
    os.fdopen(os.dup(fd), 'wb'),
    encoding=stream.encoding,
    errors=stream.errors,
    line_buffering=stream.line_buffering or fd == 2,
  )


def watch(peers: list, heartbeat_timeout: float) -> None:
  """Begins to listen to the others.

  Args:
    peers: [host, pid] of each process.
    heartbeat_timeout: seconds of silence after which JAX gives a process up.
  """
  global _watcher
  if _relay is not None:
    os.write(2, (relay.PEERS + json.dumps(peers) + '\n').encode())
  _watcher = _Watcher(heartbeat_timeout)
  _watcher.start()


class _Watcher(threading.Thread):
  """Looks at what the others say, and answers for this process."""

  def __init__(self, heartbeat_timeout: float):
    super().__init__(name='pid_jax.distributed', daemon=True)
    self.heartbeat_timeout = heartbeat_timeout
    self.asked: int | None = None  # A signal that this process was sent.
    self.signal: int | None = None  # That all stop for.
    self.leaving = threading.Event()
    self._turn = threading.Condition()
    self._answering = False
    self._num_turns, self._last_turn = 0, None

  def run(self) -> None:
    announced = False
    while not self.leaving.wait(_PERIOD):
      try:
        if self.asked and not announced:
          announced = True
          coordination.client().key_value_set(_STOP, str(self.asked), True)
        said = dict(coordination.client().key_value_dir_get(_NOW))
        if _STOP in said and self._last_turn is None:
          self._agree_on_last_turn(int(said[_STOP]))
      except Exception:  # pylint: disable=broad-except
        continue  # Process 0 is gone, or about to go: JAX tells, or `leave`.
      if _END in said:
        self.leaving.wait(_GRACE)
        if not self.leaving.is_set():
          _exit(json.loads(said[_END])['status'])

  def _agree_on_last_turn(self, number: int) -> None:
    """The last turn is one that no process has had yet.

    Until all have told theirs this process begins none. Here, not in the loop:
    another one may be waiting for it on the devices.
    """
    with self._turn:
      self._answering = True
      mine = self._num_turns
    try:
      turns = coordination.gather('last_turn', str(mine), timeout=60.0)
      last = max(map(int, turns)) + 1
    except Exception:  # pylint: disable=broad-except
      last = sys.maxsize  # A process has ended meanwhile: so do all.
    with self._turn:
      self.signal, self._last_turn = number, last
      self._answering = False
      self._turn.notify_all()

  def must_stop(self) -> bool:
    with self._turn:
      while self._answering:
        self._turn.wait()
      self._num_turns += 1
      return self._last_turn is not None and self._num_turns >= self._last_turn


def ask_to_stop(number: int) -> None:
  """Asks all processes to stop; may be called by a handler of signals.

  Args:
    number: the signal that this process was sent.
  """
  _watcher.asked = number


def must_stop() -> bool:
  """Whether to stop here; all processes must ask equally often.

  They all get the same answers.
  """
  return _watcher.must_stop()


def stop_signal() -> int | None:
  """The number of the signal that one of them was sent, when all stop."""
  return _watcher.signal


_FROM_ANOTHER = (
  'Gloo|UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|[Cc]oordination|'
  '[Hh]eartbeat|Socket closed|NCCL|RET_CHECK.*rendezvous|[Bb]arrier'
)


def comes_from_another(error: BaseException | None) -> bool:
  """Whether an error looks like the end of another process."""
  return coordination.is_joined() and bool(re.search(_FROM_ANOTHER, str(error)))


def await_word() -> None:
  """Waits until JAX, or another process, ends this one and says why."""
  if _watcher is not None:
    time.sleep(_watcher.heartbeat_timeout + _GRACE)


def tells(message: str, status: int) -> bool:
  """Says to the others that this process ends with an error.

  Args:
    message: for the user.
    status: of the exit.

  Returns:
    Whether to show the message: False if another has just said the same.
  """
  word = json.dumps({'message': message, 'status': status})
  try:
    coordination.client().key_value_set(_END, word)
    return True
  except Exception:  # pylint: disable=broad-except
    pass  # Another one was first, or process 0 is gone.
  try:
    said = dict(coordination.client().key_value_dir_get(_NOW))
    return json.loads(said[_END])['message'] != message
  except Exception:  # pylint: disable=broad-except
    return True


def leave(status: int) -> NoReturn:
  """Ends this process after an error, once the others have heard of it."""
  if _watcher is not None:
    _watcher.leaving.set()
  _exit(status)


def _exit(status: int) -> NoReturn:
  """Ends without the orderly end, which would wait for the others' work."""
  sys.stdout.flush()
  sys.stderr.flush()
  try:
    # Process 0 keeps the word, so it is the last to go.
    coordination.client().wait_at_barrier(
      coordination.PREFIX + 'ended', int(1000 * _GRACE)
    )
    time.sleep(1.0 if coordination.index() == 0 else 0.0)
  except Exception:  # pylint: disable=broad-except
    pass
  os._exit(status)
