# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The reader of JSON: what it refuses, and that it changes nothing else."""

import json
import math

import hypothesis
from hypothesis import strategies as st
import pytest

from pid_jax import errors
from pid_jax import strict_json

_DEEP = 64


@pytest.mark.parametrize(
  'content, parts',
  [
    (b'', ['column 1']),
    (b'{"a": 1,}', ['column 9']),
    (b'{} {}', ['Extra data']),
    (b"{'a': 1}", ['double quotes']),
    (b'{"a": 1, "a": 2}', ["'a' twice"]),
    (b'{"b": [{"a": 1, "c": 0, "a": 2}]}', ["'a' twice"]),
    (b'{"a": {"b": [1, NaN]}}', ['"a.b[1]" is NaN']),
    (b'-Infinity', ['-Infinity']),
    (b'{"a": 1e999}', ['"a" is 1e999', 'too large']),
    (b'{"id": ' + b'9' * 5000 + b'}', ['"id" is a number of 5,000 digits']),
    (b'0.' + b'1' * 200, ['digits']),
    (b'{"id": "x\\ud800"}', ['"id" has an unpaired surrogate']),
    (b'{"a": ["", "\\uDFFF"]}', ['"a[1]" has an unpaired surrogate']),
    (b'{"a": {"\\udc00": 1}}', ['a key in "a" has an unpaired surrogate']),
    (b'"\\udc00\\ud800"', ['surrogate']),
    (b'\xed\xa0\x80', ['byte 1 is not UTF-8']),
    (b'"caf\xe9"', ['byte 5 is not UTF-8']),
    ('{}'.encode('utf-16'), ['UTF-16', 'UTF-8']),
    ('{}'.encode('utf-16-le'), ['UTF-16']),
    ('{}'.encode('utf-16-be'), ['UTF-16']),
    ('{}'.encode('utf-32'), ['UTF-32']),
    (b'[' * (_DEEP + 2) + b']' * (_DEEP + 2), ['too deeply']),
    (b'[' * 100_000, ['too deeply']),
    (b'{"a":' * 100_000, ['too deeply']),
    (b'"a\tb"', ['control character']),
    (b'{"' + b'k' * 10_000 + b'": "\\ud800"}', ['surrogate']),
    (b'{"a\\nb": 1, "a\\nb": 2}', ['twice']),
  ],
  ids=range(27),
)
def test_a_fault_is_one_line_that_names_it(content, parts):
  with pytest.raises(errors.UserError) as error:
    strict_json.parse(content, 'file.json')
  message = str(error.value)
  assert message.startswith('file.json: ')
  assert '\n' not in message and len(message) < 300
  for part in parts:
    assert part in message


def test_what_is_allowed():
  parse = lambda content, **kw: strict_json.parse(content, '', **kw)
  assert parse(b'\xef\xbb\xbf{"a": "caf\xc3\xa9"}\n') == {'a': 'caf\u00e9'}
  assert parse(b'"\\ud83d\\ude00"') == '\U0001f600'
  assert parse(b'1' * 100) == int('1' * 100)
  assert parse(b'[' * _DEEP + b']' * _DEEP)
  infinite, nan = parse(b'[Infinity, NaN]', allow_nan=True)
  assert infinite == math.inf and math.isnan(nan)


_VALUES = st.recursive(
  st.none() | st.booleans() | st.integers() | st.text()
  | st.floats(allow_nan=False, allow_infinity=False),
  lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
  max_leaves=20,
)  # fmt: skip


@hypothesis.given(_VALUES, st.booleans())
@hypothesis.settings(max_examples=200, deadline=None)
def test_values_that_python_writes_are_read_as_they_are(value, ascii_only):
  content = json.dumps(value, ensure_ascii=ascii_only).encode()
  assert strict_json.parse(content, 'x') == value


@hypothesis.given(_VALUES, st.data())
@hypothesis.settings(max_examples=300, deadline=None)
def test_damaged_values_are_refused_or_read_as_python_does(value, data):
  content = bytearray(json.dumps(value).encode())
  place = data.draw(st.integers(0, len(content)))
  content[place : place + data.draw(st.integers(0, 3))] = data.draw(
    st.binary(max_size=3)
    | st.sampled_from([b'\\ud800', b'NaN', b'{"a":1,"a":1}', b'9' * 200])
  )
  try:
    found = strict_json.parse(bytes(content), 'x')
  except errors.UserError as e:
    assert '\n' not in str(e)
    return
  assert found == json.loads(content.decode('utf-8-sig'))


def test_files_are_bounded_and_regular(tmp_path, monkeypatch):
  path = tmp_path / 'a.json'
  path.write_text('[1, 2]')
  assert strict_json.read(path, 'a file') == [1, 2]
  with pytest.raises(errors.UserError, match='must be a JSON object.* a list'):
    strict_json.read_object(path, 'a file')
  with pytest.raises(errors.UserError, match='6 bytes'):
    strict_json.read(path, 'a file', max_bytes=5)
  for wrong in (tmp_path, tmp_path / 'none', '/dev/zero'):
    for read in (strict_json.read, lambda *a: [*strict_json.read_lines(*a)]):
      with pytest.raises(errors.UserError, match=f'a file {wrong}'):
        read(wrong, 'a file')

  # A line without an end is not read whole, wherever blocks end.
  monkeypatch.setattr(strict_json, '_BLOCK', 3)
  monkeypatch.setattr(strict_json, 'MAX_LINE_BYTES', 8)
  path.write_bytes(b'\xef\xbb\xbf[1]\r\n\n \n{"a": 2}\n[3]')
  assert [(n, v) for n, _, v in strict_json.read_lines(path, 'a file')] == [
    (1, [1]),
    (4, {'a': 2}),
    (5, [3]),
  ]
  path.write_bytes(b'1\n' + b' ' * 9)
  with pytest.raises(errors.UserError, match='line 2: is longer than 8 bytes'):
    list(strict_json.read_lines(path, 'a file'))
