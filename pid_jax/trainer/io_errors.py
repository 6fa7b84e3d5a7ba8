# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A disk that is full or may not be used, told in one line.

Checkpoints are written by many threads of three libraries. When the disk gives
out, each of them tells its own story, some long after; here those are kept
quiet, and the one exception that reaches the training loop becomes a UserError.
"""

from collections.abc import Iterator
import contextlib
import errno
import logging
import os
import re
import shutil
import sys
import threading

from etils import epath

from pid_jax import checkpoints
from pid_jax import errors

_FAULTS = {
  errno.ENOSPC: 'no space left on the device',
  errno.EDQUOT: 'the disk quota is exceeded',
  errno.EFBIG: 'a file would be too large',
  errno.EACCES: 'permission denied',
  errno.EPERM: 'permission denied',
  errno.EROFS: 'the file system is read-only',
}
# TensorFlow's and tensorstore's errors carry the system's as text.
_TEXTS = {
  r'No space left on device|Could not flush events file': errno.ENOSPC,
  r'[Qq]uota exceeded': errno.EDQUOT,
  r'File too large': errno.EFBIG,
  r'Permission denied': errno.EACCES,
  r'Read-only file system': errno.EROFS,
}


class ReadError(errors.UserError):
  """This process cannot read what it must; others may have read theirs."""


def fault(error: BaseException | None) -> str | None:
  """Says in words what is wrong with the disk, if that caused an error.

  What is explained already, as a UserError, is nothing of the disk's any more.
  """
  while error is not None and not isinstance(error, errors.UserError):
    if isinstance(error, OSError) and error.errno in _FAULTS:
      return _FAULTS[error.errno]
    words = _fault_in(str(error))
    if words:
      return words
    error = error.__cause__ or error.__context__
  return None


def check_space(path: epath.PathLike, num_bytes: int) -> None:
  """Raises OSError (ENOSPC) if a local disk has not so many bytes left."""
  path = str(path)
  if '://' in path:
    return
  free = shutil.disk_usage(path).free
  if free < num_bytes:
    raise OSError(
      errno.ENOSPC, f'{num_bytes / 1e6:.4g} MB needed, {free / 1e6:.4g} MB free'
    )


@contextlib.contextmanager
def faults_explained(model_dir: epath.PathLike) -> Iterator[None]:
  """Turns the disk's faults within the context into one UserError."""
  try:
    with _quiet_threads():
      yield
  except Exception as e:
    words = fault(e)
    if words is None:
      raise
    if isinstance(e, OSError) and e.strerror != os.strerror(e.errno):
      words += f' ({e.strerror})'
    try:
      steps = checkpoints.steps(model_dir)
    except OSError:
      steps = []
    kept = f'Step {steps[-1]} is whole' if steps else 'No step had been written'
    raise errors.UserError(
      f'Cannot write to {model_dir}: {words}. {kept}. Mend that and give the '
      'same command again to go on.'
    ) from e


@contextlib.contextmanager
def reads_explained(what: str) -> Iterator[None]:
  """Turns faults in reading within the context into a ReadError.

  So that they are not taken for faults in writing to MODEL_DIR.

  Args:
    what: is read, such as 'the training data'.
  """
  try:
    yield
  except Exception as e:
    words = fault(e)
    if words is None:
      raise
    line = str(e).strip().partition('\n')[0]
    raise ReadError(
      f'Cannot read {what}: {words} ({line}). Mend that and give the same '
      'command again.'
    ) from e


@contextlib.contextmanager
def _quiet_threads() -> Iterator[None]:
  """Keeps reports of the disk's faults by other threads off the terminal."""
  seen = threading.Event()

  def is_noise(error: BaseException | None, text: str) -> bool:
    if fault(error) or _fault_in(text):
      seen.set()
      return True
    # What other writes say when the first failed.
    echo = 'Event loop is closed|after interpreter shutdown'
    return seen.is_set() and bool(re.search(echo, f'{error} {text}'))

  def keep(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not is_noise(error, record.getMessage())

  def quiet(hook, error_of):
    def hook_unless_noise(*args):
      if not is_noise(error_of(*args), ''):
        hook(*args)

    return hook_unless_noise

  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  hooks = sys.excepthook, sys.unraisablehook, threading.excepthook
  for logger in loggers:
    logger.addFilter(keep)
  sys.excepthook = quiet(hooks[0], lambda kind, value, tb: value)
  sys.unraisablehook = quiet(hooks[1], lambda args: args.exc_value)
  threading.excepthook = quiet(hooks[2], lambda args: args.exc_value)
  try:
    yield
  finally:
    if not seen.is_set():  # Else stragglers will go on to tell.
      sys.excepthook, sys.unraisablehook, threading.excepthook = hooks
      for logger in loggers:
        logger.removeFilter(keep)


def _fault_in(text: str) -> str | None:
  for pattern, number in _TEXTS.items():
    if re.search(pattern, text):
      return _FAULTS[number]
  return None
