# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a MODEL_DIR.

Two runs would delete each other's checkpoints. On a file system a lock of the
kernel's tells whether the other one is alive: it is gone with its process,
however that ended. Buckets have no locks: there the last run that came is the
one that counts, and another one ends when it finds that out, before it writes.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import os
import socket
import time
from typing import IO

from etils import epath

from pid_jax import errors
from pid_jax.distributed import coordination

_FILE = 'run.lock'


class RunLock:
  """A MODEL_DIR taken for this run, by its first process; a context.

  Entering raises UserError if another run has it.
  """

  def __init__(self, model_dir: epath.PathLike, enabled: bool = True):
    """Takes nothing yet.

    Args:
      model_dir: local, or gs://.
      enabled: False in all processes but the first.
    """
    self._model_dir = epath.Path(model_dir)
    self._path = self._model_dir / _FILE
    self._enabled = enabled
    self._is_bucket = '://' in str(model_dir)
    self._words = json.dumps(
      {
        'host': socket.gethostname(),
        'pid': os.getpid(),
        'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
      }
    )
    self._file: IO[str] | None = None

  def check(self) -> None:
    """Raises UserError if the folder cannot be taken; makes nothing."""
    if not self._enabled:
      return
    with self._access_explained():
      exists = self._path.exists()
    if exists and not self._is_bucket:
      self._lock().close()

  def __enter__(self) -> 'RunLock':
    if not self._enabled:
      return self
    with self._access_explained():
      self._model_dir.mkdir(parents=True, exist_ok=True)
      if self._is_bucket:
        self._path.write_text(self._words)
        return self
    self._file = self._lock()
    self._file.truncate(0)
    self._file.write(self._words)
    self._file.flush()
    return self

  def __exit__(self, *unused) -> None:
    if self._file is not None:
      self._file.close()

  def check_shared(self, seconds: float = 60.0) -> None:
    """Checks that all processes see the folder of the first one.

    Args:
      seconds: until what the first has written must be seen.

    Raises:
      UserError: this one does not.
    """
    words = coordination.gather('claim', self._words)[0]
    end = time.monotonic() + seconds
    while not self._path.exists() or self._path.read_text() != words:
      if time.monotonic() > end:
        raise errors.UserError(
          f'{self._path.parent} is not the same on host {socket.gethostname()} '
          'as on that of process 0: MODEL_DIR must be on a file system that '
          'all hosts share, or in a bucket.'
        )
      time.sleep(1.0)

  def still_held(self) -> None:
    """Raises UserError if another run has come since; asked before a write."""
    if not self._enabled or not self._is_bucket:
      return
    words = self._path.read_text() if self._path.exists() else ''
    if words != self._words:
      raise errors.UserError(
        f'{self._model_dir} has been taken over by another run '
        f'({_name(words)}); this one ends, and has written nothing since.'
      )

  @contextlib.contextmanager
  def _access_explained(self) -> Iterator[None]:
    """Turns what a bucket's errors say into a UserError; passes others on."""
    try:
      yield
    except Exception as e:  # TensorFlow's are of many kinds.
      if not self._is_bucket:
        raise
      raise errors.UserError(
        f'Cannot write to MODEL_DIR {self._model_dir}: {_first_line(e)}. Mend '
        'its name, or let the account of this machine read and write there.'
      ) from e

  def _lock(self) -> IO[str]:
    file = open(self._path, 'a+')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      file.seek(0)
      words = file.read()
      file.close()
      raise errors.UserError(
        f'{self._model_dir} is in use by another run ({_name(words)}): wait '
        'for it, stop it, or choose another MODEL_DIR.'
      ) from e
    except OSError:
      pass  # A file system without locks.
    return file


def _first_line(error: Exception) -> str:
  return str(error).partition('\n')[0].rstrip('. ')


def _name(words: str) -> str:
  try:
    known = json.loads(words)
    return f'pid {known["pid"]} on {known["host"]}, since {known["since"]}'
  except (ValueError, KeyError, TypeError):
    return 'which has not said its name'
