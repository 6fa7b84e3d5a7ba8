# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Trains the toy in a process that trainer_resume_test.py can kill.

Logs the examples of each step.
"""

import argparse
import json
import pathlib

from toys import training as toy

from pid_jax import cli
from pid_jax import trainer
from pid_jax.trainer import step as step_lib


def log_steps(path: pathlib.Path) -> None:
  """Makes each train step append its number and examples to a file."""
  compile_train_step = step_lib.compile_train_step

  def compile_and_log(*args, **kwargs):
    step = compile_train_step(*args, **kwargs)

    def logged(state, batch):
      line = {
        'step': int(state.step) + 1,
        'examples': toy.example_numbers(batch),
      }
      with path.open('a') as f:
        f.write(json.dumps(line) + '\n')
      return step(state, batch)

    return logged

  step_lib.compile_train_step = compile_and_log


def main(args) -> None:
  if args.log:
    log_steps(pathlib.Path(args.log))
  toy.train(
    args.model_dir,
    total_steps=args.steps,
    checkpoint_cfg=trainer.CheckpointConfig(period=args.period),
    ema_decay=0.9,
    num_microbatches=2,
  )


def add_flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('model_dir')
  parser.add_argument('--steps', type=int, default=60)
  parser.add_argument('--period', type=int, default=3)
  parser.add_argument('--log')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags)
