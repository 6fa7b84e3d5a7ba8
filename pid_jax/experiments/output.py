# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What experiments print and write: progress, and JSON that explains itself."""

import datetime
import importlib.metadata
import json
from typing import Any

from etils import epath

from pid_jax import files

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
