# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Trains PiD, PiE and joint on the same examples; reports quality and cost.

Examples:
  python -m pid_jax.compare --output=/tmp/compare
  python -m pid_jax.compare --gin_file=runs/jsonl.gin --output=/tmp/mine \
    --seeds=1 --layouts=pid,pie --gin.TRAIN_FILE="'train.jsonl'" ...

The gin file is one for `train`, of PiD on a task with prompts; its bindings
hold for all runs, but for MODEL_DIR. All begin with the same weights, and see
the same examples in the same updates. The same command resumes where the last
one stopped. What came out lies in DIR: report.html, report.json and, where
matplotlib is installed, plots. Without a gin file it is runs/comparison.gin, on
generated dialogues.
"""

import argparse
import shlex
import sys

from pid_jax import cli
from pid_jax import files
from pid_jax import flag_types
from pid_jax.subtasks import examples

_NO_MODEL_DIR = ("MODEL_DIR = ''",)  # Each run gets its own.


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's flags."""
  add = parser.add_argument
  add(
    '--output',
    type=flag_types.path,
    required=True,
    metavar='DIR',
    help='for everything',
  )
  add(
    '--seeds',
    type=flag_types.integer(1, 1000),
    default=3,
    metavar='N',
    help='runs of each layout; default: %(default)s',
  )
  add(
    '--layouts',
    type=flag_types.comma_separated('layout', examples.LAYOUTS),
    default='pid,pie,joint',
    metavar='NAME,NAME',
    help='some of %(default)s, pid among them; default: all',
  )
  add(
    '--equal',
    choices=('updates', 'seconds'),
    default='updates',
    help='of which all layouts train the same number; default: %(default)s',
  )
  add(
    '--sweep',
    default='U,S,B',
    metavar='U,S,B',
    help='what times to answer are measured over; default: %(default)s',
  )


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before TensorFlow is loaded."""
  files.check_folder(args.output, '--output')
  args.gin_file = args.gin_file or ['runs/comparison.gin']
  cli.check_gin_files(cli.check_gin(args, bindings=_NO_MODEL_DIR))


def configured(args: argparse.Namespace):
  """Reads the gin files: a `comparison.Configure`, the settings, the text."""
  import gin

  from pid_jax import trainer
  from pid_jax.experiments import comparison

  cli.parse_gin(args, bindings=_NO_MODEL_DIR)
  settings = comparison.Settings.from_gin(
    tuple(args.layouts), args.seeds, args.equal
  )
  cli.check_configured(trainer.train, 'runs/train_base.gin')

  def configure(total_steps):
    if total_steps is not None:
      with gin.unlock_config():  # Schedules depend on it.
        gin.parse_config(f'TRAIN_STEPS = {total_steps}')
    return gin.get_bindings(trainer.train)

  return configure, settings, gin.config_str()


def main(args: argparse.Namespace) -> None:
  """Runs what is left to do, writes the report and prints its table."""
  from pid_jax.experiments import comparison
  from pid_jax.experiments import output
  from pid_jax.experiments import page
  from pid_jax.experiments import summary

  configure, settings, text = configured(args)
  with output.reserved(args.output) as folder:
    results = comparison.run(
      configure, settings, folder, config_text=text, sweep=args.sweep
    )
    command = shlex.join(['python', '-m', 'pid_jax.compare', *sys.argv[1:]])
    report = page.write(results, command, folder)
  print('\n' + summary.table(report))


if __name__ == '__main__':
  cli.run(
    main,
    doc=__doc__,
    flags=add_flags,
    use_gin=True,
    preload=['seqio'],
    check=check,
  )
