# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The time to answer: jobs with the sizes of a task, and their sweeps.

The weights are random, since time does not depend on them, and each prompt gets
exactly as many tokens as a mean answer has; `benchmarking` does the timing.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

from pid_jax import config as config_lib
from pid_jax.experiments import benchmarking
from pid_jax.experiments import matched_batches
from pid_jax.experiments import workloads
from pid_jax.trainer import data

_NUM_MEASURED = 1000  # Inputs.
# There are many jobs, and each has many parts, some of a millisecond.
_SETTINGS = benchmarking.Settings(num_rounds=5, budget=15.0, least=0.04)


def typical(
  cfg: data.DatasetConfig, arm: matched_batches.Arm, has_targets: bool
) -> dict[str, int]:
  """Returns the mean sizes of an input with its prompts and answers.

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
  between = len(matched_batches.separator(task))
  found = []
  examples = matched_batches.examples(cfg, task, lengths).take(_NUM_MEASURED)
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
  arms: Sequence[matched_batches.Arm],
  sweep: str,
) -> list[workloads.Job]:
  """Returns the jobs to be timed: 'task', and the points of sweeps.

  Args:
    sizes: of `typical`, by arm: of PiD and of other tasks.
    arms: to be timed; sweeps are of the layouts among them.
    sweep: letters of `workloads.SWEEPS`, such as 'U,S'.

  Raises:
    UserError: a letter stands for no sweep.
  """
  of_task = dict(sizes['pid'])
  # The joint answer's tokens, divided among the prompts.
  joint = max(1, round(of_task.pop('joint_tokens') / of_task['num_prompts']))
  layouts = {
    'pid': workloads.PID,
    'pie': workloads.PIE,
    'joint': dataclasses.replace(workloads.JOINT, sizes={'new_tokens': joint}),
  }
  variants = {}
  # PiD is the reference.
  for arm in sorted(arms, key=lambda arm: arm.name != 'pid'):
    if arm.lengths is None:
      variants[arm.name] = layouts[arm.name]
    else:
      differing = dict(sizes[arm.name])
      del differing['joint_tokens'], differing['input_length']
      variants[arm.name] = workloads.Variant(arm.name, sizes=differing)
  task = workloads.Job(
    'task',
    'answers to all prompts of an input of mean size',
    workloads.Sizes(**of_task),
    variants=tuple(variants.values()),
    all_phases=True,
  )
  swept = tuple(v for name, v in variants.items() if name in layouts)
  points = []
  for letter in workloads.read_sweeps(sweep):
    varied = workloads.SWEEPS[letter]
    points += [
      dataclasses.replace(
        task.with_sizes(**{varied.field: value}),
        name=f'{letter}={value}',
        summary=f'the same, by {varied.label}',
        variants=swept,
      )
      for value in (*varied.values, *varied.further)
    ]
  return [task, *points]


def measure(
  jobs_left: Sequence[workloads.Job],
  config: config_lib.T5Config,
) -> Iterator[dict[str, Any]]:
  """Times jobs.

  Args:
    jobs_left: to be timed.
    config: of the model.

  Yields:
    After each job its row, that of a benchmark's sweep with the 'machine'.
  """
  for results in benchmarking.run(
    [], jobs_left, config, sweep_settings=_SETTINGS
  ):
    yield {**results['sweeps'][-1], 'machine': results['machine']}
