# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run at a time: locks that end with the process that holds them.

A lock is a file with the name of its owner in it. On a file system the kernel
locks the file for as long as the owner lives, however it ends. Where the file
system has no locks (ENOLCK), the owner's process is looked for on this host,
and a warning says that other hosts cannot be seen. Buckets have neither: there
the newest run counts, and an older one ends before its next write.
"""

from collections.abc import Mapping
import contextlib
import fcntl
import json
import logging
import os
import socket
import stat
import time
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax import files

logger = logging.getLogger('pid_jax')

# Within which two runs that begin together both write where no locks are.
_SECONDS_TO_WRITE = 0.5
_MAX_BYTES = 1 << 16


class Lock:
  """A context in which no other run has the same lock.

  Entering raises UserError if another run has it, and warns where the file
  system cannot tell.
  """

  def __init__(
    self,
    path: epath.PathLike,
    what: str,
    instead: str,
    *,
    about: Mapping[str, str] | None = None,
    enabled: bool = True,
  ):
    """Acquires nothing yet.

    Args:
      path: of the file, in a folder that exists when the lock is acquired;
        local, or gs://.
      what: is locked, such as '/tmp/model', for messages.
      instead: what the user can name another of, such as 'MODEL_DIR'.
      about: is written into the file beside the owner.
      enabled: False does nothing: of many processes, the first has the lock.
    """
    self.path = epath.Path(path)
    self._what = what
    self._instead = instead
    self._enabled = enabled
    self._is_remote = files.is_remote(path)
    self._about = json.dumps(dict(about or {}))
    self.owner = json.dumps(
      {
        **(about or {}),
        'host': socket.gethostname(),
        'pid': os.getpid(),
        'started': _started(os.getpid()),
        'since': time.strftime('%Y-%m-%d %H:%M:%S %z'),
      }
    )
    self._descriptor: int | None = None
    self._is_checked = False  # Whether `check_held` has something to do.

  def check(self) -> None:
    """Raises UserError if another run has the lock; creates nothing."""
    if not self._enabled:
      return
    with files.explained(f'cannot use {self._what}'):
      if self._is_remote:
        self.path.exists()  # Whether it may be asked for.
        return
      descriptor = self._open(create=False)
    if descriptor is not None:
      os.close(descriptor)

  def __enter__(self) -> 'Lock':
    self.acquire()
    return self

  def __exit__(self, *unused) -> None:
    self.release()

  def acquire(self) -> None:
    """Takes the lock; raises UserError if another run has it."""
    with files.explained(f'cannot use {self._what}'):
      self.take()

  def take(self) -> None:
    """As `acquire`, but errors of the system pass as they are."""
    if not self._enabled:
      return
    if self._is_remote:
      other = self.read_owner()
      if _parse(other):
        logger.warning(
          '%s may be in use by another run (%s), which ends before its next '
          'write: a bucket has no locks.',
          *(self._what, describe(other)),
        )
      self.path.write_text(self.owner)
      self._is_checked = True
      return
    self._descriptor = descriptor = self._open(create=True)
    try:
      os.ftruncate(descriptor, 0)
      os.pwrite(descriptor, self.owner.encode(), 0)
      if self._is_checked:
        time.sleep(_SECONDS_TO_WRITE)
        self.check_held()
    except BaseException:
      self.release()
      raise

  def release(self, *, keep: bool = False) -> None:
    """Gives the lock back.

    Args:
      keep: the file, which names no owner then; else it is deleted.
    """
    is_held = self._descriptor is not None or self._is_checked
    # Before it is unlocked, so that nobody locks a file that goes away.
    with contextlib.suppress(OSError):
      # What cannot be locked may be another run's by now.
      if is_held and not (self._is_checked and self.read_owner() != self.owner):
        if keep:
          self.path.write_text(self._about)
        else:
          self.path.unlink()
    if self._descriptor is not None:
      os.close(self._descriptor)
      self._descriptor = None
    self._is_checked = False

  def check_held(self) -> None:
    """Raises UserError if another run took what cannot be locked.

    To be called before each write.
    """
    if not self._is_checked:
      return
    owner = self.read_owner()
    if owner != self.owner:
      raise errors.UserError(
        f'{self._what} has been taken over by another run ({describe(owner)}); '
        'this one ends, and has written nothing since.'
      )

  def read_owner(self) -> str:
    """Returns the content of the file; '' if there is none."""
    return self.path.read_text() if self.path.exists() else ''

  def _open(self, create: bool) -> int | None:
    """Opens and locks the file; None if there is none to be opened."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    while True:
      try:
        descriptor = os.open(self.path, flags | (create and os.O_CREAT), 0o666)
      except FileNotFoundError:
        if create:
          raise
        return None
      try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
          raise errors.UserError(
            f'cannot use {self._what}: {self.path} is no regular file; move it '
            'away'
          )
        self._lock(descriptor, warn=create)
        with contextlib.suppress(FileNotFoundError):
          now = os.stat(self.path, follow_symlinks=False)
          if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino):
            return descriptor
      except BaseException:
        os.close(descriptor)
        raise
      os.close(descriptor)  # Its owner deleted the file meanwhile.

  def _lock(self, descriptor: int, warn: bool) -> None:
    try:
      fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      return
    except BlockingIOError as e:
      owner = os.pread(descriptor, _MAX_BYTES, 0).decode(errors='replace')
      raise self._in_use(owner) from e
    except OSError as e:
      words = e.strerror
    owner = os.pread(descriptor, _MAX_BYTES, 0).decode(errors='replace')
    if _is_alive(owner):
      raise self._in_use(owner)
    if warn:
      self._is_checked = True
      logger.warning(
        '%s is on a file system without locks (%s): a second run on another '
        'host would not be noticed. Start only one.',
        *(self._what, words),
      )

  def _in_use(self, owner: str) -> errors.UserError:
    return errors.UserError(
      f'{self._what} is in use by another run ({describe(owner)}): wait for '
      f'it, stop it, or choose another {self._instead}.'
    )


def describe(owner: str) -> str:
  """Names the run that wrote a lock file, from the file's content."""
  known = _parse(owner)
  if not known:
    return 'owner unknown'
  return f'pid {known["pid"]} on {known["host"]}, since {known["since"]}'


def _parse(owner: str) -> dict[str, Any]:
  """Returns the fields of a lock file; none if it is damaged."""
  try:
    known = json.loads(owner)
    if isinstance(known['pid'], int) and known['host'] and known['since']:
      return known
  except (ValueError, KeyError, TypeError, RecursionError):
    pass
  return {}


def _is_alive(owner: str) -> bool:
  """Whether the process that wrote a lock file runs on this host."""
  known = _parse(owner)
  if not known or known['host'] != socket.gethostname():
    return False
  try:
    os.kill(known['pid'], 0)
  except (ProcessLookupError, OverflowError):
    return False
  except PermissionError:
    pass
  return _started(known['pid']) == known.get('started')


def _started(pid: int) -> str | None:
  """Returns when a process began, in ticks since boot; None if not known.

  It tells a process from a later one with the same number (proc(5), stat).
  """
  try:
    with open(f'/proc/{pid}/stat') as file:
      return file.read().rpartition(')')[2].split()[19]
  except (OSError, IndexError):
    return None
