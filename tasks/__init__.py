# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO tasks: one module per family of data sets.

Importing a module registers its tasks, each also as NAME_pie and NAME_joint.
Gin files import the module that they need; commands call `find`. The library
never imports this package.
"""

import importlib
import os
import re

from pid_jax import errors
from pid_jax import files
from pid_jax.subtasks import examples

_FAMILIES = ('aci_bench', 'bookings', 'multiwoz', 'reading', 'sgd', 'todsum')


def register_families() -> None:
  """Registers all tasks of this package; repeated calls are no-ops."""
  for name in _FAMILIES:
    importlib.import_module(f'{__name__}.{name}')


def use_vocabulary(path: str | os.PathLike) -> None:
  """Gives the tasks of this package another SentencePiece model than T5's."""
  os.environ['PID_JAX_VOCABULARY'] = os.fspath(path)


def is_file(name: str) -> bool:
  """Whether a name is the path of a file, existing or not, and no task's."""
  is_path = re.search(r'[/\\]|\.jsonl?$', name) is not None
  return is_path or os.path.isfile(name)


def find(name: str, vocabulary: str | None = None) -> list[str]:
  """Registers a task.

  Args:
    name: of a task or mixture, in any layout; or the path of a file of JSON
      lines, which becomes the split 'train' of a task.
    vocabulary: path of a SentencePiece model to use instead of T5's.

  Returns:
    The name of the task, or the names of a mixture's tasks, in the multi-prompt
    layout.

  Raises:
    UserError: there is no such task.
  """
  if vocabulary is not None:
    vocabulary = str(files.check_regular(vocabulary, 'the vocabulary'))
  if is_file(name):
    path = files.check_regular(name, 'the examples')
    return [_register_file(str(path), vocabulary)]
  seqio = importlib.import_module('seqio')
  register_families()
  importlib.import_module(f'{__name__}.mixtures')
  suffixes = tuple(filter(None, examples.LAYOUTS.values()))
  known = seqio.TaskRegistry.names() | seqio.MixtureRegistry.names()
  known = {n for n in known if not n.endswith(suffixes)}
  base = name
  for suffix in suffixes:
    base = base.removesuffix(suffix)
  if base not in known:
    raise errors.unknown('task', name, known)
  tasks = seqio.get_subtasks(seqio.get_mixture_or_task(base))
  if vocabulary is not None:
    lazy = importlib.import_module(f'{__name__}.vocabulary')
    for task in tasks:
      if task.output_features['targets'].vocabulary != lazy.default():
        raise errors.UserError(
          f'the task {task.name} has a vocabulary of its own: leave '
          '--vocabulary out'
        )
    use_vocabulary(vocabulary)
  return [task.name for task in tasks]


def _register_file(path: str, vocabulary: str | None) -> str:
  jsonl = importlib.import_module('pid_jax.tasks.jsonl')
  lazy = importlib.import_module('pid_jax.tasks.vocabulary')
  name = re.sub(r'\W', '_', os.path.basename(path).removesuffix('.jsonl'))
  name = name or 'examples'
  if vocabulary is None:
    try:
      lazy.model_file()
    except errors.UserError as e:
      line = str(e).partition('\n')[0]  # Gin adds the name of the function.
      raise errors.UserError(f'{line}; or name one by --vocabulary') from e
  return jsonl.register(
    name, train=path, vocabulary=vocabulary or lazy.default(), metrics=()
  )
