# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads and writes files that users name, and touches no others.

A path from a flag, a gin file or a call passes through `path`, which expands
'~'. Only regular files are read, since a FIFO or a device can block forever or
never end. `write` puts content into a temporary file beside the target and
renames it, so that an interrupted program leaves no partial file; it follows
symlinks, and replaces nothing but regular files. Errors of the operating system
become one line.
"""

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import os
import secrets
import stat
from typing import Any

from etils import epath

from pid_jax import errors

# A temporary file is '.NAME.RANDOM' with this suffix.
TEMPORARY_SUFFIX = '.pid_jax-tmp'
_MAX_NAME = 255  # Bytes of a file's name on most file systems.
# What a clone without Git LFS has in place of a large file, in under 1 kB.
_LFS_POINTER = b'version https://git-lfs.github.com/spec/'
_MAX_POINTER = 1024


def path(value: Any, name: str = 'the path') -> epath.Path:
  """Returns a path with '~' expanded.

  Args:
    value: a string or path; local, or gs://.
    name: of the setting, such as 'MODEL_DIR', for messages.

  Raises:
    UserError: it is empty, no path, or '~' is unknown.
  """
  if not isinstance(value, str | os.PathLike):
    raise errors.UserError(f'{name} must be a path, got {value!r}.')
  text = os.fspath(value)
  if not isinstance(text, str) or not text.strip() or '\0' in text:
    raise errors.UserError(f'{name} must be a path, got {text!r}.')
  try:
    return epath.Path(text).expanduser()
  except RuntimeError as e:
    raise errors.UserError(
      f"{name}: the home folder '~' of {text!r} is unknown; write it out."
    ) from e


def absolute(value: Any, name: str = 'the path') -> epath.Path:
  """As `path`, and absolute where it is local."""
  found = path(value, name)
  if is_remote(found):
    return found
  return epath.Path(os.path.abspath(found))


def is_remote(value: epath.PathLike) -> bool:
  """Whether a path is in a bucket, as gs://."""
  return '://' in os.fspath(value)


def check_regular(value: epath.PathLike, what: str) -> epath.Path:
  """Checks that a file to read is one; returns its path, expanded.

  Args:
    value: local, or gs://.
    what: the file is, such as 'the vocabulary', for messages.

  Raises:
    UserError: it is missing, a folder, a FIFO, a device, a pointer of Git LFS,
      or cannot be accessed.
  """
  found = path(value, what)
  with explained(f'cannot read {what} {found}'):
    if is_remote(found):
      if not found.exists():
        raise FileNotFoundError(2, os.strerror(2))
    elif not stat.S_ISREG(os.stat(found).st_mode):
      raise errors.UserError(f'cannot read {what} {found}: not a regular file')
    if found.stat().length < _MAX_POINTER:
      with found.open('rb') as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
          raise errors.UserError(
            f'cannot read {what} {found}: it is a pointer of Git LFS, not the '
            'file itself; run `git lfs pull` in its folder, or download it'
          )
  return found


def read_bytes(
  value: epath.PathLike, what: str, max_bytes: int | None = None
) -> bytes:
  """Returns the content of a file.

  Args:
    value: local, or gs://.
    what: the file is, such as 'the vocabulary', for messages.
    max_bytes: size at which a file cannot be what it should be.

  Raises:
    UserError: the file cannot be read, see `check_regular`, or is too large.
  """
  found = check_regular(value, what)
  with explained(f'cannot read {what} {found}'):
    size = found.stat().length
    if max_bytes is not None and size > max_bytes:
      raise errors.UserError(
        f'cannot read {what} {found}: it has {size:,} bytes, more than the '
        f'{max_bytes:,} that such a file can have'
      )
    return found.read_bytes()


def check_output(
  value: epath.PathLike, inputs: Sequence[epath.PathLike] = ()
) -> epath.Path:
  """Checks that a file can be written, before work begins; creates nothing.

  Args:
    value: local, or gs://.
    inputs: files that are read, none of which may be the output.

  Returns:
    The path, expanded.

  Raises:
    UserError: the path is a folder, a device or a FIFO, is one of `inputs`, or
      its folder does not exist or may not be written to.
  """
  target = path(value, 'the output')
  with explained(f'cannot write {target}'):
    if is_remote(target):
      clash = any(str(target) == str(path(x)) for x in inputs)
    else:
      real = _real_target(target)
      clash = any(
        os.path.exists(path(x)) and os.path.exists(real)
        and os.path.samefile(path(x), real)
        for x in inputs if not is_remote(x)
      )  # fmt: skip
      if not os.path.isdir(os.path.dirname(real)):
        raise errors.UserError(
          f'cannot write {target}: its folder does not exist'
        )
      if not os.access(os.path.dirname(real), os.W_OK | os.X_OK):
        raise PermissionError(13, os.strerror(13))
  if clash:
    raise errors.UserError(
      f'cannot write {target}: the command reads it; name another output'
    )
  return target


def write(value: epath.PathLike, content: bytes) -> None:
  """Writes a file; an existing one is kept if that fails.

  Args:
    value: local, or gs://, in a folder that exists.
    content: of the file.

  Raises:
    UserError: the file cannot be written, or the path is that of something
      else than a regular file.
  """
  target = path(value)
  with explained(f'cannot write {target}'):
    if is_remote(target):
      target.write_bytes(content)  # An object appears when it is complete.
      return
    real = _real_target(target)
    folder, name = os.path.split(real)
    ending = f'.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}'
    name = name.encode()[: _MAX_NAME - len(ending) - 1].decode(errors='ignore')
    scratch = os.path.join(folder, f'.{name}{ending}')
    try:
      with open(scratch, 'xb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
      if os.path.exists(real):
        os.chmod(scratch, stat.S_IMODE(os.stat(real).st_mode))
      os.replace(scratch, real)
    except BaseException:
      with contextlib.suppress(OSError):
        os.unlink(scratch)
      raise


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
  """Turns an OSError within the context into a UserError.

  Args:
    what: failed, such as 'cannot read FILE', which begins the message.
  """
  try:
    yield
  except OSError as e:
    raise errors.UserError(f'{what}: {e.strerror or e}') from e


def _real_target(target: epath.Path) -> str:
  """Returns the path behind symlinks; UserError if it cannot be replaced."""
  real = os.path.realpath(target)
  if os.path.lexists(real) and not stat.S_ISREG(os.lstat(real).st_mode):
    raise errors.UserError(
      f'cannot write {target}: it is no regular file and stays as it is'
    )
  return real
