# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO tasks: one module per family of data sets.

Importing a module registers its tasks; gin files and commands name the module
that they need, or the task, and have `find` import its module. The library
itself never imports any of them.
"""

import importlib
import os
import re

from pid_jax import errors

# Which module registers what, each also as NAME_pie and NAME_joint.
HOMES = {
  'aci_bench': 'aci_bench',
  'bookings': 'bookings',
  'bookings_short': 'bookings',
  'multiwoz24_domain': 'multiwoz',
  'multiwoz24_slot': 'multiwoz',
  'pid_all': 'mixtures',
  'radqa': 'reading',
  'radqa_windows': 'reading',
  'sgd_slot': 'sgd',
  'squad_v1': 'reading',
  'squad_v1_windows': 'reading',
  'squad_v2': 'reading',
  'squad_v2_windows': 'reading',
  'todsum_domain': 'todsum',
  'todsum_domain_gold_state': 'todsum',
}
_LAYOUTS = ('_pie', '_joint')


def find(name: str, vocabulary: str | None = None) -> list[str]:
  """Registers a task by importing its module.

  Args:
    name: of a task or mixture, in any layout; or the path of a file of JSON
      lines, which is registered as the split 'train' of a task.
    vocabulary: path of a SentencePiece model to take instead of T5's.

  Returns:
    The names of the task or, of a mixture, of its tasks; multi-prompt layout.

  Raises:
    UserError: no module registers it.
  """
  if os.path.isfile(name):
    return [_register_file(name, vocabulary)]
  base = name
  for suffix in _LAYOUTS:
    base = base.removesuffix(suffix)
  if base not in HOMES:
    raise errors.unknown('task', name, HOMES)
  importlib.import_module(f'pid_jax.tasks.{HOMES[base]}')
  if vocabulary is not None:
    os.environ['PID_JAX_VOCABULARY'] = vocabulary
  seqio = importlib.import_module('seqio')
  return [t.name for t in seqio.get_subtasks(seqio.get_mixture_or_task(base))]


def _register_file(path: str, vocabulary: str | None) -> str:
  jsonl = importlib.import_module('pid_jax.tasks.jsonl')
  lazy = importlib.import_module('pid_jax.tasks.vocabulary')
  name = re.sub(r'\W', '_', os.path.basename(path).removesuffix('.jsonl'))
  return jsonl.register(
    name, train=path, vocabulary=vocabulary or lazy.default(), metrics=()
  )
