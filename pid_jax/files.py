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
import fcntl
import os
import re
import secrets
import stat as stat_lib
from typing import IO, Any

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import file_errors

# A temporary file is '.NAME.RANDOM' with this suffix.
_SUFFIX = '.pid_jax-tmp'
_TEMPORARY = re.compile(r'\.(.*)\.[0-9a-f]{8}' + re.escape(_SUFFIX), re.DOTALL)
_SCHEMES = ('gs', 's3', 'az', 'hf')  # Of epath.
_MAX_LENGTH = 4095  # Of a path (Linux).
_MAX_DEPTH = 255
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
  text = os.fspath(value) if isinstance(value, os.PathLike) else value
  if not isinstance(text, str) or not text.strip() or '\0' in text:
    raise errors.UserError(f'{name} must be a path; got {checks.shown(text)}.')
  if len(text) > _MAX_LENGTH or text.count('/') > _MAX_DEPTH:
    raise errors.UserError(
      f'{name}: the path {checks.shown(text)} is too long.'
    )
  try:
    os.fsencode(text)
  except UnicodeEncodeError as e:
    raise errors.UserError(
      f'{name} must be a path; {checks.shown(text)} has an unpaired surrogate.'
    ) from e
  scheme, is_url, rest = text.partition('://')
  if is_url:
    if scheme not in _SCHEMES or not rest.strip('/'):
      raise errors.UserError(
        f'{name} must be a path, local or gs://BUCKET/...; got '
        f'{checks.shown(text)}.'
      )
    return epath.Path(text)
  expanded = os.path.expanduser(text)
  if expanded.startswith('~'):
    raise errors.UserError(
      f'{name}: the home folder of {checks.shown(text)} is unknown; write it '
      'out, or ./~ for a file of this name.'
    )
  found = epath.Path(expanded)
  if os.fspath(found).startswith('~'):  # './~' must not be expanded later.
    return epath.Path(os.path.abspath(found))
  return found


def absolute(value: Any, name: str = 'the path') -> epath.Path:
  """As `path`, and absolute where it is local."""
  found = path(value, name)
  if is_remote(found):
    return found
  return epath.Path(os.path.abspath(found))


def is_given(value: Any) -> bool:
  """Whether a setting names a file: neither None nor '', nor 'None'.

  Flags of gin give None as a string, where users put it in quotes.
  """
  return value is not None and not (
    isinstance(value, str) and value in ('', 'None')
  )


def is_remote(value: epath.PathLike) -> bool:
  """Whether a path is in a bucket, as gs://."""
  return '://' in os.fspath(value)


def is_bucket(value: epath.PathLike) -> bool:
  """Whether a path is that of a bucket, not of something in one."""
  _, is_url, rest = os.fspath(value).partition('://')
  return bool(is_url) and '/' not in rest.strip('/')


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
    elif not stat_lib.S_ISREG(os.stat(found).st_mode):
      raise errors.UserError(f'cannot read {what} {found}: not a regular file')
    if stat(found)[0] < _MAX_POINTER:
      with found.open('rb') as file:
        if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
          raise errors.UserError(
            f'cannot read {what} {found}: it is a pointer of Git LFS, not the '
            'file itself; run `git lfs pull` in its folder, or download it'
          )
  return found


def stat(value: epath.PathLike) -> tuple[int, float]:
  """Returns a file's size in bytes, and when it was changed (Unix time).

  Unlike epath's it does not ask for the owner's name, who may have none.
  """
  if is_remote(value):
    found = epath.Path(value).stat()
    return found.length, float(found.mtime)
  there = os.stat(value)
  return there.st_size, there.st_mtime


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
    size, _ = stat(found)
    if max_bytes is not None and size > max_bytes:
      raise errors.UserError(
        f'cannot read {what} {found}: it has {size:,} bytes, more than the '
        f'{max_bytes:,} that such a file can have'
      )
    return found.read_bytes()


def real(value: epath.PathLike) -> epath.Path:
  """As `absolute`, and the file or folder behind symlinks where it is local."""
  found = path(value)
  return found if is_remote(found) else epath.Path(os.path.realpath(found))


def cut(name: str, ending: str) -> str:
  """Returns a file's name with an ending, cut where that is too long."""
  room = _MAX_NAME - len(os.fsencode(ending))
  return os.fsencode(name)[:room].decode(errors='ignore') + ending


def is_temporary(name: str) -> bool:
  """Whether `write` gives such names to its temporary files."""
  return _TEMPORARY.fullmatch(name) is not None


def cache_folder() -> epath.Path | None:
  """Returns the user's folder for what can be made again; None without a home.

  It is XDG_CACHE_HOME/pid_jax or ~/.cache/pid_jax, and need not exist.
  """
  try:
    return path(os.environ.get('XDG_CACHE_HOME') or '~/.cache') / 'pid_jax'
  except errors.UserError:
    return None


