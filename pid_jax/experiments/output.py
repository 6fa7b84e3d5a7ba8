# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What experiments print and write: progress, and JSON that explains itself."""

from collections.abc import Iterator
import contextlib
import datetime
import importlib.metadata
import json
import os
from typing import Any

from etils import epath

from pid_jax import files
from pid_jax.distributed import run_lock

_PACKAGES = (
  'pid_jax', 'jax', 'jaxlib', 'flax', 'numpy', 'torch', 'transformers',
  'ctranslate2', 'libtpu',
)  # fmt: skip


def stamp(command: str) -> dict[str, Any]:
  """Returns 'command', 'date' (UTC, ISO 8601) and 'versions' of packages.

  Args:
    command: that was run.
  """
  now = datetime.datetime.now(datetime.UTC)
  return {
    'command': command,
    'date': now.isoformat(timespec='seconds'),
    'versions': dict(_versions()),
  }


@contextlib.contextmanager
def reserved(folder: epath.PathLike) -> Iterator[epath.Path]:
  """Yields a folder, made if need be, that no other run writes to meanwhile.

  Args:
    folder: of --output; local, or gs://.

  Raises:
    UserError: another run writes to it, or it cannot be written to.
  """
  path = files.path(folder, '--output')
  try:
    with run_lock.RunLock(path, '--output'):
      yield path
  finally:
    if not files.is_remote(path):
      with contextlib.suppress(OSError):  # It holds something by now.
        os.rmdir(path)


def say(line: str) -> None:
  """Prints a line of progress at once, also where output is a file."""
  print(line, flush=True)


def write_json(path: epath.PathLike, value: Any) -> None:
  """Writes JSON, whole or not at all."""
  files.write(path, (json.dumps(value, indent=1) + '\n').encode())


def _versions():
  """Yields name and version of those packages that are installed."""
  for package in _PACKAGES:
    try:
      yield package, importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      pass
