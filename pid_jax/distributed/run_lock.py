# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a MODEL_DIR.

Two runs would delete each other's checkpoints. On a file system the kernel's
lock shows whether the other run is alive: it ends with its process, however
that ended. Buckets have no locks: there the newest run counts, and an older one
ends before its next write.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from typing import IO

from etils import epath

from pid_jax import errors
from pid_jax.distributed import coordination

logger = logging.getLogger('pid_jax.distributed')

_FILE = 'run.lock'


class RunLock:
  """A context in which no other run may use a MODEL_DIR.

  Entering raises UserError if another run uses it, and warns where the file
  system cannot tell.
  """

  def __init__(self, model_dir: epath.PathLike, enabled: bool = True):
    """Acquires nothing yet.

    Args:
      model_dir: local, or gs://.
      enabled: False in all processes but the first.
    """
    self._model_dir = epath.Path(model_dir)
    self._path = self._model_dir / _FILE
    self._enabled = enabled
    self._is_bucket = '://' in str(model_dir)
    self._owner = json.dumps(
      {
        'host': socket.gethostname(),
        'pid': os.getpid(),
        'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
      }
    )
    self._file: IO[str] | None = None

  def check(self) -> None:
    """Raises UserError if another run uses the folder; creates nothing."""
    if not self._enabled:
      return
    with self._access_errors_explained():
      exists = self._path.exists()
    if exists and not self._is_bucket:
      self._open_locked(warn=False).close()

  def __enter__(self) -> 'RunLock':
    if not self._enabled:
      return self
    with self._access_errors_explained():
      self._model_dir.mkdir(parents=True, exist_ok=True)
      if self._is_bucket:
        other = self._read_owner()
        if other:
          logger.warning(
            '%s may be in use by another run (%s), which ends before its next '
            'checkpoint: a bucket has no locks.',
            *(self._model_dir, _describe(other)),
          )
        self._path.write_text(self._owner)
        return self
    self._file = self._open_locked(warn=True)
    self._file.truncate(0)
    self._file.write(self._owner)
    self._file.flush()
    return self

  def __exit__(self, *unused) -> None:
    if self._file is not None:
      self._file.close()
    elif self._enabled and self._read_owner() == self._owner:
      self._path.unlink()

  def check_shared(self, seconds: float = 60.0) -> None:
    """Checks that all processes see the folder of the first one.

    Args:
      seconds: until what the first has written must be seen.

    Raises:
      UserError: this one does not.
    """
    owner = coordination.broadcast(self._owner)
    end = time.monotonic() + seconds
    while self._read_owner() != owner:
      if time.monotonic() > end:
        raise errors.UserError(
          f'{self._path.parent} is not the same on host {socket.gethostname()} '
          'as on that of process 0: MODEL_DIR must be on a file system that '
          'all hosts share, or in a bucket.'
        )
      time.sleep(1.0)

  def check_held(self) -> None:
    """Raises UserError if another run has taken a bucket; before each write."""
    if not self._enabled or not self._is_bucket:
      return
    owner = self._read_owner()
    if owner != self._owner:
      raise errors.UserError(
        f'{self._model_dir} has been taken over by another run '
        f'({_describe(owner)}); this one ends, and has written nothing since.'
      )

  def _read_owner(self) -> str:
    return self._path.read_text() if self._path.exists() else ''

  def _open_locked(self, warn: bool) -> IO[str]:
    file = open(self._path, 'a+')
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
      file.seek(0)
      owner = file.read()
      file.close()
      raise errors.UserError(
        f'{self._model_dir} is in use by another run ({_describe(owner)}): '
        'wait for it, stop it, or choose another MODEL_DIR.'
      ) from e
    except OSError as e:
      if warn:
        logger.warning(
          '%s is on a file system without locks (%s): a second run there would '
          'not be noticed. Start only one.',
          *(self._model_dir, e.strerror),
        )
    return file

  @contextlib.contextmanager
  def _access_errors_explained(self) -> Iterator[None]:
    """Turns the errors of a bucket into a UserError; passes others on."""
    try:
      yield
    except Exception as e:  # TensorFlow's are of many kinds.
      if not self._is_bucket:
        raise
      line = str(e).partition('\n')[0].rstrip('. ')
      raise errors.UserError(
        f'Cannot write to MODEL_DIR {self._model_dir}: {line}. Correct its '
        'name, or let the account of this machine read and write there.'
      ) from e


def _describe(owner: str) -> str:
  """Names the run that wrote a lock file."""
  try:
    known = json.loads(owner)
    return f'pid {known["pid"]} on {known["host"]}, since {known["since"]}'
  except (ValueError, KeyError, TypeError):
    return 'owner unknown'
