# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Atomic writes of files.

Content is written to a temporary file beside the target and renamed, so that an
interrupted program leaves no partial file.
"""

from etils import epath

from pid_jax import errors


def check(path: epath.PathLike) -> None:
  """Checks that a path can be written, before work begins.

  Args:
    path: local, or gs://.

  Raises:
    UserError: the path is a folder, or its folder does not exist.
  """
  path = epath.Path(path)
  if path.is_dir() or not path.parent.is_dir():
    raise errors.UserError(
      f'cannot write {path}: it must be a file in a folder that exists'
    )


def write(path: epath.PathLike, content: bytes) -> None:
  """Writes a file; an existing one is kept if that fails.

  Args:
    path: local, or gs://, in a folder that exists.
    content: of the file.

  Raises:
    UserError: the file cannot be written.
  """
  path = epath.Path(path)
  scratch = path.with_name(path.name + '.tmp')
  try:
    scratch.write_bytes(content)
    scratch.replace(path)
  except BaseException as e:
    scratch.unlink(missing_ok=True)
    if isinstance(e, OSError):
      raise errors.UserError(f'cannot write {path}: {e.strerror or e}') from e
    raise
