# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one reader of JSON that comes from outside.

Python's parser accepts more than JSON is (NaN, a key twice, half of a surrogate
pair), and fails in ways of its own on what is nested too deeply or has too many
digits. Here each is a UserError that says where.
"""

from collections.abc import Iterator
import json
from typing import Any, NoReturn

from etils import epath

from pid_jax import errors
from pid_jax import files

MAX_BYTES = 1 << 28  # Of a file that is one JSON value.
_MAX_DEPTH = 64
_MAX_DIGITS = 100
_BOM = b'\xef\xbb\xbf'


def read(
  path: epath.PathLike,
  what: str,
  *,
  max_bytes: int = MAX_BYTES,
  allow_nan: bool = False,
) -> Any:
  """Reads a file of one JSON value.

  Args:
    path: local, or gs://.
    what: the file is, such as 'the configuration', for messages.
    max_bytes: that it may have.
    allow_nan: see `parse`.

  Raises:
    UserError: the file cannot be read, or see `parse`.
  """
  content = files.read_bytes(path, what, max_bytes)
  return parse(content, str(path), allow_nan=allow_nan)


def read_object(
  path: epath.PathLike, what: str, **kwargs: Any
) -> dict[str, Any]:
  """As `read`, and the value must be an object."""
  value = read(path, what, **kwargs)
  if not isinstance(value, dict):
    raise errors.UserError(f'{path}: must be a JSON object, not {kind(value)}')
  return value


def parse(
  content: bytes | str, where: str, *, allow_nan: bool = False, hint: str = ''
) -> Any:
  """Parses JSON text.

  Args:
    content: in UTF-8, with or without a byte order mark.
    where: it is from, which begins messages.
    allow_nan: whether NaN, Infinity and -Infinity are numbers, as Python and
      NumPy write them.
    hint: ends the message about a syntax error.

  Raises:
    UserError: it is not UTF-8 or not JSON, an object has a key twice, brackets
      are nested too deeply, a number has too many digits, or a string holds
      half of a surrogate pair.
  """
  text = _decode(content, where) if isinstance(content, bytes) else content

  def fail(message: str) -> NoReturn:
    raise errors.UserError(f'{where}: malformed JSON: {message}')

  def integer(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
      fail(f'a number of {len(digits):,} digits ({digits[:12]}...)')
    return int(digits)

  def number(digits: str) -> float:
    value = float(digits)
    if not allow_nan and value in (float('inf'), float('-inf')):
      fail(f'the number {digits[:24]} is too large')
    return value

  def constant(name: str) -> float:
    if not allow_nan:
      fail(f'{name} is not a JSON number')
    return float(name)

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
      names = [name for name, _ in pairs]
      twice = next(name for name in names if names.count(name) > 1)
      fail(f'an object has the key {json.dumps(twice)[:80]} twice')
    return found

  try:
    value = json.loads(
      text.rstrip(),
      parse_int=integer,
      parse_float=number,
      parse_constant=constant,
      object_pairs_hook=unique,
    )
  except RecursionError:
    fail('brackets are nested too deeply')
  except json.JSONDecodeError as e:
    line = f'line {e.lineno}, ' if '\n' in text.rstrip() else ''
    raise errors.UserError(
      f'{where}: malformed JSON at {line}column {e.colno}: {e.msg}{hint}'
    ) from e
  # Escapes are the only way to a surrogate in text that was UTF-8.
  has_escapes = '\\ud' in text or '\\uD' in text or isinstance(content, str)
  if has_escapes or text.count('[') + text.count('{') > _MAX_DEPTH:
    for where_in_value, depth, item in _walk(value):
      if depth > _MAX_DEPTH:
        fail('brackets are nested too deeply')
      if isinstance(item, str) and has_surrogate(item):
        raise errors.UserError(
          f'{where}: {where_in_value} has an unpaired surrogate (\\ud800 to '
          '\\udfff), which is half of a character; write such characters '
          'unescaped'
        )
  return value


def has_surrogate(text: str) -> bool:
  """Whether a string holds half of a surrogate pair, which is no character."""
  return any('\ud800' <= character <= '\udfff' for character in text)


def kind(value: Any) -> str:
  """Describes a JSON value in JSON's terms."""
  if value is None or isinstance(value, bool):
    return {None: 'null', True: 'true', False: 'false'}[value]
  if isinstance(value, int | float):
    return f'the number {value}'
  if isinstance(value, str):
    return 'a string'
  return 'a list' if isinstance(value, list) else 'an object'


def _decode(content: bytes, where: str) -> str:
  try:
    return content.removeprefix(_BOM).decode()
  except UnicodeDecodeError as e:
    raise errors.UserError(
      f'{where}: byte {e.start + 1} is not UTF-8; save the file as UTF-8'
    ) from e


def _walk(value: Any) -> Iterator[tuple[str, int, Any]]:
  """Yields the path, depth and value of all strings, keys and containers."""
  pending = [('the value', 0, value)]
  while pending:
    where, depth, item = pending.pop()
    yield where, depth, item
    if isinstance(item, dict):
      for key, inner in item.items():
        yield 'a key', depth + 1, key
        if isinstance(inner, str | dict | list):
          pending.append((f'"{key}"', depth + 1, inner))
    elif isinstance(item, list):
      pending.extend(
        (f'{where}[{i}]', depth + 1, inner)
        for i, inner in enumerate(item)
        if isinstance(inner, str | dict | list)
      )
