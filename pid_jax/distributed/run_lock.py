# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a MODEL_DIR, or another folder of results.

Two runs would delete each other's checkpoints. Of the processes of a run, the
first has the lock, and all look whether they see its MODEL_DIR.
"""

import socket
import time

from etils import epath

from pid_jax import errors
from pid_jax import files
from pid_jax import locks
from pid_jax.distributed import coordination

FILE = 'run.lock'


class RunLock(locks.Lock):
  """A context in which no other run may use a folder, see `locks.Lock`."""

  def __init__(
    self,
    folder: epath.PathLike,
    name: str = 'MODEL_DIR',
    *,
    enabled: bool = True,
  ):
    """Acquires nothing yet.

    Args:
      folder: local, or gs://.
      name: of its setting, for messages.
      enabled: False in all processes but the first.
    """
    self._folder = epath.Path(folder)
    self._name = name
    super().__init__(self._folder / FILE, str(folder), name, enabled=enabled)

  def check(self) -> None:
    """Raises UserError if the run cannot have the folder; creates nothing."""
    if self._enabled:
      files.check_folder(self._folder, self._name)
    super().check()

  def acquire(self) -> None:
    """Makes the folder, and takes the lock; raises UserError as `check`."""
    if self._enabled:
      with files.explained(f'cannot write to {self._name} {self._folder}'):
        self._folder.mkdir(parents=True, exist_ok=True)
    super().acquire()

  def check_shared(self, seconds: float = 60.0) -> None:
    """Checks that all processes see the folder of the first one.

    Args:
      seconds: until what the first has written must be seen.

    Raises:
      UserError: this one does not.
    """
    owner = coordination.broadcast(self.owner)
    end = time.monotonic() + seconds
    while self.read_owner() != owner:
      if time.monotonic() > end:
        raise errors.UserError(
          f'{self._folder} is not the same on host {socket.gethostname()} '
          'as on that of process 0: MODEL_DIR must be on a file system that '
          'all hosts share, or in a bucket.'
        )
      time.sleep(1.0)
