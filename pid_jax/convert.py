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

from pid_jax import checks
from pid_jax import cli
from pid_jax import config
from pid_jax import errors

_FORMATS = ('native', 'hugging_face', 't5x')


def _format(name: str) -> str:
  return 'native' if name == 'ours' else name  # As it was called before.


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's flags."""
  add = parser.add_argument
  add('source', metavar='SOURCE', help='the checkpoint to read')
  add('target', metavar='TARGET', help='the folder to write')
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
  add(
    '--vocabulary',
    metavar='FILE',
    help='SentencePiece model, for a SOURCE without one',
  )
  add(
    '--extra_ids',
    type=int,
    metavar='N',
    help='sentinels behind the ids of --vocabulary; default: 100',
  )
  add(
    '--optimizer_state',
    action='store_true',
    help="convert Adafactor's moments, too, between native and T5X",
  )


def main(args: argparse.Namespace) -> None:
  """Converts the checkpoint."""
  if args.extra_ids is not None:
    if args.vocabulary is None:
      raise errors.UserError('--extra_ids goes with --vocabulary; give both.')
    checks.integer('--extra_ids', args.extra_ids, 0, config.MAX_DIM)

  from pid_jax import checkpoints
  from pid_jax.vocabulary import Vocabulary

  vocabulary = None
  if args.vocabulary is not None:
    extra_ids = 100 if args.extra_ids is None else args.extra_ids
    vocabulary = Vocabulary(args.vocabulary, extra_ids)
  model = checkpoints.convert(
    args.source,
    args.target,
    source_format=args.source_format,
    target_format=args.to,
    step=args.step,
    dtype=args.dtype,
    vocabulary=vocabulary,
    with_optimizer=args.optimizer_state,
  )
  print(f'{model.describe()} written to {args.target} ({args.to})')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags)
