# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Times PiD, PiE and joint, beside other libraries and the machine's floor.

Examples:
  python -m pid_jax.benchmark --output=/tmp/benchmark
  python -m pid_jax.benchmark --job=dst,qa --output=/tmp/benchmark
  python -m pid_jax.benchmark --sweep=U,S --output=/tmp/benchmark
  python -m pid_jax.benchmark --texts=1,10,100,1000 --output=/tmp/benchmark

Needs no download: weights are random. PyTorch's transformers and CTranslate2 do
the same work on the same weights where they are installed (pip install
'pid_jax[experiments]'). All contenders take turns. What counts are the ratios
within this run: on a machine that others use, all contenders are slower.

--texts times whole processes of a small model, from their start to the answers
to files of texts: importing, loading and compiling included.
"""

import argparse
import shlex
import sys

from pid_jax import checks
from pid_jax import cli
from pid_jax import config
from pid_jax import files
from pid_jax import flag_types


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's flags."""
  add = parser.add_argument
  add(
    '--job',
    action='extend',
    type=flag_types.comma_separated('job'),
    default=[],
    metavar='NAME,NAME',
    help='some of dst, qa, notes, skewed and stream; default: all, or none '
    'beside --sweep and --texts',
  )
  add(
    '--sweep',
    default='',
    metavar='U,S,T,B',
    help='vary prompts, input length, generated tokens or inputs',
  )
  add(
    '--texts',
    type=flag_types.integers(1, checks.MOST_INPUTS),
    default=[],
    metavar='N,N',
    help='whole processes over files of so many texts',
  )
  add(
    '--output',
    type=flag_types.path,
    required=True,
    metavar='DIR',
    help='for JSON and plots',
  )
  add(
    '--size',
    default='t5_1_1_small',
    metavar='NAME',
    help='of the model, see pid_jax/config.py; default: %(default)s',
  )
  add(
    '--tpu',
    action='store_true',
    help='compile for a TPU, too; the default where libtpu is installed',
  )


def check(args: argparse.Namespace) -> None:
  """Finds wrong values before JAX is loaded."""
  config.T5Config(size=args.size)
  files.check_folder(args.output, '--output')


def main(args: argparse.Namespace) -> None:
  """Runs, prints a table, and writes JSON and plots."""
  from pid_jax.experiments import benchmark_report as report
  from pid_jax.experiments import benchmarking
  from pid_jax.experiments import figures
  from pid_jax.experiments import output
  from pid_jax.experiments import tpu
  from pid_jax.experiments import workloads
  from pid_jax.viewer import figures as renderer

  chosen, points = workloads.choose(args.job, args.sweep, args.texts)
  model = config.T5Config(size=args.size)
  with output.reserved(args.output) as folder:
    report.check_folder(folder)
    wants_tpu = args.tpu or tpu.is_installed()
    tpu_part = benchmarking.analyse_tpu() if wants_tpu else None
    command = shlex.join(['python', '-m', 'pid_jax.benchmark', *sys.argv[1:]])
    # A run that is stopped has kept the jobs that were done.
    for results in benchmarking.run(chosen, points, model, counts=args.texts):
      written = report.write(results, tpu_part, command, folder)
    print(f'\n{report.table(written)}\n\n{folder / report.FILE} written')
    if renderer.is_installed():
      print(*figures.write(figures.of_benchmark(written), folder))
    else:
      print(f'no plots: matplotlib is missing; {renderer.INSTALL}')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, check=check)
