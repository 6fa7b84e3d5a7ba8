# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Converts a checkpoint between the formats of pid_jax, T5X and Hugging Face.

Examples:
  python -m pid_jax.convert /models/flan-t5-base /tmp/model
  python -m pid_jax.convert /tmp/model /tmp/for_hf --to=hugging_face
  python -m pid_jax.convert /models/t5x/checkpoint_1000000 /tmp/model \
      --vocabulary=spiece.model --extra_ids=100

SOURCE is the MODEL_DIR of a training run (or MODEL_DIR/checkpoints/STEP), one
of T5X (or MODEL_DIR/checkpoint_STEP), or a Hugging Face folder. TARGET is a new
folder, which appears when it is complete: a MODEL_DIR to predict with
('native'), or what T5X or
transformers.T5ForConditionalGeneration.from_pretrained reads.
"""

import argparse
import os

from pid_jax import cli
from pid_jax import config
from pid_jax import errors
from pid_jax import files
from pid_jax import flag_types

_FORMATS = ('native', 'hugging_face', 't5x')


def _format(name: str) -> str:
  return 'native' if name == 'ours' else name  # As it was called before.


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's flags."""
  add = parser.add_argument
  add(
    'source',
    type=flag_types.path,
    metavar='SOURCE',
    help='the checkpoint to read',
  )
  add(
    'target',
    type=flag_types.path,
    metavar='TARGET',
    help='the folder to write',
  )
  add(
    '--to',
    type=_format,
    choices=_FORMATS,
    default='native',
    help='format of TARGET; default: %(default)s',
  )
  add(
    '--from',
    dest='source_format',
    type=_format,
    choices=_FORMATS,
    help='format of SOURCE; default: the one that its files have',
  )
  cli.add_step_flag(parser)
  add(
    '--dtype',
    choices=config.DTYPES,
    help='of the weights in TARGET; default: as in SOURCE',
  )
  cli.add_vocabulary_flags(parser)
  add(
    '--no_vocabulary',
    action='store_true',
    help='write the weights alone, where TARGET cannot hold the vocabulary',
  )
  add(
    '--optimizer_state',
    action='store_true',
    help="convert Adafactor's moments, too, between native and T5X",
  )


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before JAX is loaded."""
  cli.check_vocabulary_flags(args)
  cli.check_checkpoint(args.source, 'SOURCE')
  files.check_folder(args.target, 'TARGET')
  if os.path.isdir(args.target) and os.listdir(args.target):
    raise errors.UserError(
      f'TARGET {args.target} exists already: choose another folder'
    )


def main(args: argparse.Namespace) -> None:
  """Converts the checkpoint."""
  from pid_jax import checkpoints

  model = checkpoints.convert(
    args.source,
    args.target,
    source_format=args.source_format,
    target_format=args.to,
    step=args.step,
    dtype=args.dtype,
    vocabulary=cli.vocabulary(args),
    with_vocabulary=not args.no_vocabulary,
    with_optimizer=args.optimizer_state,
  )
  print(f'{model.describe()} written to {args.target} ({args.to})')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, compute_on='cpu', check=check)
