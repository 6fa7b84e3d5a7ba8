# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The time to answer: shapes of the task, and sweeps.

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
from pid_jax.benchmarks import runner as runner_lib
from pid_jax.comparison import updates

_SWEEPS = {
  'U': ('num_prompts', (1, 2, 4, 8, 16, 32, 64)),
  'S': ('input_length', (128, 256, 512, 1024, 2048)),
  'B': ('num_inputs', (1, 2, 4, 8)),
}


_NAMES = {
  'U': 'by the number of prompts',
  'S': 'by the tokens of the input',
  'B': 'by the number of inputs',
}
_VARIANTS = {
  'pid': jobs_lib.PID, 'pie': jobs_lib.PIE, 'joint': jobs_lib.JOINT
}  # fmt: skip
# There are many jobs, and each has many parts.
_SETTINGS = runner_lib.Settings(num_rounds=5, budget=30.0)


def jobs(
  lengths: Mapping[str, int],
  input_tokens: int,
  arms: Sequence[updates.Arm],
  sweep: str,
) -> list[jobs_lib.Job]:
  """The jobs to be timed: 'task', and the points of sweeps.

  Args:
    lengths: of the task's features, P, T and U.
    input_tokens: S, of an input of mean length.
    arms: to be timed; sweeps are of the layouts among them.
    sweep: letters of `_SWEEPS`, such as 'U,S'.
  """
  variants = [
    _VARIANTS[arm.name]
    if arm.lengths is None
    else jobs_lib.Variant(arm.name, sizes=_sizes(arm.lengths))
    # PiD is what the others are compared with.
    for arm in sorted(arms, key=lambda arm: arm.name != 'pid')
  ]
  task = jobs_lib.Job(
    'task',
    f'answers to all prompts of an input of {input_tokens} tokens, the mean',
    input_length=input_tokens,
    **_sizes(lengths),
    variants=tuple(variants),
    all_phases=True,
  )
  layouts = tuple(v for v in variants if not v.sizes)
  chosen = [task]
  for letter in _letters(sweep):
    field, values = _SWEEPS[letter]
    for value in values:
      point = dataclasses.replace(
        task,
        name=f'{letter}={value}',
        summary=f'the same, {_NAMES[letter]}',
        variants=layouts,
        **{field: value},
      )
      chosen.append(point)
  return chosen


def check_sweep(sweep: str) -> None:
  """Raises UserError for a letter that stands for no sweep."""
  for letter in _letters(sweep):
    if letter not in _SWEEPS:
      raise errors.unknown('sweep', letter, _SWEEPS)


def measure(
  jobs_left: Sequence[jobs_lib.Job],
  config: config_lib.T5Config,
  *,
  announce: Callable[[str], None],
  keep: Callable[[str, dict[str, Any]], None],
) -> None:
  """Times jobs.

  Args:
    jobs_left: to be timed.
    config: of the model.
    announce: is told what begins.
    keep: gets each job's name, and a row as of a benchmark's sweeps with the
      'machine'.
  """

  def keep_last(results: dict[str, Any]) -> None:
    row = results['sweeps'][-1]
    keep(row['name'], {**row, 'machine': results['machine']})

  benchmarks.run(
    [],
    jobs_left,
    config,
    sweep_settings=_SETTINGS,
    announce=announce,
    keep=keep_last,
  )


def _sizes(lengths: Mapping[str, int]) -> dict[str, int]:
  """Sizes of a job in which tasks on the same inputs differ."""
  return {
    'num_prompts': lengths['subtasks'],
    'prompt_length': lengths['prompts'],
    'new_tokens': lengths['targets'],
  }


def _letters(sweep: str) -> list[str]:
  return [letter for letter in sweep.upper().split(',') if letter]
