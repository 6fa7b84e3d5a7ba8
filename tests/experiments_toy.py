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

from toys import training as toy

from pid_jax import cli
from pid_jax import trainer
from pid_jax.experiments import answering
from pid_jax.experiments import comparison
from pid_jax.experiments import costs
from pid_jax.experiments import roofline
from pid_jax.experiments import trainings
from pid_jax.trainer import optimizers
from pid_jax.trainer import step as step_lib

_LAYOUTS = ('pid', 'pie', 'joint')
_SPREAD = dict.fromkeys(('min', 'quartile_1', 'median', 'quartile_3'), 0.5)
_WORK = {
  f'{who}_{what}': 2.0
  for who in ('formula', 'compiler')
  for what in ('flops', 'bytes')
}
_ROOFLINE = {
  'here': {
    'dtype': 'float32',
    'layouts': {
      layout: dict.fromkeys(('encode', 'prefill', 'step'), _WORK)
      for layout in _LAYOUTS
    },
  },
  'tpu': {'missing': 'no libtpu'},
}


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
    announce=lambda line: None,
  )


def stub_costs(replace) -> None:
  """Times nothing: update n takes n + 1 seconds, and so do answers.

  Args:
    replace: setattr.
  """
  replace(
    trainings,
    'time_updates',
    lambda arguments, shapes: {
      arm.name: {**_SPREAD, 'median': 1.0 + i} for i, arm in enumerate(shapes)
    },
  )

  def measure(jobs, config, *, announce, keep):
    del config, announce
    for job in jobs:
      keep(job.name, _timed(job))

  replace(answering, 'measure', measure)
  replace(roofline, 'measure', lambda job, config: _ROOFLINE)


def _timed(job) -> dict:
  """A row of `answering.measure`."""
  phases = dict.fromkeys(costs.PHASES, 0.1)
  phases = {'measured': phases, 'floor': phases}
  spread = lambda i: {**_SPREAD, 'median': 1.0 + i}
  return {
    'name': job.name,
    'contenders': {
      v.name: {
        'seconds': spread(i),
        'ratio': spread(i),
        'steady': True,
        'phases': phases,
        'sizes': dataclasses.asdict(job.of(v).sizes),
      }
      for i, v in enumerate(job.variants)
    },
    'reference': 'pid',
    'sizes': dataclasses.asdict(job.sizes),
    'machine': {
      'processor': 'Zx',
      'cores': 2,
      'device': 'cpu',
      'probe': {'flop_rate': 1e9, 'bandwidth': 1e9},
    },
  }


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
