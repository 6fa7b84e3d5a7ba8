# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Errors that the system and libraries really raise, in words."""

import errno
import gzip
import os

import pytest
import tensorstore

from pid_jax import errors
from pid_jax import file_errors


def _raised(call, *args, **kwargs):
  with pytest.raises(Exception) as e:
    call(*args, **kwargs)
  return e.value


@pytest.fixture
def places(tmp_path):
  (tmp_path / 'file').write_text('x')
  (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
  return {
    'folder': tmp_path,
    'no such file': tmp_path / 'none' / 'x',
    'not a folder': tmp_path / 'file' / 'x',
    'loop': tmp_path / 'loop',
    'too long': tmp_path / ('x' * 300),
  }


def _array(path):
  spec = {'driver': 'zarr', 'kvstore': {'driver': 'file', 'path': f'{path}/'}}
  return tensorstore.open(
    spec, create=True, dtype=tensorstore.float32, shape=[3]
  ).result()


@pytest.mark.parametrize(
  'place', ['no such file', 'not a folder', 'loop', 'too long', 'folder']
)
def test_errors_of_python_and_tensorflow(place, places):
  tensorflow = pytest.importorskip('tensorflow')
  path = str(places[place])

  def read():
    with tensorflow.io.gfile.GFile(path) as file:
      file.read()

  for error in _raised(open, path), _raised(read):
    assert place in file_errors.fault(error)
    assert file_errors.explain(error).startswith(path[:200])  # Long: cut.


def test_errors_inside_operations_of_tensorflow(places):
  tensorflow = pytest.importorskip('tensorflow')
  for place in ('folder', 'not a folder'):
    path = str(places['not a folder'])
    path = path.removesuffix('/x') if place == 'folder' else path
    error = _raised(tensorflow.summary.create_file_writer, path)
    assert 'not a folder' in file_errors.fault(error)


def test_errors_of_tensorstore(places):
  for place in ('not a folder', 'loop', 'too long'):
    error = _raised(_array, places[place])
    assert place in file_errors.fault(error)
    assert str(places[place]) in file_errors.explain(error)


def test_words_are_one_line(tmp_path):
  path = tmp_path / 'a\nb'
  assert '\n' not in file_errors.explain(_raised(open, path))
  (tmp_path / 'x.gz').write_bytes(b'none')
  error = _raised(gzip.open(tmp_path / 'x.gz').read)
  assert file_errors.fault(error).startswith('Not a gzipped file')


def test_causes():
  def error_of(cause, handled=None):
    error = ValueError('other')
    error.__context__ = handled
    if cause is not None:  # Setting it hides the other.
      error.__cause__ = cause
    return error

  full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
  missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), 'f')
  assert file_errors.explain(error_of(missing)) == (
    'f: no such file or directory'
  )
  assert 'no space' in file_errors.fault(error_of(error_of(full)))
  # What was raised while a missing file was handled is not about that file.
  assert file_errors.fault(error_of(None, missing)) is None
  assert 'no space' in file_errors.fault(error_of(None, full))
  assert file_errors.fault(error_of(errors.UserError('known'), full)) is None
  assert file_errors.fault(RuntimeError('x; Permission denied')) is not None
  for other in (None, KeyError('x'), RuntimeError('x; Invalid argument')):
    assert file_errors.fault(other) is None


def test_a_user_error_is_raised_as_it_is():
  known = errors.UserError('a full disk')

  @errors.unwrapped
  def call(cause):
    try:
      raise cause
    except Exception as e:
      raise ValueError(f'Failed to evaluate: {e}') from e

  with pytest.raises(errors.UserError) as e:
    call(known)
  assert e.value is known
  with pytest.raises(ValueError, match='Failed to evaluate') as e:
    call(KeyError('other'))
  assert not isinstance(e.value, errors.UserError)
