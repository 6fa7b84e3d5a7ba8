# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Prepares the data of a task, measures it, and shows examples.

Example:
  python -m pid_jax.data prepare todsum_domain --manual_dir=TODSum \
      --lengths=inputs=1024,targets=96
  python -m pid_jax.data inspect todsum_domain --split=test --num=3
  python -m pid_jax.data inspect train.jsonl --vocabulary=spiece.model

`prepare` reads the distributor's files, once, checks them against the published
counts, and prints how many tokens the features have: choose feature lengths by
that. `inspect` shows further examples. Both take tasks that need no preparing,
too. To train on data in another --data_dir, set TFDS_DATA_DIR to it.
"""

import argparse

from pid_jax import cli


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the command's own flags."""
  add = parser.add_argument
  add('action', choices=('prepare', 'inspect'))
  add('task', metavar='TASK', help='of pid_jax.tasks, or the path of a JSONL')
  add('--manual_dir', metavar='DIR', help="of the distributor's files")
  add(
    '--data_dir',
    metavar='DIR',
    help='of prepared data; default: TFDS_DATA_DIR, else ~/tensorflow_datasets',
  )
  add('--overwrite', action='store_true', help='prepare anew')
  add('--vocabulary', metavar='FILE', help="a SentencePiece model; else T5's")
  add('--lengths', metavar='NAME=N,...', help='to count what is longer')
  add('--split', help='of the examples; default: validation, if there is one')
  add('--num', type=int, metavar='N', default=1, help='examples to show')
  add(
    '--num_measured',
    type=int,
    metavar='N',
    default=5000,
    help='measure so many of each split; default: %(default)s',
  )


def main(args: argparse.Namespace) -> None:
  """Prepares if asked to, and shows what there is."""
  import seqio

  from pid_jax import tasks
  from pid_jax.subtasks import inspection
  from pid_jax.tasks import preparation

  lengths = inspection.parse_lengths(args.lengths)
  seqio.set_tfds_data_dir_override(args.data_dir)
  for name in tasks.find(args.task, args.vocabulary):
    task = seqio.TaskRegistry.get(name)
    if args.action == 'prepare':
      for line in preparation.prepare_and_account(
        task, args.manual_dir, overwrite=args.overwrite
      ):
        print(line, flush=True)
      splits = inspection.splits(task)
      print(inspection.vocabulary_line(task))
      print(inspection.lengths_table(task, splits, lengths, args.num_measured))
      print()
    split = args.split or inspection.split_to_show(task)
    for index in range(args.num):
      print(inspection.show_example(name, split, index, lengths), end='\n\n')


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, preload=['seqio'])
