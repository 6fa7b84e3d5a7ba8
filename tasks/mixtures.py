# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One model for all tasks: mixtures of them, in each layout.

`pid_all` (with `pid_all_pie` and `pid_all_joint`) mixes a task of each data set
that anyone can get. Its rates are the square roots of the examples that each
has for training, as T5's mixtures are made at a temperature of 2: a task of 67
notes is seen, and one of 120,000 turns does not drown it.

RadQA is not among them, for its data needs credentials. Other mixtures by gin:
  from pid_jax.tasks import mixtures
  MIXTURE_OR_TASK_NAME = @mixtures.register()
  mixtures.register:
    name = 'reports'
    tasks = ('radqa', 'aci_bench')
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import importlib
import math

import seqio

from pid_jax import errors
from pid_jax import subtasks
from pid_jax import tasks as tasks_lib

# About how many examples the training splits have: inputs encoded once.
# Only ACI-Bench's were counted; rates need no more than the order of magnitude.
SIZES = {
  'aci_bench': 67,  # Notes.
  'multiwoz24_slot': 55_000,  # Turns of the user.
  'radqa': 800,  # Contexts.
  'sgd_slot': 165_000,  # Turns of the user.
  'squad_v1': 18_900,  # Contexts.
  'squad_v2': 19_000,
  'todsum_domain': 7_900,  # Dialogues.
}
ALL = (
  'aci_bench',
  'multiwoz24_slot',
  'sgd_slot',
  'squad_v2',
  'todsum_domain',
)
_LAYOUTS = ('', '_pie', '_joint')


def register(
  name: str,
  *,
  tasks: Sequence[str] = ALL,
  rates: Mapping[str, float] | None = None,
) -> str:
  """Registers the mixture `name`, with `name`_pie and `name`_joint.

  May be called again with the same arguments, since gin calls it wherever the
  name is used.

  Args:
    name: of the mixture.
    tasks: names of tasks of pid_jax.tasks.
    rates: by task, how often its examples come, in any unit; where there is
      none, the square root of SIZES.

  Returns:
    The name.

  Raises:
    UserError: a task is unknown, or has no rate; or the name is registered with
      other tasks or rates.
  """
  rates = dict(rates or {})
  for task in tasks:
    if task not in tasks_lib.HOMES:
      raise errors.unknown('task', task, tasks_lib.HOMES)
    if task not in rates and task not in SIZES:
      raise errors.UserError(
        f'the mixture {name} needs a rate of {task}: give it in `rates`'
      )
    importlib.import_module(f'pid_jax.tasks.{tasks_lib.HOMES[task]}')
  rates = {
    task: rates[task] if task in rates else math.sqrt(SIZES[task])
    for task in tasks
  }
  for layout in _LAYOUTS:
    if subtasks.is_new(name + layout, __name__, rates):
      seqio.MixtureRegistry.add(
        name + layout, [(task + layout, rate) for task, rate in rates.items()]
      )
  return name


register('pid_all')
