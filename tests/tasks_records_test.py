# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reading a distributor's files: damage of any kind is one line."""

import io
import zipfile

from etils import epath
import pytest

from pid_jax import errors
from pid_jax.tasks import records


def _archive(compression=zipfile.ZIP_DEFLATED, content=b'[1]' + b' ' * 999):
  file = io.BytesIO()
  with zipfile.ZipFile(file, 'w', compression) as archive:
    archive.writestr('a/data.json', content)
  return file.getvalue()


def _changed(content: bytes, header: bytes, offset: int, value: bytes):
  """Changes a field of a header of the only member."""
  place = content.index(header) + offset
  return content[:place] + value + content[place + len(value) :]


def _encrypted() -> bytes:
  content = _changed(_archive(), b'PK\x03\x04', 6, b'\1\0')
  return _changed(content, b'PK\x01\x02', 8, b'\1\0')


def _of_unknown_compression() -> bytes:
  content = _changed(_archive(), b'PK\x03\x04', 8, b'\x62\0')
  return _changed(content, b'PK\x01\x02', 10, b'\x62\0')


@pytest.mark.parametrize(
  'content',
  [
    _changed(_archive(), b'a/data.json', 14, b'\xff\xff\xff'),  # The stream.
    _changed(_archive(zipfile.ZIP_STORED), b'[1]', 1, b'2'),  # Its CRC.
    _changed(_archive(zipfile.ZIP_BZIP2), b'BZh', 4, b'\xff\xff\xff'),
    _changed(_archive(zipfile.ZIP_LZMA), b'a/data.json', 15, b'\xff' * 9),
    _changed(_archive(), b'PK\x03\x04', 0, b'XX'),
    _encrypted(),
    _of_unknown_compression(),
  ],
  ids=['stream', 'crc', 'bzip2', 'lzma', 'header', 'encrypted', 'unknown'],
)
def test_a_damaged_member_is_named(tmp_path, content):
  path = tmp_path / 'all.zip'
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match='cannot read .*data.json') as e:
    records.read_json(records.open_archive(path) / 'a' / 'data.json')
  assert str(path) in str(e.value) and '\n' not in str(e.value)


@pytest.mark.parametrize(
  'content', [b'', b'PK', _archive()[:-30], _archive()[:60], b'x' * 99]
)
def test_a_damaged_archive_is_named(tmp_path, content):
  path = tmp_path / 'all.zip'
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match='all.zip .*complete'):
    records.open_archive(path)


def test_no_more_is_unpacked_than_a_file_can_have(tmp_path, monkeypatch):
  path = tmp_path / 'all.zip'
  path.write_bytes(_archive(content=b'[' + b' ' * 1_000_000 + b'1]'))
  member = records.open_archive(path) / 'a' / 'data.json'
  assert records.read_json(member) == [1]
  monkeypatch.setattr(records, '_MAX_BYTES', 100_000)
  with pytest.raises(errors.UserError, match='data.json: .* 100,000 bytes'):
    records.read_json(member)
  big = tmp_path / 'big.json'
  big.write_bytes(b' ' * 100_001)
  for read in (records.read_json, records.open_archive):
    with pytest.raises(errors.UserError, match='100,001 bytes'):
      read(epath.Path(big))


@pytest.mark.parametrize(
  'content, message',
  [
    (b'[{"a": NaN}]', r'"\[0\].a" is NaN'),
    (b'[{"a": 1, "a": 2}]', "'a' twice"),
    (b'["\\ud800"]', 'unpaired surrogate'),
    (b'[' + b'7' * 5000 + b']', '5,000 digits'),
    (b'[' * 9999, 'too deeply'),
    (b'[1,\n2', 'line 2, column 2: .* of 5 characters, complete'),
    (b'{}', 'must hold a JSON list, not an object'),
  ],
)
def test_json_that_is_not_what_was_published(tmp_path, content, message):
  path = epath.Path(tmp_path / 'x.json')
  path.write_bytes(content)
  with pytest.raises(errors.UserError, match=message) as error:
    records.read_json(path)
  assert str(error.value).startswith(str(path))


@pytest.mark.parametrize(
  'error', [KeyError('k' * 999), OverflowError('a\nb'), IndexError(), TypeError]
)
def test_errors_in_a_record_are_one_line(error):
  report = records.ReadReport()
  with pytest.raises(errors.UserError, match='^x.json, the record: ') as e:
    with report.reading(epath.Path('x.json'), 'the\nrecord'):
      raise error
  assert '\n' not in str(e.value) and len(str(e.value)) < 300
