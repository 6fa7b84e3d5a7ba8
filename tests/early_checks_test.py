# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mistakes on a command line show before JAX and TensorFlow are loaded."""

import argparse
import math
import pathlib
import subprocess
import sys

import pytest

from pid_jax import cli
from pid_jax import errors
from pid_jax import flag_types
from pid_jax import gin_text
from pid_jax import train

_BAD = (
  *('', ' ', 'x', '1_0', '0x10', '\u0663', '\u00b2', '\uff11', '1e', '--1'),
  *('nan', 'NaN', 'inf', '-inf', '1e400', '9' * 5000, '1 ', ' 1', '1\n', '1,5'),
)


@pytest.mark.parametrize('text', [*_BAD, '1.0', '1e3', '-1', '0', '11'])
def test_integers_out_of_range_or_form(text):
  with pytest.raises(argparse.ArgumentTypeError) as e:
    flag_types.integer(1, 10)(text)
  assert 'at least 1 and at most 10' in str(e.value)
  assert len(str(e.value)) < 200


@pytest.mark.parametrize('text', [*_BAD, '-1', '0', '10.5'])
def test_numbers_out_of_range_or_form(text):
  with pytest.raises(argparse.ArgumentTypeError):
    flag_types.number(most=10, above=0)(text)


@pytest.mark.parametrize(
  'text, value',
  [('1', 1.0), ('+2.5', 2.5), ('.5', 0.5), ('1.', 1.0), ('1E-3', 0.001)],
)
def test_numbers(text, value):
  assert math.isclose(flag_types.number(most=10, above=0)(text), value)


def test_integers_paths_and_lengths(monkeypatch):
  assert flag_types.integer(1, 10)('+7') == 7
  assert flag_types.integer()('-007') == -7
  monkeypatch.setenv('HOME', '/home/me')
  assert flag_types.path('~/x') == '/home/me/x'
  assert flag_types.paths('~/x,y') == ['/home/me/x', 'y']
  assert flag_types.lengths('inputs=5, targets=06') == {
    'inputs': 5,
    'targets': 6,
  }
  for kind, text in (
    (flag_types.path, ' '),
    (flag_types.name, ''),
    (flag_types.lengths, 'inputs'),
    (flag_types.lengths, 'inputs=0'),
    (flag_types.lengths, 'inputs=\u0663'),
    (flag_types.comma_separated('word'), 'a,,b'),
  ):
    with pytest.raises(argparse.ArgumentTypeError):
      kind(text)


def _read(folder, text: str) -> gin_text.GinText:
  path = folder / 'a.gin'
  path.write_text(text)
  read = gin_text.GinText(lambda name: str(folder / name), open)
  read.read_file(str(path))
  return read


def test_gin_files_are_read_without_imports(tmp_path):
  text = _read(
    tmp_path,
    'import antigravity\nA = %B\nB = [1, %C]\n'
    'f.x = @s/g()\ns/g.y = (%D, {1: 2})',
  )
  assert 'antigravity' not in sys.modules
  assert text.value('A') == [1, gin_text.Macro('C')]
  assert text.bindings['s/g.y'] == (gin_text.Macro('D'), {1: 2})
  assert text.bindings['f.x'] == gin_text.Reference('s/g')
  text.read_binding('D = "x"')  # Something uses it.
  with pytest.raises(errors.UserError, match="unknown gin name 'E'"):
    text.read_binding('E = 1')


@pytest.mark.parametrize(
  'content, message',
  [
    ("include 'a.gin'", 'includes itself'),
    ('import json.nothing', 'json.nothing'),
    ('A = 1\nB = $', 'line 2'),
    ('A = ' + '[' * 3000, 'a.gin'),
    ('A = %A\nB = %gin.REQUIRED', 'give --gin.B='),
  ],
)
def test_mistakes_in_gin_files(content, message, tmp_path):
  with pytest.raises(errors.UserError) as e:
    text = _read(tmp_path, content)
    assert text.value('A') == gin_text.Macro('A')  # It ends.
    text.check_complete()
  assert message in str(e.value)


def test_files_that_are_not_given(tmp_path):
  for name in ('train', 'model'):
    (tmp_path / name).touch()
  flags = [
    '--gin_file=runs/jsonl.gin',
    f'--gin.TRAIN_FILE={str(tmp_path / "train")!r}',
    f'--gin.VOCABULARY={str(tmp_path / "model")!r}',
    f'--gin.MODEL_DIR={str(tmp_path / "new")!r}',
  ]
  for value in ('None', "'None'", "''", "'gone'"):
    argv = [*flags, f'--gin.VALIDATION_FILE={value}']
    args = cli.parse_flags(argv, train.__doc__, None, use_gin=True, join=True)
    if value != "'gone'":
      train.check(args)
      continue
    with pytest.raises(errors.UserError, match='VALIDATION_FILE.*gone'):
      train.check(args)


@pytest.mark.parametrize(
  'command, argv',
  [
    ('predict', ['--model_dir=.', '--input=none', '--output=out']),
    (
      'train',
      [
        *('--gin_file=runs/jsonl.gin', "--gin.TRAIN_FILE='none'"),
        *("--gin.VALIDATION_FILE='none'", "--gin.VOCABULARY='none'"),
        "--gin.MODEL_DIR='out'",
      ],
    ),
    (
      'compare',
      [
        *('--gin_file=runs/jsonl.gin', "--gin.TRAIN_FILE='none'"),
        *("--gin.VALIDATION_FILE='none'", "--gin.VOCABULARY='none'"),
        '--output=out',
      ],
    ),
  ],
)
def test_missing_files_show_at_once(command, argv, tmp_path):
  done = subprocess.run(
    [sys.executable, '-X', 'importtime', '-m', f'pid_jax.{command}', *argv],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=False,
  )
  lines = done.stderr.splitlines()
  assert done.returncode == 2
  assert [x for x in lines if not x.startswith('import time:')] == [
    x for x in lines if x.startswith('error: ') and 'none' in x
  ]
  for heavy in ('jax', 'tensorflow', 'seqio', 'numpy'):
    assert not any(line.endswith(f' {heavy}') for line in lines)
  assert list(pathlib.Path(tmp_path).iterdir()) == []
