# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is shipped: declared dependencies, lock files, the wheel's contents."""

import ast
import importlib.metadata
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile

from packaging import requirements
import pytest

_ROOT = pathlib.Path(__file__).parent.parent
_LOCKS = ('requirements.lock', 'requirements-test.lock')


def _lock(name: str) -> list[requirements.Requirement]:
  lines = (_ROOT / name).read_text().splitlines()
  return [requirements.Requirement(x) for x in lines if not x.startswith('#')]


def _declared(*, locked: bool = False) -> set[str]:
  """What setup.py names; `locked` leaves out what no lock file holds."""
  declared = set()
  for line in importlib.metadata.requires('pid_jax'):
    requirement = requirements.Requirement(line)
    if locked and re.search(
      'extra == "(experiments|benchmark)"', str(requirement.marker)
    ):
      continue
    declared.add(_key(requirement.name))
  return declared


def _key(name: str) -> str:
  return re.sub('[-_.]+', '-', name).lower()


def test_every_import_is_declared():
  homes = importlib.metadata.packages_distributions()
  declared = _declared()
  for path in [
    *(_ROOT / 'pid_jax').rglob('*.py'),
    *_ROOT.rglob('tasks/**/*.py'),
  ]:
    for node in ast.walk(ast.parse(path.read_text())):
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom):
        names = [node.module]
      else:
        continue
      for name in {name.partition('.')[0] for name in names}:
        if name in sys.stdlib_module_names or name in ('pid_jax', 't5x'):
          continue
        # What is not installed here goes by its own name.
        homes_of_name = {_key(home) for home in homes.get(name, [name])}
        assert homes_of_name & declared, f'{path} imports {name}: undeclared'


@pytest.mark.parametrize('name', ['cuda12', 'cuda13', 'tpu'])
def test_extras_of_devices_are_those_of_jax(name):
  ours = _of_extra('pid_jax', name)
  assert [(_key(r.name), r.extras) for r in ours] == [('jax', {name})]
  # JAX's extra names its plug-ins in JAX's own version, whichever that is.
  jax_version = importlib.metadata.version('jax')
  plugins = [r for r in _of_extra('jax', name) if r.name.startswith('jax')]
  assert plugins and all(jax_version in r.specifier for r in plugins)


def _of_extra(package: str, extra: str) -> list[requirements.Requirement]:
  lines = map(requirements.Requirement, importlib.metadata.requires(package))
  return [
    r for r in lines if re.search(f'extra == .{extra}\\b', str(r.marker or ''))
  ]


@pytest.mark.parametrize('name', _LOCKS)
def test_lock_is_exact_and_of_no_particular_machine(name):
  for requirement in _lock(name):
    assert re.fullmatch(r'==[\w.!]+', str(requirement.specifier)), requirement
    assert requirement.url is None
  assert not re.search(
    r'https?:|file:|--hash|index', (_ROOT / name).read_text()
  )


def test_lock_holds_all_that_is_declared():
  locked = {_key(r.name) for r in _lock('requirements-test.lock')}
  assert _declared(locked=True) <= locked
  runtime = {str(r) for r in _lock('requirements.lock')}
  assert runtime <= {str(r) for r in _lock('requirements-test.lock')}
  assert not {'torch', 'tensorflow-cpu'} & {
    _key(r.name) for r in _lock('requirements.lock')
  }


def test_wheel_ships_tasks_configs_and_their_data(tmp_path):
  command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps']
  flags = ['--no-build-isolation', '--wheel-dir', str(tmp_path)]
  source = tmp_path / 'source'  # setuptools builds in the source folder.
  folders = ('pid_jax', 'tasks', 'gin_configs')
  for name in folders:
    shutil.copytree(
      _ROOT / name,
      source / name,
      ignore=shutil.ignore_patterns('__pycache__'),
    )
  for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
    shutil.copy(_ROOT / name, source)
  wanted = {
    str(path.relative_to(source)).removeprefix('pid_jax/')
    for name in folders
    for path in (source / name).rglob('*')
    if path.is_file()
  }
  subprocess.run([*command, *flags, str(source)], check=True)
  (wheel,) = tmp_path.glob('*.whl')
  shipped = set(zipfile.ZipFile(wheel).namelist())
  assert wanted <= {name.removeprefix('pid_jax/') for name in shipped}
  assert all(name.startswith('pid_jax') for name in shipped)