def check_output(
  value: epath.PathLike, inputs: Sequence[epath.PathLike] = ()
) -> epath.Path:
  """Checks that a file can be written, before work begins; leaves nothing.

  Args:
    value: local, or gs://.
    inputs: files that are read, none of which may be the output.

  Returns:
    The path, expanded.

  Raises:
    UserError: the path is a folder, a device or a FIFO, is one of `inputs`, or
      its folder does not exist or cannot be written to.
  """
  target = path(value, 'the output')
  with explained(f'cannot write {target}'):
    if is_remote(target):
      clash = any(str(target) == str(path(x)) for x in inputs)
      if is_bucket(target) or target.is_dir():
        raise errors.UserError(f'cannot write {target}: it is a folder')
    else:
      found = _real_target(target)
      clash = os.path.exists(found) and any(
        os.path.exists(x) and os.path.samefile(x, found)
        for x in map(path, inputs)
      )
      if not os.path.isdir(os.path.dirname(found)):
        raise errors.UserError(
          f'cannot write {target}: its folder does not exist'
        )
      if not clash:
        _try_to_write(found)
  if clash:
    raise errors.UserError(
      f'cannot write {target}: the command reads it; name another output'
    )
  return target


def check_folder(value: epath.PathLike, what: str) -> epath.Path:
  """Checks that a folder is there or can be made; leaves nothing.

  Args:
    value: local, or gs://.
    what: the folder is, such as 'MODEL_DIR', for messages.

  Returns:
    The path, expanded.

  Raises:
    UserError: it is no folder, or cannot be written to.
  """
  target = path(value, what)
  if is_remote(target):
    return target
  with explained(f'cannot write to {what} {target}'):
    found = os.path.realpath(target)
    with contextlib.suppress(FileNotFoundError):
      os.stat(found)  # Raises if there cannot be such a path.
    while not os.path.lexists(found):
      found = os.path.dirname(found)
    if not os.path.isdir(found):
      raise errors.UserError(
        f'cannot write to {what} {target}: {found} is a file, not a folder'
      )
    _try_to_write(os.path.join(found, 'folder'))
  return target


def write(value: epath.PathLike, content: bytes) -> None:
  """Writes a file, whole or not at all: an existing one is kept if that fails.

  What a process that was killed left of the same file is deleted.

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
    found = _real_target(target)
    _sweep(found)
    with _temporary(found) as file:
      file.write(content)
      file.flush()
      os.fsync(file.fileno())
      if os.path.exists(found):
        os.chmod(file.name, stat_lib.S_IMODE(os.stat(found).st_mode))
      os.replace(file.name, found)


def _try_to_write(target: str) -> None:
  """Raises OSError if a file cannot be made; nothing else tells so surely."""
  with _temporary(target) as file:
    file.write(b'\n')
    file.flush()


@contextlib.contextmanager
def _temporary(target: str) -> Iterator[IO[bytes]]:
  """Yields a new file beside a target, deleted at the end unless renamed.

  It is locked meanwhile, which tells `_sweep` that its process lives.
  """
  folder, name = os.path.split(target)
  while True:
    ending = f'.{secrets.token_hex(4)}{_SUFFIX}'
    temporary = os.path.join(folder, cut(f'.{name}', ending))
    with open(temporary, 'xb') as file:
      try:
        with contextlib.suppress(OSError):  # Then nothing is ever swept.
          fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:  # Else another swept it before.
          yield file
          return
      finally:
        with contextlib.suppress(OSError):
          os.unlink(temporary)


def _sweep(target: str) -> None:
  """Deletes temporary files of a target whose processes were killed."""
  folder, name = os.path.split(target)
  random = '0' * 8
  start = cut(f'.{name}', f'.{random}{_SUFFIX}').removesuffix(random + _SUFFIX)
  with os.scandir(folder) as entries:
    found = [
      entry.path
      for entry in entries
      if is_temporary(entry.name)
      and entry.name[: -len(random + _SUFFIX)] == start
    ]
  for temporary in found:
    with contextlib.suppress(OSError):
      flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
      descriptor = os.open(temporary, flags)
      try:
        if stat_lib.S_ISREG(os.fstat(descriptor).st_mode):
          fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
          os.unlink(temporary)
      finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
  """Turns errors of files and disks within the context into a UserError.

  Args:
    what: failed, such as 'cannot read FILE', which begins the message.
  """
  try:
    yield
  except Exception as e:  # Libraries have their own kinds, see file_errors.
    found = file_errors.find(e)
    if found is None:
      raise
    name, words = found
    if name and name not in what and not is_temporary(os.path.basename(name)):
      words = f'{name}: {words}'
    raise errors.UserError(f'{what}: {words}') from e


def _real_target(target: epath.Path) -> str:
  """Returns the path behind symlinks; UserError if it cannot be replaced."""
  found = os.path.realpath(target)
  for file in (target, found):  # /dev/stdout leads to no path.
    try:
      mode = os.stat(file).st_mode
    except FileNotFoundError:
      continue
    if not stat_lib.S_ISREG(mode):
      what = 'a folder' if stat_lib.S_ISDIR(mode) else 'no regular file'
      raise errors.UserError(
        f'cannot write {target}: it is {what} and stays as it is'
      )
  return found
