# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Explains what the operating system refused, in one line.

Python raises OSError, TensorFlow an error of its own, and tensorstore (so orbax
too) a ValueError that quotes the system. Whichever it is, `fault` says in words
what is wrong, `explain` also with which file, and `find` returns both.
"""

import errno
import os
import re

from pid_jax import errors

_WORDS = {
  errno.ENOSPC: 'no space left on the device',
  errno.EDQUOT: 'the disk quota is exceeded',
  errno.EFBIG: 'a file would be too large',
  errno.EACCES: 'permission denied',
  errno.EPERM: 'permission denied',
  errno.EROFS: 'the file system is read-only',
  errno.ENOTDIR: 'a part of the path is a file, not a folder',
  errno.EISDIR: 'it is a folder, not a file',
  errno.ENAMETOOLONG: 'the name is too long',
  errno.ELOOP: 'the symlinks form a loop',
}
# A full or locked disk can be what caused an error that somebody raised while
# handling it. A file that is missing is expected there more often than not.
_DISK = (
  *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
  *(errno.EACCES, errno.EPERM, errno.EROFS),
)
_SYSTEM = {os.strerror(number): number for number in errno.errorcode}
# As C libraries write them, at the end of a path or of a sentence.
_QUOTED = re.compile(
  '(?:; |: |}} |^)(' + '|'.join(map(re.escape, _SYSTEM)) + r')(?=$|\W)', re.M
)
_TENSORSTORE = re.compile(r"\[os_error_code='(\d+)'\]")
# TensorFlow's words where it does not quote the system's.
_TENSORFLOW = {
  r'Could not flush events file': errno.ENOSPC,
  r' is not a directory\b': errno.ENOTDIR,
  r'Could not find directory': errno.ENOENT,
}
# Of buckets, which need no words of the system.
_BUCKET_ERRORS = (
  *('PermissionDeniedError', 'UnauthenticatedError', 'UnavailableError'),
  *('DeadlineExceededError', 'AbortedError'),
)
_BUCKET_TEXTS = (
  r'Error executing an HTTP request|retry attempts failed|File system scheme'
)
_FILE = re.compile(
  r'local file "([^"]+)"|(/[^;\n]*); |(/[^;\n]*) is not a directory'
)


def fault(error: BaseException | None) -> str | None:
  """Returns what is wrong with a file, 'no space left on the device'.

  Args:
    error: see `find`.

  Returns:
    Words, or None, see `find`.
  """
  found = find(error)
  return found[1] if found else None


def explain(error: BaseException | None) -> str | None:
  """As `fault`, after the file's name where that is known: 'FILE: WORDS'."""
  found = find(error)
  return ': '.join(filter(None, found)) if found else None


def find(error: BaseException | None) -> tuple[str | None, str] | None:
  """Returns the file, if known, and what is wrong with it.

  Args:
    error: the exception; its causes are looked at too.

  Returns:
    None if no file or disk caused the error, and for a UserError, which has
    been explained before.
  """
  handled = False  # Whether it was only being handled when another was raised.
  while error is not None and not isinstance(error, errors.UserError):
    if isinstance(error, OSError):
      if not handled or error.errno in _DISK:
        return _name(error.filename), _words(error)
    else:
      text = str(error)
      number = _quoted(error, text)
      if number is not None and (not handled or number in _DISK):
        file = _FILE.search(text)
        name = next(filter(None, file.groups())) if file else None
        return name, _of_number(number)
      if _is_tensorflow(error) and (
        type(error).__name__ in _BUCKET_ERRORS or re.search(_BUCKET_TEXTS, text)
      ):
        return None, _first_line(text)
    handled = handled or error.__cause__ is None
    error = error.__cause__ or (
      None if error.__suppress_context__ else error.__context__
    )
  return None


def _quoted(error: BaseException, text: str) -> int | None:
  """Returns the system's error number that the text of an error names."""
  match = _TENSORSTORE.search(text)
  if match:
    return int(match[1])
  match = _QUOTED.search(text)
  number = _SYSTEM[match[1]] if match else None
  if _is_tensorflow(error):
    if number is None:
      for pattern, other in _TENSORFLOW.items():
        if re.search(pattern, text):
          return other
    return number
  # Any text can quote any error; one of the disk is worth its own words.
  return number if number in _DISK else None


def _words(error: OSError) -> str:
  if error.errno is None:  # As gzip's and urllib's.
    return _first_line(str(error)) or type(error).__name__
  words = _of_number(error.errno)
  if error.strerror and error.strerror != os.strerror(error.errno):
    words += f' ({_first_line(error.strerror)})'
  return words


def _of_number(number: int) -> str:
  words = os.strerror(number)
  return _WORDS.get(number, words[:1].lower() + words[1:])


def _name(value: str | bytes | int | None) -> str | None:
  """Returns a file's name on one line; an open file has a number instead."""
  if not isinstance(value, str | bytes | os.PathLike):
    return None
  return _first_line(os.fsdecode(value))


def _first_line(text: str) -> str:
  line = text.strip().partition('\n')[0].rstrip('. ')
  return line if len(line) <= 300 else line[:297] + '...'


def _is_tensorflow(error: BaseException) -> bool:
  return any(
    kind.__module__.startswith('tensorflow.') for kind in type(error).__mro__
  )
