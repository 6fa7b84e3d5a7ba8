# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of work in progress, each of one run, beside what it will become.

Each holds a marker file, which is also the run's lock. So a folder of the
user's is never taken for one, a second run is told of the first, and what a
killed run left is used or deleted by the next one. Nothing but entries with
expected names is ever deleted.
"""

from collections.abc import Iterator
import contextlib
import logging
import os
import re
import shutil
import stat

from etils import epath

from pid_jax import errors
from pid_jax import files
from pid_jax import locks

MARKER = 'pid_jax_scratch.json'
_MAX_ATTEMPTS = 100

logger = logging.getLogger('pid_jax')


class ScratchFolder:
  """A context that has a folder for itself; leaving it keeps the folder.

  Attributes:
    path: of the folder.
  """

  def __init__(
    self,
    target: epath.PathLike,
    suffix: str,
    names: str,
    instead: str,
    *,
    enabled: bool = True,
  ):
    """Creates nothing yet.

    Args:
      target: what is being made; local, or gs://. The folder is beside it.
      suffix: that the folder's name has and the target's has not.
      names: regular expression of the names that its entries can have.
      instead: what the user can name another of, such as 'OUTPUT'.
      enabled: False does nothing: of many processes, the first has the folder.
    """
    target = files.real(target)
    if target.parent == target or files.is_bucket(target):
      raise errors.UserError(
        f'cannot write {target} itself: name a file or folder in it.'
      )
    self.path = target.with_name(files.cut(target.name, suffix))
    self._names = re.compile(names)
    self._instead = instead
    self._enabled = enabled
    self._is_remote = files.is_remote(target)
    self._is_held = False
    self._lock = locks.Lock(
      self.path / MARKER,
      str(self.path),
      instead,
      about={'work_for': str(target)},
      enabled=enabled,
    )

  def check(self) -> None:
    """Raises UserError if the folder cannot be had; creates nothing.

    Raises:
      UserError: another run has it, or it or a file in it is not from pid_jax.
    """
    if not self._enabled:
      return
    with self._explained():
      self._inspect()
    self._lock.check()

  def __enter__(self) -> 'ScratchFolder':
    """Makes the folder, or takes what a run that ended has left.

    Raises:
      UserError: see `check`.
    """
    if not self._enabled:
      return self
    with self._explained():
      for attempts_left in reversed(range(_MAX_ATTEMPTS)):
        try:
          self._take()
          break
        except FileNotFoundError:  # Another run deleted it meanwhile.
          if not attempts_left or not self.path.parent.exists():
            raise
    return self

  def _take(self) -> None:
    self._inspect()
    if self._is_remote:
      self.path.mkdir(exist_ok=True)
    else:
      with contextlib.suppress(FileExistsError):
        os.mkdir(self.path)
    try:
      self._lock.take()
    except BaseException:
      self._remove_if_empty()
      raise
    self._is_held = True

  def __exit__(self, *unused) -> None:
    """Gives up a folder that is empty; else what it holds is for the next."""
    if self._is_held:
      self._release(is_done=False)

  def check_held(self) -> None:
    """See `locks.Lock.check_held`."""
    self._lock.check_held()

  def clear(self) -> None:
    """Deletes what previous runs have left in the folder.

    Raises:
      UserError: another run took what cannot be locked, or a file cannot be
        deleted.
    """
    self.check_held()
    with self._explained():
      for path in self._entries():
        _delete(path)

  def remove(self) -> None:
    """Deletes the folder, at the end of the work."""
    if self._is_held:
      self.clear()
      self._release(is_done=True)

  def sweep(self) -> None:
    """Deletes what a run that was killed has left, if any."""
    is_there = self.path.exists() or os.path.lexists(self.path)
    if self._enabled and is_there:
      with self:
        self.remove()

  def _release(self, is_done: bool) -> None:
    """Unlocks; deletes the marker, and the folder, where nothing is left."""
    left = [path for path in self._all() if path.name != MARKER]
    self._is_held = False
    if left and is_done:
      logger.warning('%s stays: it holds files of others', self.path)
    self._lock.release(keep=bool(left) and not is_done)
    self._remove_if_empty()

  def _remove_if_empty(self) -> None:
    if not self._is_remote:
      with contextlib.suppress(OSError):  # It may be another run's already.
        os.rmdir(self.path)
    elif not any(self._all()):  # A bucket can have an object for the folder.
      self.path.rmtree(missing_ok=True)

  def _inspect(self) -> None:
    """Raises UserError if the folder, or a file in it, is not from pid_jax."""
    if not self._is_remote:
      try:
        mode = os.lstat(self.path).st_mode
      except FileNotFoundError:
        return
      if not stat.S_ISDIR(mode):
        raise self._not_ours('')
    entries = list(self._all())
    foreign = [path for path in entries if not self._is_ours(path.name)]
    if foreign:
      raise self._not_ours(f' It holds {foreign[0].name!r}.')
    if entries and not any(path.name == MARKER for path in entries):
      raise self._not_ours(f' It holds {entries[0].name!r}.')

  def _not_ours(self, why: str) -> errors.UserError:
    return errors.UserError(
      f'{self.path} is needed for work in progress, but is not from '
      f'pid_jax.{why} Move it away, or choose another {self._instead}.'
    )

  def _is_ours(self, name: str) -> bool:
    return (
      name == MARKER
      or self._names.fullmatch(name) is not None
      or files.is_temporary(name)
    )

  def _all(self) -> Iterator[epath.Path]:
    if self.path.exists():
      with contextlib.suppress(FileNotFoundError):  # It went away since.
        yield from self.path.iterdir()

  def _entries(self) -> list[epath.Path]:
    """Returns what may be deleted."""
    return [
      path
      for path in self._all()
      if path.name != MARKER and self._is_ours(path.name)
    ]

  def _explained(self) -> contextlib.AbstractContextManager[None]:
    return files.explained(f'cannot use {self.path}')


def _delete(path: epath.Path) -> None:
  if files.is_remote(path):
    path.rmtree() if path.is_dir() else path.unlink()
  elif os.path.isdir(path) and not os.path.islink(path):
    shutil.rmtree(path)
  else:
    os.unlink(path)
