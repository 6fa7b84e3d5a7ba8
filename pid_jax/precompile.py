# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Compiles a run for TPUs or GPUs without having any; says whether it fits.

Example:
  python -m pid_jax.precompile --topology=v5e:16x16 \
    --gin_file=runs/finetune.gin --gin_file=models/t5_1_1_xxl.gin \
    --gin_file=pods/scanned.gin --gin_file=tasks/todsum_domain.gin \
    --gin.NUM_FSDP=64 --gin.NUM_PARTITIONS=4 --gin.BATCH_SIZE=256 \
    --gin.EVAL_BATCH_SIZE=64

Needs libtpu (pip install 'pid_jax[tpu]') or JAX's CUDA plug-in (pip install
'pid_jax[cuda13]'), and neither a device nor the data. All numbers are those of
one device. The estimate of time is the compiler's for TPUs, for comparing one
mesh with another; for GPUs a lower bound, from FLOPs and bytes at the card's
rates. Ends with status 1 if a program does not fit.
"""

import argparse
import os

from pid_jax import cli
from pid_jax import config
from pid_jax import flag_types
from pid_jax.experiments import topologies

_PROGRAMS = ('train', 'encode', 'prefill', 'step', 'generate')
# `generate` is the three before it in one, with a loop of steps.
_DEFAULT_PROGRAMS = _PROGRAMS[:-1]
# What a run must be given, and what does not change its programs.
_NOT_NEEDED = (
  "MODEL_DIR = '/model'",
  'INITIAL_CHECKPOINT_PATH = None',
  'TRAIN_STEPS = 1000',
)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's flags."""
  parser.add_argument(
    '--topology',
    required=True,
    metavar='NAME',
    help='TPUs, such as v5e:4x4 or v5p:2x2x4, or GPUs, such as l4 or h100:8',
  )
  parser.add_argument(
    '--programs',
    type=flag_types.comma_separated('program', _PROGRAMS),
    default=','.join(_DEFAULT_PROGRAMS),
    metavar='NAME,NAME',
    help=f'some of {",".join(_PROGRAMS)}; default: %(default)s; generate is '
    'encode, prefill and all steps in one; all but train have EVAL_BATCH_SIZE '
    'inputs of the lengths that TASK_FEATURE_LENGTHS names',
  )
  parser.add_argument(
    '--param_dtype',
    choices=config.DTYPES,
    default='float32',
    help='of the parameters in decoding; default: %(default)s',
  )


def check(args: argparse.Namespace) -> None:
  """Finds mistakes in gin files before TensorFlow is loaded."""
  cli.check_gin(args, bindings=_NOT_NEEDED)


def main(args: argparse.Namespace) -> int:
  """Compiles one program after another; prints as they are done."""
  from pid_jax.experiments import fitting

  chip = topologies.find_chip(args.topology)
  cli.parse_gin(args, _NOT_NEEDED)
  run = fitting.from_gin(topologies.devices(args.topology))
  print(fitting.describe_run(run, args.topology, chip), flush=True)
  fit = True
  for program in run.programs(args.programs, args.param_dtype):
    result = fitting.compile_program(
      program, chip, run.config, run.num_microbatches
    )
    print(fitting.describe_result(result), flush=True)
    fit = fit and result.fits
  return 0 if fit else 1


if __name__ == '__main__':
  os.environ.update(topologies.ENVIRONMENT)
  cli.run(
    main,
    doc=__doc__,
    flags=add_flags,
    use_gin=True,
    preload=['seqio'],
    compute_on='cpu',
    check=check,
  )
