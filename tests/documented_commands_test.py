# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The commands that README, docs, help texts and gin files show can be run.

Their flags are parsed, and their gin files and bindings too, with all that a
mesh must divide; nothing is trained.
"""

import pathlib
import re
import runpy
import shlex
import sys

import gin
import pytest

from pid_jax import cli
from pid_jax import errors

_ROOT = pathlib.Path(__file__).parent.parent
_COMMAND = re.compile(r'^(?:srun )?python -m (pid_jax\.\w+) (.*)$', re.M)


def _texts():
  """Yields pieces of shell, with the file that each stands in."""
  for path in (_ROOT / 'README.md', *sorted((_ROOT / 'docs').glob('*.md'))):
    for block in re.findall(r'```sh\n(.*?)```', path.read_text(), re.S):
      yield path, block
  for path in sorted((_ROOT / 'pid_jax').glob('*.py')):
    yield path, path.read_text()
  for path in sorted((_ROOT / 'gin_configs').rglob('*.gin')):
    yield path, re.sub(r'^# ?', '', path.read_text(), flags=re.M)


def _commands():
  for path, text in _texts():
    text = re.sub(r'\\\n\s*', '', text)
    text = re.sub(r'^ +', '', text, flags=re.M)
    for number, (module, rest) in enumerate(_COMMAND.findall(text)):
      yield pytest.param(
        module,
        shlex.split(rest.rstrip(' &').replace('$i', '0'), comments=True),
        id=f'{path.name}-{number}-{module}',
      )


@pytest.fixture(autouse=True)
def _no_configuration(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  gin.clear_config()
  yield
  gin.clear_config()


def test_there_are_many():
  assert len(list(_commands())) > 25


@pytest.mark.parametrize('module, argv', list(_commands()))
def test_command_can_be_run(module, argv, monkeypatch):
  called = []
  monkeypatch.setattr(cli, 'run', lambda *a, **k: called.append((a, k)))
  monkeypatch.delitem(sys.modules, module, raising=False)
  own = runpy.run_module(module, run_name='__main__')
  ((main, *args), options) = called[0]
  named = dict(zip(('doc', 'flags'), args, strict=False), **options)
  use_gin = named.get('use_gin', False)
  is_whole = '...' not in argv
  args = cli.parse_flags(
    [arg for arg in argv if arg != '...'],
    named['doc'],
    named.get('flags'),
    use_gin=use_gin,
    join=named.get('join', False),
  )
  if not use_gin or not args.gin_file:
    return
  try:
    cli.parse_gin(args, own.get('_NOT_NEEDED', ["MODEL_DIR = ''"]))
  except errors.UserError as e:
    assert not is_whole and 'a required value is missing' in str(e), e
    return
  if module not in ('pid_jax.train', 'pid_jax.precompile'):
    return
  number = lambda name: gin.query_parameter(f'{name}/gin.macro.value')
  for name in ('BATCH_SIZE', 'EVAL_BATCH_SIZE'):
    assert number(name) % number('NUM_FSDP') == 0, name
