# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison small enough for a test, on the toy task, and a command.

Run as a script, it compares in a process of its own, which can be told to kill
itself: `update:5` in the fifth update that it makes, `part:3` after the third
part that it has written down.
"""

import dataclasses
import os
import pathlib
import signal
import sys

import experiments_report_data as report_data
from toys import training as toy

from pid_jax import cli
from pid_jax import trainer
from pid_jax.experiments import answering
from pid_jax.experiments import comparison
from pid_jax.experiments import roofline
from pid_jax.experiments import trainings
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib


def configure(total_steps: int | None = None, **overrides) -> dict:
  """Arguments of a training of three updates, or of so many."""
  arguments = dict(
    model=toy.t5_model(),
    model_dir='',
    train_dataset_cfg=toy.dataset_config(batch_size=4),
    infer_eval_dataset_cfg=toy.dataset_config('validation', batch_size=4),
    optimizer=optimizers.adafactor(1e-2),
    total_steps=total_steps or 3,
    checkpoint_cfg=trainer.CheckpointConfig(
      period=2, best_metric='toy/exact_match'
    ),
    log_period=1,
    random_seed=5,
  )
  return {**arguments, **overrides}


def run(output, *, configure=configure, config_text='', sweep='', **settings):
  """Compares; `settings` with one seed unless they say more."""
  return comparison.run(
    configure,
    comparison.Settings(**{'num_seeds': 1, **settings}),
    output,
    config_text=config_text,
    sweep=sweep,
  )


def stub_costs(replace) -> None:
  """Times nothing: update n takes n + 1 seconds, and so do answers.

  Args:
    replace: setattr.
  """
  seconds = lambda names: {name: 1.0 + i for i, name in enumerate(names)}

  def time_updates(arguments, shapes):
    found = seconds(arm.name for arm in shapes)
    return {name: {'median': value} for name, value in found.items()}

  def measure(jobs, config):
    for job in jobs:
      timed = seconds(v.name for v in job.variants)
      sizes = dataclasses.asdict(job.sizes)
      yield report_data.job(job.name, timed, **sizes)

  places = {'here': report_data.place(), 'tpu': {'missing': 'no libtpu'}}
  replace(trainings, 'time_updates', time_updates)
  replace(answering, 'measure', measure)
  replace(roofline, 'measure', lambda job, config: places)


def _die_at(kind: str, number: int) -> None:
  """Kills the process at the n-th event of a kind, with no word of farewell."""
  left = [number]

  def event():
    left[0] -= 1
    if not left[0]:
      os.kill(os.getpid(), signal.SIGKILL)

  if kind == 'part':
    save = comparison._State.save

    def save_and_die(self):
      save(self)
      event()

    comparison._State.save = save_and_die
    return
  compile_train_step = step_lib.compile_train_step

  def compile_mortal(*args, **kwargs):
    step = compile_train_step(*args, **kwargs)

    def mortal(state, batch):
      event()
      return step(state, batch)

    return mortal

  step_lib.compile_train_step = compile_mortal


def main(args) -> None:
  """Compares PiD and PiE, with six updates and a sweep."""
  if args.die_at:
    kind, _, number = args.die_at.partition(':')
    _die_at(kind, int(number))
  stub_costs(setattr)
  run(
    args.output,
    configure=lambda total=None: configure(total or 6),
    layouts=('pid', 'pie'),
    sweep='B',
  )


def add_flags(parser) -> None:
  """Adds the script's flags."""
  parser.add_argument('--output', required=True)
  parser.add_argument('--die_at', default='')


if __name__ == '__main__':
  sys.path.insert(0, str(pathlib.Path(__file__).parent))
  cli.run(main, doc=__doc__, flags=add_flags)
