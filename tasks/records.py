# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads a distributor's files strictly, and reports what was read and skipped.

Published data is rarely clean: downloads are incomplete, columns are renamed,
one dialogue in ten thousand has no state. Every error names the file and the
record. Where the convention is to skip a record, the report has the reason, so
that differences from published counts can be explained.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import dataclasses
import io
import os
from typing import Any
import zipfile

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json

_MAX_BYTES = 1 << 30  # Of a file; the largest that is published has a quarter.

_MAX_NAME = 80  # Characters of a record's name in messages.

# Of a file, or of a member of an archive.
Path = epath.Path | zipfile.Path


@dataclasses.dataclass
class ReadReport:
  """Report on reading the files of one split.

  Attributes:
    counts: of what was kept, such as {'dialogues': 999}.
    missing: names of missing files.
    skipped: the skipped records: `file`, `record` and `why` of each.
  """

  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  missing: list[str] = dataclasses.field(default_factory=list)
  skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)

  def count(self, unit: str, number: int = 1) -> None:
    """Adds to a count.

    Args:
      unit: what is counted, in the plural: 'dialogues'.
      number: to add.
    """
    self.counts[unit] = self.counts.get(unit, 0) + number

  def skip(self, path: Path, record: str, why: str) -> None:
    """Adds a skipped record.

    Args:
      path: the file.
      record: its name, such as 'dialogue PMUL1.json'.
      why: the reason, with the same words for all records that share it.
    """
    self.skipped.append({'file': path.name, 'record': record, 'why': why})

  @contextlib.contextmanager
  def reading(self, path: Path, record: str) -> Iterator[None]:
    """Adds file and record to the errors raised inside the `with` block.

    Yield examples outside of the block, or it catches errors of the consumer.

    Args:
      path: the file.
      record: its name, such as 'dialogue PMUL1.json'.

    Raises:
      UserError: the block raised an error that an invalid record causes.
    """
    record = ' '.join(record[:_MAX_NAME].split())
    try:
      yield
    except errors.UserError:
      raise
    except KeyError as e:
      raise errors.UserError(
        f'{path}, {record}: lacks {checks.shown(e.args[0])}'
      ) from e
    except (
      *(ArithmeticError, AttributeError, LookupError),
      *(RecursionError, TypeError, ValueError),
    ) as e:
      raise errors.UserError(
        f'{path}, {record}: is not of the form that the distributor publishes '
        f'({type(e).__name__}: {_reason(e)})'
      ) from e


def read_json(path: Path, kind: type = list) -> Any:
  """Reads a JSON file.

  Args:
    path: of the file.
    kind: list or dict, the required type of the value.

  Raises:
    UserError: the file is truncated, malformed or of another type.
  """
  text = read_text(path)
  hint = f'; is the file, of {len(text)} characters, complete?'
  value = strict_json.parse(text, str(path), hint=hint)
  if not isinstance(value, kind):
    raise errors.UserError(
      f'{path}: must hold a JSON {"list" if kind is list else "object"}, not '
      f'{strict_json.kind(value)}'
    )
  return value


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
  """Reads a CSV file with a header; quoted fields may have several lines.

  Args:
    path: of the file.
    columns: names that the header must have; it may have others, too.

  Yields:
    The fields of each row by the name of their column.

  Raises:
    UserError: a column is missing, a row has too few or too many fields, or a
      quoted field does not end.
  """
  reader = csv.reader(io.StringIO(read_text(path), newline=''), strict=True)
  header = next(reader, [])
  missing = [name for name in columns if name not in header]
  if missing:
    raise errors.UserError(
      f'{path}: lacks the column {", ".join(map(repr, missing))}; it has '
      f'{", ".join(map(repr, header)) or "none"}'
    )
  start, number = reader.line_num + 1, 0
  while True:
    try:
      row = next(reader, None)
    except csv.Error as e:
      raise errors.UserError(
        f'{path}, row {number + 1}, from line {start}: malformed CSV ({e}); is '
        'the file complete?'
      ) from e
    if row is None:
      return
    if row:  # Not a blank line.
      number += 1
      if len(row) != len(header):
        raise errors.UserError(
          f'{path}, row {number}, from line {start}: has {len(row)} fields, '
          f'and the header {len(header)}; is the file complete?'
        )
      yield dict(zip(header, row, strict=True))
    start = reader.line_num + 1


def read_lines(path: Path) -> list[str]:
  """Reads the lines of a text file that are not blank, stripped."""
  lines = [line.strip() for line in read_text(path).splitlines()]
  return [line for line in lines if line]


def read_text(path: Path) -> str:
  """Reads a file in UTF-8.

  Raises:
    UserError: the file cannot be read, is not UTF-8, is a Git LFS pointer, or
      is larger than what is published.
  """
  try:
    if isinstance(path, zipfile.Path):
      content = _read_member(path)
    else:
      content = files.read_bytes(path, 'the file', _MAX_BYTES)
  except errors.UserError:
    raise
  except Exception as e:  # Of each kind of compression, and of encryption.
    raise errors.UserError(f'cannot read {path}: {_reason(e)}') from e
  if content.startswith(b'version https://git-lfs'):
    raise errors.UserError(
      f'{path} is only a Git LFS pointer: run `git lfs pull` in its repository'
    )
  try:
    return content.decode('utf-8-sig')
  except UnicodeDecodeError as e:
    raise errors.UserError(f'{path}: byte {e.start + 1} is not UTF-8') from e


def open_archive(path: epath.PathLike) -> zipfile.Path:
  """Reads a zip file into memory and returns its root, without unpacking it.

  Raises:
    UserError: the file cannot be read, or is not a zip file.
  """
  name = os.fspath(path)
  if isinstance(path, zipfile.Path):
    raise errors.UserError(f'{name}: an archive inside an archive')
  try:
    content = files.read_bytes(path, 'the archive', _MAX_BYTES)
    archive = zipfile.ZipFile(io.BytesIO(content))
    archive.filename = name  # For messages.
  except errors.UserError:
    raise
  except Exception as e:  # Damage shows in many ways.
    raise errors.UserError(
      f'cannot read the archive {name} ({_reason(e)}); is it complete?'
    ) from e
  return zipfile.Path(archive)


def _read_member(path: zipfile.Path) -> bytes:
  """Reads a member of an archive, no more of it than it may have."""
  with path.open('rb') as file:
    content = file.read(_MAX_BYTES + 1)
  if len(content) > _MAX_BYTES:
    raise errors.UserError(
      f'cannot read {path}: it has more than the {_MAX_BYTES:,} bytes that '
      'such a file can have'
    )
  return content


def _reason(error: Exception) -> str:
  text = ' '.join(str(getattr(error, 'strerror', None) or error).split())
  return text[:200] or type(error).__name__
