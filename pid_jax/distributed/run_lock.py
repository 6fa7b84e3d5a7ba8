# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a MODEL_DIR.

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

_FILE = 'run.lock'


class RunLock(locks.Lock):
  """A context in which no other run may use a MODEL_DIR, see `locks.Lock`."""

  def __init__(self, model_dir: epath.PathLike, enabled: bool = True):
    """Acquires nothing yet.

    Args:
      model_dir: local, or gs://.
      enabled: False in all processes but the first.
    """
    self._model_dir = epath.Path(model_dir)
    super().__init__(
      self._model_dir / _FILE, str(model_dir), 'MODEL_DIR', enabled=enabled
    )

  def check(self) -> None:
    """Raises UserError if the run cannot have the folder; creates nothing."""
    if self._enabled:
      files.check_folder(self._model_dir, 'MODEL_DIR')
    super().check()

  def acquire(self) -> None:
    """Makes the MODEL_DIR, and takes the lock."""
    if self._enabled:
      with files.explained(f'cannot write to MODEL_DIR {self._model_dir}'):
        self._model_dir.mkdir(parents=True, exist_ok=True)
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
          f'{self._model_dir} is not the same on host {socket.gethostname()} '
          'as on that of process 0: MODEL_DIR must be on a file system that '
          'all hosts share, or in a bucket.'
        )
      time.sleep(1.0)
