# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Explains a disk that is full or may not be used, in one line.

Three libraries write checkpoints and events, each with its exceptions. The one
that reaches the train loop becomes a UserError that says what is wrong, which
checkpoint is complete, and what to do.
"""

from collections.abc import Iterator
import contextlib
import errno
import logging
import os
import re
import shutil

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
  """This process cannot read its data; others may have read theirs."""


def fault(error: BaseException | None) -> str | None:
  """Returns what is wrong with the disk if that caused an error, else None.

  A UserError has been explained before, so its causes are not looked at.
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
  """Raises OSError (ENOSPC) if a local disk has less than `num_bytes` free."""
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
  """Turns faults of the disk within the context into a UserError."""
  try:
    with _faults_not_logged():
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
    kept = f'Step {steps[-1]} is complete' if steps else 'No step is complete'
    raise errors.UserError(
      f'Cannot write to {model_dir}: {words}. {kept}. Make room or change the '
      'permissions, then run the same command again to resume.'
    ) from e


@contextlib.contextmanager
def reads_explained(what: str) -> Iterator[None]:
  """Turns faults of the disk within the context into a ReadError.

  Otherwise `faults_explained` would report that MODEL_DIR cannot be written.

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
      f'Cannot read {what}: {words} ({line}). Correct that and run the same '
      'command again.'
    ) from e


@contextlib.contextmanager
def _faults_not_logged() -> Iterator[None]:
  """Drops the log records in which each of orbax's threads repeats a fault."""

  def is_other(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not (fault(error) or _fault_in(record.getMessage()))

  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  for logger in loggers:
    logger.addFilter(is_other)
  try:
    yield
  finally:
    for logger in loggers:
      logger.removeFilter(is_other)


def _fault_in(text: str) -> str | None:
  for pattern, number in _TEXTS.items():
    if re.search(pattern, text):
      return _FAULTS[number]
  return None
