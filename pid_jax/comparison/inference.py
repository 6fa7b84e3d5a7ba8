# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The time to answer: shapes of the task, and sweeps.

The weights are random, since time does not depend on them, and each prompt gets
exactly as many tokens, those of a mean answer; see `pid_jax.benchmarks`, which
does the timing.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from pid_jax import benchmarks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.benchmarks import jobs as jobs_lib
from pid_jax.benchmarks import runner as runner_lib
from pid_jax.comparison import updates
from pid_jax.trainer import data

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
_NUM_MEASURED = 1000  # Inputs.
# There are many jobs, and each has many parts, some of a millisecond.
_SETTINGS = runner_lib.Settings(num_rounds=5, budget=15.0, least=0.04)


def typical(
  cfg: data.DatasetConfig, arm: updates.Arm, has_targets: bool
) -> dict[str, int]:
  """How large an input is with its prompts and answers, in the mean.

  Args:
    cfg: of PiD's run, with its seed; its first inputs are measured.
    arm: PiD, or another task.
    has_targets: whether answers are known; if not, they are as long as the task
      allows.

  Returns:
    Rounded: 'input_length' S and 'num_prompts' U; 'prompt_length' P and
    'new_tokens' T of the longest prompt and answer of an input, for which the
    others wait; 'joint_tokens', all answers as one with what stands between.
  """
  lengths = arm.lengths or cfg.task_feature_lengths
  task = arm.task(cfg.mixture_or_task_name)
  between = len(updates.separator(task))
  found = []
  examples = updates.examples(cfg, task, lengths).take(_NUM_MEASURED)
  for example in examples.as_numpy_iterator():
    inputs, prompts, targets = (
      np.count_nonzero(example[name], axis=-1)
      for name in ('inputs', 'prompts', 'targets')
    )
    if not has_targets:
      targets = np.full_like(targets, lengths['targets'])
    joint = targets.sum() + (len(targets) - 1) * (between - 1)
    found.append((inputs, len(prompts), prompts.max(), targets.max(), joint))
  names = (
    'input_length', 'num_prompts', 'prompt_length', 'new_tokens',
    'joint_tokens',
  )  # fmt: skip
  means = np.mean(found, axis=0)
  return {n: max(1, round(x)) for n, x in zip(names, means, strict=True)}


def jobs(
  sizes: Mapping[str, Mapping[str, int]],
  arms: Sequence[updates.Arm],
  sweep: str,
) -> list[jobs_lib.Job]:
  """The jobs to be timed: 'task', and the points of sweeps.

  Args:
    sizes: of `typical`, by arm: of PiD and of other tasks.
    arms: to be timed; sweeps are of the layouts among them.
    sweep: letters of `_SWEEPS`, such as 'U,S'.
  """
  own = dict(sizes['pid'])
  # As many of the answers' tokens to each prompt.
  joint = max(1, round(own.pop('joint_tokens') / own['num_prompts']))
  layouts = {
    'pid': jobs_lib.PID,
    'pie': jobs_lib.PIE,
    'joint': dataclasses.replace(jobs_lib.JOINT, sizes={'new_tokens': joint}),
  }
  variants = {}
  # PiD is what the others are compared with.
  for arm in sorted(arms, key=lambda arm: arm.name != 'pid'):
    if arm.lengths is None:
      variants[arm.name] = layouts[arm.name]
    else:
      differing = dict(sizes[arm.name])
      del differing['joint_tokens'], differing['input_length']
      variants[arm.name] = jobs_lib.Variant(arm.name, sizes=differing)
  task = jobs_lib.Job(
    'task',
    'answers to all prompts of an input of mean size',
    **own,
    variants=tuple(variants.values()),
    all_phases=True,
  )
  swept = tuple(v for name, v in variants.items() if name in layouts)
  chosen = [task]
  for letter in _letters(sweep):
    field, values = _SWEEPS[letter]
    for value in values:
      point = dataclasses.replace(
        task,
        name=f'{letter}={value}',
        summary=f'the same, {_NAMES[letter]}',
        variants=swept,
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


def _letters(sweep: str) -> list[str]:
  return [letter for letter in sweep.upper().split(',') if letter]
