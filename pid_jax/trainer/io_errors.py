# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Explains a disk that is full or may not be used, where a training meets it.

An error that reaches the train loop becomes a UserError that says what is wrong
(`file_errors` knows), which checkpoint is complete, and what to do.
"""

from collections.abc import Iterator
import contextlib
import errno
import logging
import shutil

from etils import epath

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import file_errors


class ReadError(errors.UserError):
  """This process cannot read its data; others may have read theirs."""


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
    words = file_errors.fault(e)
    if words is None:
      raise
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
    words = file_errors.explain(e)
    if words is None:
      raise
    raise ReadError(
      f'Cannot read {what}: {words}. Correct that and run the same command '
      'again.'
    ) from e


@contextlib.contextmanager
def _faults_not_logged() -> Iterator[None]:
  """Drops the log records in which each of orbax's threads repeats a fault."""

  def is_other(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    quoted = RuntimeError(record.getMessage())
    return not (file_errors.fault(error) or file_errors.fault(quoted))

  loggers = [logging.getLogger(name) for name in ('absl', 'asyncio')]
  for logger in loggers:
    logger.addFilter(is_other)
  try:
    yield
  finally:
    for logger in loggers:
      logger.removeFilter(is_other)
