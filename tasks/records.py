# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the files of a distributor strictly, and keeps account of what it read.

Published data is rarely clean: a download breaks off, a column was renamed, one
dialogue in ten thousand has no state. Whatever is wrong with a file is told
with its name and record. Where the convention is to leave a record out, that is
noted with its reason, so that nobody has to guess why the counts differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import dataclasses
import io
import json
import os
from typing import Any
import zipfile

from etils import epath

from pid_jax import errors

# Also inside an archive; both read bytes, and print as a user would write them.
Path = epath.Path | zipfile.Path


@dataclasses.dataclass
class Account:
  """What came of the files of one split.

  Attributes:
    counts: of what was read and kept, such as {'dialogues': 999}.
    missing: names of files that were expected.
    skipped: what was left out: `file`, `record` and `why` of each.
  """

  counts: dict[str, int] = dataclasses.field(default_factory=dict)
  missing: list[str] = dataclasses.field(default_factory=list)
  skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)

  def count(self, unit: str, number: int = 1) -> None:
    """Adds to the count of what was kept.

    Args:
      unit: what is counted, in the plural: 'dialogues'.
      number: how many more.
    """
    self.counts[unit] = self.counts.get(unit, 0) + number

  def skip(self, path: Path, record: str, why: str) -> None:
    """Notes a record that is left out.

    Args:
      path: the file.
      record: which one, as `record` takes it: 'dialogue PMUL1.json'.
      why: the reason, the same words for all that share it.
    """
    self.skipped.append({'file': path.name, 'record': record, 'why': why})

  @contextlib.contextmanager
  def record(self, path: Path, record: str) -> Iterator[None]:
    """Names file and record in whatever goes wrong inside the `with` block.

    Yield examples outside of it, lest it takes the consumer's errors for ours.

    Args:
      path: the file.
      record: which one of its records: 'dialogue PMUL1.json'.

    Raises:
      UserError: the block raised what a record of another form causes.
    """
    try:
      yield
    except errors.UserError:
      raise
    except KeyError as e:
      raise errors.UserError(f'{path}, {record}: lacks {e.args[0]!r}') from e
    except (IndexError, TypeError, ValueError, AttributeError) as e:
      raise errors.UserError(
        f'{path}, {record}: is not of the form that the distributor publishes '
        f'({type(e).__name__}: {e})'
      ) from e


def read_json(path: Path, kind: type = list) -> Any:
  """Reads a JSON file.

  Args:
    path: of the file.
    kind: list or dict: what the whole file must be.

  Raises:
    UserError: the file is truncated, malformed or of another kind.
  """
  text = read_text(path)
  try:
    value = json.loads(text)
  except (json.JSONDecodeError, RecursionError) as e:
    where = (
      f' at line {e.lineno}, column {e.colno}' if hasattr(e, 'lineno') else ''
    )
    raise errors.UserError(
      f'{path}: malformed JSON{where} ({getattr(e, "msg", e)}); is the file, '
      f'of {len(text)} characters, complete?'
    ) from e
  if not isinstance(value, kind):
    raise errors.UserError(
      f'{path}: must hold a JSON {"list" if kind is list else "object"}, not '
      f'{type(value).__name__}'
    )
  return value


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[dict[str, str]]:
  """Reads a CSV file with a header; quoted fields may have several lines.

  Args:
    path: of the file.
    columns: names that the header must have; others may stand beside them.

  Yields:
    The fields of each row by the name of their column.

  Raises:
    UserError: a column is missing, a row has too few or too many fields, or a
      quotation never ends.
  """
  reader = csv.reader(io.StringIO(read_text(path), newline=''), strict=True)
  header = next(reader, [])
  lacking = [name for name in columns if name not in header]
  if lacking:
    raise errors.UserError(
      f'{path}: lacks the column {", ".join(map(repr, lacking))}; it has '
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
    UserError: it cannot be read, is not UTF-8, or is a pointer of Git LFS.
  """
  try:
    content = path.read_bytes()
  except (OSError, zipfile.BadZipFile) as e:
    raise errors.UserError(f'cannot read {path}: {_reason(e)}') from e
  if content.startswith(b'version https://git-lfs'):
    raise errors.UserError(
      f'{path} is only a pointer of Git LFS to the file: run `git lfs pull` in '
      'its repository'
    )
  try:
    return content.decode('utf-8-sig')
  except UnicodeDecodeError as e:
    raise errors.UserError(f'{path}: byte {e.start + 1} is not UTF-8') from e


def open_archive(path: epath.PathLike) -> zipfile.Path:
  """Reads a zip file into memory, as a folder; it is not unpacked.

  Raises:
    UserError: it cannot be read, or is no zip file.
  """
  try:
    archive = zipfile.ZipFile(io.BytesIO(epath.Path(path).read_bytes()))
    archive.filename = os.fspath(path)  # For messages.
  except (OSError, zipfile.BadZipFile) as e:
    raise errors.UserError(
      f'cannot read the archive {os.fspath(path)} ({_reason(e)}); is it whole?'
    ) from e
  return zipfile.Path(archive)


def _reason(error: Exception) -> str:
  return str(getattr(error, 'strerror', None) or error)
