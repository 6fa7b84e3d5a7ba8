# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Files that are there whole or not at all.

Whatever stops a program, no reader finds half of what it was writing: contents
go to a file beside the target first, which then takes its name.
"""

from etils import epath

from pid_jax import errors


def check(path: epath.PathLike) -> None:
  """Checks that a file can be written somewhere, before work begins.

  Args:
    path: local, or gs://.

  Raises:
    UserError: it is a folder, or would lie in none.
  """
  path = epath.Path(path)
  if path.is_dir() or not path.parent.is_dir():
    raise errors.UserError(
      f'cannot write {path}: it must be a file in a folder that exists'
    )


def write(path: epath.PathLike, content: bytes) -> None:
  """Writes a file; what was there before stays if that fails.

  Args:
    path: local, or gs://, in a folder that exists.
    content: all of it.

  Raises:
    UserError: it cannot be written there.
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
