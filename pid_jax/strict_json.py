# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads all JSON from outside, strictly.

Python's parser accepts more than JSON is (NaN, a key twice, half of a surrogate
pair), and fails in other ways on what is nested too deeply or has too many
digits. Here each is a UserError that says where, in one line whatever the
content.
"""

from collections.abc import Iterator
import functools
import json
from typing import Any

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import files

MAX_BYTES = 1 << 28  # Of a file that is one JSON value.
MAX_LINE_BYTES = 1 << 26  # Of a line of JSON lines.
_MAX_DEPTH = 64
_MAX_DIGITS = 100
_BLOCK = 1 << 22  # Bytes that are read at once.
_BOM = b'\xef\xbb\xbf'
_TOO_DEEP = 'malformed JSON: brackets are nested too deeply'
_HALF = (
  'has an unpaired surrogate (\\ud800 to \\udfff), which is half of a '
  'character; write such characters unescaped'
)
_UTF_16 = (b'\xff\xfe', b'\xfe\xff')  # UTF-32 begins so, too, or with zeros.


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


def read_lines(
  path: epath.PathLike, what: str
) -> Iterator[tuple[int, str, Any]]:
  """Reads a file of JSON lines, skipping blank ones.

  Args:
    path: local, or gs://.
    what: the file is, such as 'the examples', for messages.

  Yields:
    The line number, from 1; 'FILE, line NUMBER', for messages; the value.

  Raises:
    UserError: the file cannot be read, a line is longer than MAX_LINE_BYTES, or
      see `parse`.
  """
  found = files.check_regular(path, what)
  for number, line in enumerate(_lines(found, what), start=1):
    where = f'{found}, line {number}'
    if len(line) > MAX_LINE_BYTES:
      raise errors.UserError(
        f'{where}: is longer than {MAX_LINE_BYTES:,} bytes; is it JSON lines?'
      )
    text = _decode(line, where)
    if text.strip():
      hint = '; each line must be one whole JSON object'
      yield number, where, parse(text, where, hint=hint)


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
  bad_numbers = []

  def bad(message: str) -> _BadNumber:
    bad_numbers.append(_BadNumber(message))
    return bad_numbers[-1]

  def number(digits: str, kind: type[int] | type[float]) -> Any:
    if len(digits) > _MAX_DIGITS:
      return bad(f'a number of {len(digits):,} digits ({digits[:12]}...)')
    value = kind(digits)
    if not allow_nan and value in (float('inf'), float('-inf')):
      return bad(f'{digits[:24]}, which is too large')
    return value

  def constant(name: str) -> Any:
    return float(name) if allow_nan else bad(f'{name}, which is no JSON number')

  def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
      seen = set()
      for name, _ in pairs:
        if name in seen:
          raise errors.UserError(
            f'{where}: an object has the key {checks.shown(name)} twice'
          )
        seen.add(name)
    return found

  try:
    value = json.loads(
      text.rstrip(),
      parse_int=functools.partial(number, kind=int),
      parse_float=functools.partial(number, kind=float),
      parse_constant=constant,
      object_pairs_hook=unique,
    )
  except RecursionError as e:
    raise errors.UserError(f'{where}: {_TOO_DEEP}') from e
  except json.JSONDecodeError as e:
    line = f'line {e.lineno}, ' if '\n' in text.rstrip() else ''
    if "'" in text and '"' not in text:
      hint = '; JSON strings are written in double quotes'
    raise errors.UserError(
      f'{where}: malformed JSON at {line}column {e.colno}: {e.msg}{hint}'
    ) from e
  # Escapes are the only way to a surrogate in text that was UTF-8.
  may_be_half = '\\ud' in text or '\\uD' in text
  may_be_half |= isinstance(content, str) and checks.has_surrogate(text)
  may_be_deep = text.count('[') + text.count('{') > _MAX_DEPTH
  if may_be_half or may_be_deep or bad_numbers:
    _check(value, where)
  return value


def kind(value: Any) -> str:
  """Describes a JSON value in JSON's terms."""
  if value is None or isinstance(value, bool):
    return {None: 'null', True: 'true', False: 'false'}[value]
  if isinstance(value, int | float):
    return f'the number {checks.shown(value)}'
  if isinstance(value, str):
    return 'a string'
  return 'a list' if isinstance(value, list) else 'an object'


def _lines(path: epath.Path, what: str) -> Iterator[bytes]:
  """Yields lines without their ends; holds little more than the longest."""
  with files.explained(f'cannot read {what} {path}'):
    with path.open('rb') as file:
      rest = b''
      while block := file.read(_BLOCK):
        *whole, rest = (rest + block).split(b'\n')
        yield from whole
        if len(rest) > MAX_LINE_BYTES:
          break
  if rest:
    yield rest


def _decode(content: bytes, where: str) -> str:
  if content.startswith(_UTF_16) or b'\0' in content[:4]:
    raise errors.UserError(
      f'{where}: is UTF-16 or UTF-32, or not text; save the file as UTF-8'
    )
  try:
    return content.removeprefix(_BOM).decode()
  except UnicodeDecodeError as e:
    raise errors.UserError(
      f'{where}: byte {e.start + 1} is not UTF-8; save the file as UTF-8'
    ) from e


class _BadNumber(str):
  """Stands for a number until its place is known; says what is wrong."""


def _check(value: Any, where: str) -> None:
  """Raises UserError for the first fault in a value, with its place."""
  pending: list[tuple[tuple[str | int, ...], Any]] = [((), value)]
  while pending:
    place, item = pending.pop()
    if len(place) > _MAX_DEPTH:
      raise errors.UserError(f'{where}: {_TOO_DEEP}')
    if isinstance(item, _BadNumber):
      raise errors.UserError(f'{where}: {_named(place)} is {item}')
    inner = ()
    if isinstance(item, dict):
      if any(map(checks.has_surrogate, item)):
        raise errors.UserError(f'{where}: a key in {_named(place)} {_HALF}')
      inner = item.items()
    elif isinstance(item, list):
      inner = enumerate(item)
    elif isinstance(item, str) and checks.has_surrogate(item):
      raise errors.UserError(f'{where}: {_named(place)} {_HALF}')
    pending.extend(
      ((*place, key), x) for key, x in inner if isinstance(x, str | dict | list)
    )


def _named(place: tuple[str | int, ...]) -> str:
  """Names a place in a value, such as "subtasks[0].name"."""
  text = ''.join(f'[{x}]' if isinstance(x, int) else f'.{x}' for x in place)
  text = text.removeprefix('.')
  return f'"{checks.shown(text)[1:-1]}"' if text else 'the value'
