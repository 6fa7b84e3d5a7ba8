# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The time to answer in the three layouts: shapes of the task, and sweeps.

The weights are random, since time does not depend on them, and each prompt gets
exactly as many tokens; see `pid_jax.benchmarks`, which does the timing.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from pid_jax import benchmarks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.benchmarks import jobs as jobs_lib

_SWEEPS = {
  'U': ('num_prompts', (1, 2, 4, 8, 16, 32, 64)),
  'S': ('input_length', (128, 256, 512, 1024, 2048)),
  'B': ('num_inputs', (1, 2, 4, 8)),
}


def jobs(
  lengths: Mapping[str, int],
  input_tokens: int,
  layouts: Sequence[str],
  sweep: str,
) -> list[jobs_lib.Job]:
  """The jobs to be timed: 'task', and the points of sweeps.

  Args:
    lengths: of the task's features, P, T and U.
    input_tokens: S, of an input of mean length.
    layouts: to be timed.
    sweep: letters of `_SWEEPS`, such as 'U,S'.
  """
  variants = {'pid': jobs_lib.PID, 'pie': jobs_lib.PIE, 'joint': jobs_lib.JOINT}
  task = jobs_lib.Job(
    'task',
    'an input of mean length with all prompts',
    input_length=input_tokens,
    num_prompts=lengths['subtasks'],
    prompt_length=lengths['prompts'],
    new_tokens=lengths['targets'],
    variants=tuple(variants[name] for name in sorted(layouts, key=_order)),
  )
  chosen = [task]
  for letter in _letters(sweep):
    field, values = _SWEEPS[letter]
    for value in values:
      chosen.append(
        dataclasses.replace(
          task,
          name=f'{letter}={value}',
          summary=f'the same with {field} {value}',
          **{field: value},
        )
      )
  return chosen


def check_sweep(sweep: str) -> None:
  """Raises UserError for a letter that stands for no sweep."""
  for letter in _letters(sweep):
    if letter not in _SWEEPS:
      raise errors.unknown('sweep', letter, _SWEEPS)


def measure(
  job: jobs_lib.Job,
  config: config_lib.T5Config,
  announce: Callable[[str], None],
) -> dict[str, Any]:
  """Times a job; returns a row as of a benchmark's sweeps, and the machine."""
  results = benchmarks.run([], [job], config, announce=announce)
  return {**results['sweeps'][0], 'machine': results['machine']}


def _letters(sweep: str) -> list[str]:
  return [letter for letter in sweep.upper().split(',') if letter]


def _order(layout: str) -> bool:
  return layout != 'pid'  # PiD is what the others are compared with.
