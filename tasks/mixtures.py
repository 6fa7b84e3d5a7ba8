# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Mixtures of tasks, in each layout.

`pid_all` (with `pid_all_pie` and `pid_all_joint`) mixes one task of each public
data set. Its rates are the square roots of the numbers of training examples, as
in T5's mixtures with a temperature of 2: a task of 67 notes is seen, and not
drowned out by one of 120,000 turns.

RadQA is not among them, since its data needs credentials. Other mixtures by
gin:
  from pid_jax.tasks import mixtures
  MIXTURE_OR_TASK_NAME = @mixtures.register()
  mixtures.register:
    name = 'reports'
    tasks = ('radqa', 'aci_bench')
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import math

import seqio

from pid_jax import errors
from pid_jax import subtasks
from pid_jax import tasks as tasks_lib
from pid_jax.subtasks import examples

# Approximate numbers of training examples, i.e. of inputs. Only ACI-Bench's
# were counted; rates need no more than the order of magnitude.
SIZES = {
  'aci_bench': 67,  # Notes.
  'multiwoz24_slot': 55_000,  # User turns.
  'radqa': 800,  # Contexts.
  'sgd_slot': 165_000,  # User turns.
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


@subtasks.register_once
def register(
  name: str,
  *,
  tasks: Sequence[str] = ALL,
  rates: Mapping[str, float] | None = None,
) -> None:
  """Registers the mixture `name`, with `name`_pie and `name`_joint.

  Args:
    name: of the mixture.
    tasks: names of registered tasks, such as those of pid_jax.tasks.
    rates: task -> its share of the examples, in any unit; by default the square
      root of SIZES.

  Raises:
    UserError: a task is unknown, or has no rate.
  """
  tasks_lib.register_families()
  given, rates = rates or {}, {}
  for task in tasks:
    if task not in seqio.TaskRegistry.names():
      raise errors.unknown('task', task, seqio.TaskRegistry.names())
    if task not in given and task not in SIZES:
      raise errors.UserError(
        f'the mixture {name} needs a rate for {task}: give it in `rates`'
      )
    rates[task] = given[task] if task in given else math.sqrt(SIZES[task])
  for suffix in examples.LAYOUTS.values():
    seqio.MixtureRegistry.add(
      name + suffix, [(task + suffix, rate) for task, rate in rates.items()]
    )


register('pid_all')
