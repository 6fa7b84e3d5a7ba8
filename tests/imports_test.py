# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The floor plan, held to: imports run downwards, and parts stay cheap."""

import ast
import graphlib
import importlib
import pathlib
import re
import subprocess
import sys

import pytest

import pid_jax

_ROOT = pathlib.Path(__file__).parent.parent
_LIBRARY = sorted((_ROOT / 'pid_jax').rglob('*.py'))
_SOURCES = sorted(
  [
    _ROOT / 'setup.py',
    *_LIBRARY,
    *(_ROOT / 'gin_configs').rglob('*.py'),
    *(_ROOT / 'tasks').rglob('*.py'),
    *(_ROOT / 'tests').rglob('*.py'),
  ]
)

# From the top floor to the ground; a module imports nothing from above its own
# line. Commands, which are the modules that end in `cli.run`, stand above all.
_FLOORS = (
  ('cli',),
  ('experiments', 't5x_model'),
  ('trainer',),
  ('inference', 'model', 'viewer'),
  ('decoding',),
  ('checkpoints',),
  ('adafactor', 'partitioning'),
  ('subtasks',),
  ('network',),
  ('config',),
  ('compilation', 'platforms'),
  ('distributed', 'progress', 'vocabulary'),
  ('scratch',),
  ('messages',),
  ('flag_types', 'locks', 'strict_json'),
  ('files', 'gin_text'),
  ('checks', 'file_errors'),
  ('errors', 'interrupts'),
)
_HEIGHT = {
  part: height for height, floor in enumerate(_FLOORS[::-1]) for part in floor
}


def _module(path: pathlib.Path) -> str:
  parts = path.relative_to(_ROOT).with_suffix('').parts
  return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def _is_command(path: pathlib.Path) -> bool:
  return path.parent.name == 'pid_jax' and '\n  cli.run(' in path.read_text()


def _imports(path: pathlib.Path) -> set[str]:
  """The modules of pid_jax that a file imports, wherever in the file."""
  tree = ast.parse(path.read_text())
  for node in ast.walk(tree):  # What is for type checkers alone costs nothing.
    if isinstance(node, ast.If) and ast.unparse(node.test) == 'TYPE_CHECKING':
      node.body = []
  names = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      names.update(alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f'{path}: relative import'
      names.update(f'{node.module}.{alias.name}' for alias in node.names)
  known = {_module(p) for p in _LIBRARY}
  modules = set()
  for name in names:
    if name in known:
      modules.add(name)
    elif name.startswith('pid_jax.'):
      modules.add(name.rpartition('.')[0])
  return modules - {'pid_jax'}


@pytest.mark.parametrize('path', _LIBRARY, ids=_module)
def test_imports_run_downwards(path):
  if _module(path) == 'pid_jax':
    return  # Lazy: it only names what it offers.
  part = _module(path).split('.')[1]
  imported = {name.split('.')[1] for name in _imports(path)} - {part}
  if _is_command(path):
    return
  assert part in _HEIGHT, f'give {part} a line in the floor plan'
  assert 'tasks' not in imported
  above = {name for name in imported if _HEIGHT.get(name, 99) >= _HEIGHT[part]}
  assert not above, f'{part} imports {above} from its own floor or above'


def test_imports_have_no_circle():
  graph = {_module(path): _imports(path) for path in _LIBRARY}
  for name, imported in graph.items():
    imported.discard(name)
    if name.count('.') > 1:  # A package's __init__ may name its own modules.
      imported.discard(name.rpartition('.')[0])
  graphlib.TopologicalSorter(graph).prepare()


def test_files_say_why_they_exist_and_commands_show_an_example():
  header = (
    '# Copyright 2026 The pid_jax Authors.\n'
    '# SPDX-License-Identifier: Apache-2.0\n'
  )
  for path in _SOURCES:
    text = path.read_text()
    assert text.removeprefix('#!/usr/bin/env python3\n').startswith(header), (
      path
    )
    doc = ast.get_docstring(ast.parse(text))
    assert doc, path
    if path in _LIBRARY and _is_command(path):
      assert f'python -m {_module(path)}' in doc


def _modules_loaded_by(statement: str) -> set[str]:
  script = f'{statement}\nimport sys\nprint(*sys.modules)'
  result = subprocess.run(
    [sys.executable, '-c', script], check=True, capture_output=True, text=True
  )
  return set(result.stdout.split())


def _loaded_by(statement: str) -> set[str]:
  modules = _modules_loaded_by(statement)
  return {name.partition('.')[0] for name in modules}


def test_experiments_are_imported_by_experiments_and_commands_alone():
  importers = {
    _module(path).split('.')[1]
    for path in _LIBRARY
    if any('pid_jax.experiments' in name for name in _imports(path))
  }
  commands = {'benchmark', 'compare', 'precompile', 'quickstart'}
  assert importers == {*commands, 'experiments'}


def test_network_and_prediction_need_no_tensorflow():
  loaded = _loaded_by(
    'import pid_jax.network, pid_jax.decoding, pid_jax.inference\n'
    'import pid_jax.checkpoints, pid_jax.vocabulary\n'
    'pid_jax.PromptInDecoder'
  )
  assert not loaded & {'tensorflow', 'tensorflow_text', 'seqio', 't5x', 'clu'}
  assert not loaded & {'torch', 'transformers', 'safetensors'}


def test_gpus_are_hidden_wherever_tensorflow_is_imported():
  graph = {}
  for path in _LIBRARY:
    graph[_module(path)] = _imports(path)
  call = '\ntf_devices.hide_gpus()\n'
  hiding = {_module(path) for path in _LIBRARY if call in path.read_text()}

  def reached(modules):
    found, todo = set(), list(modules)
    while todo:
      module = todo.pop()
      if module not in found:
        found.add(module)
        todo += graph.get(module, ())
    return found

  users = re.compile('^import (seqio|tensorflow)', re.MULTILINE)
  for path in [*_LIBRARY, *(_ROOT / 'tasks').rglob('*.py')]:
    text = path.read_text()
    if users.search(text) and path.name != 'tf_devices.py':
      # All builders of `tasks` are made of one, which hides them.
      hides = call in text or 'from pid_jax.tasks import builder' in text
      assert hides or reached({_module(path), *_imports(path)}) & hiding, path


def test_package_is_lazy():
  loaded = _loaded_by('import pid_jax, pid_jax.cli')
  assert not loaded & {'jax', 'flax', 'tensorflow', 'numpy', 'seqio'}


def test_t5x_is_asked_for_where_it_is_missing(monkeypatch):
  monkeypatch.setitem(sys.modules, 't5x', None)
  monkeypatch.delitem(sys.modules, 'pid_jax.t5x_model', raising=False)
  with pytest.raises(ImportError, match='t5x_model needs T5X.*') as e:
    importlib.import_module('pid_jax.t5x_model')
  assert 'https://github.com/google-research/t5x' in str(e.value)


def test_one_module_imports_t5x():
  importers = [
    path.name
    for path in _LIBRARY
    if re.search(r'^\s*(import|from) t5x\b', path.read_text(), re.MULTILINE)
  ]
  assert importers == ['t5x_model.py']


def test_every_public_name_is_there():
  for name in ('PromptInDecoder', 'T5Config', 'UserError', 'Vocabulary'):
    assert getattr(pid_jax, name).__name__ == name
    assert name in dir(pid_jax)
  with pytest.raises(AttributeError, match='no attribute'):
    _ = pid_jax.PromptInEncoder
