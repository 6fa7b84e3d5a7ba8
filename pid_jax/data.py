# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Prepares the data of a task, measures its lengths, and shows examples.

Example:
  python -m pid_jax.data prepare todsum_domain --manual_dir=TODSum \
      --lengths=inputs=1024,targets=96
  python -m pid_jax.data inspect todsum_domain --split=test --num=3
  python -m pid_jax.data inspect train.jsonl --vocabulary=spiece.model

`prepare` reads the distributor's files once, compares their counts with the
published ones, and prints how many tokens the features have, by which to choose
feature lengths. `inspect` shows further examples. Both accept tasks that need
no preparation, too. To train on data in another --data_dir, set TFDS_DATA_DIR
to it.
"""

import argparse

from pid_jax import cli
from pid_jax import files
from pid_jax import flag_types

_MOST_EXAMPLES = 10_000  # That anybody reads.


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  add = parser.add_argument
  add('action', choices=('prepare', 'inspect'))
  add(
    'task',
    type=flag_types.name,
    metavar='TASK',
    help='of pid_jax.tasks, or a JSONL file',
  )
  add(
    '--manual_dir',
    type=flag_types.path,
    metavar='DIR',
    help="folder of the distributor's files",
  )
  add(
    '--data_dir',
    type=flag_types.path,
    metavar='DIR',
    help='of prepared data; default: TFDS_DATA_DIR, else ~/tensorflow_datasets',
  )
  add('--overwrite', action='store_true', help='prepare the data again')
  add(
    '--vocabulary',
    type=flag_types.path,
    metavar='FILE',
    help="a SentencePiece model; else T5's",
  )
  add(
    '--lengths',
    type=flag_types.lengths,
    default={},
    metavar='NAME=N,...',
    help='count the examples that are longer',
  )
  add(
    '--split',
    type=flag_types.name,
    help='of the examples; default: validation, if it exists',
  )
  add(
    '--num',
    type=flag_types.integer(0, _MOST_EXAMPLES),
    metavar='N',
    default=1,
    help='examples to show',
  )
  add(
    '--num_measured',
    type=flag_types.integer(1),
    metavar='N',
    default=5000,
    help='examples of each split to measure; default: %(default)s',
  )


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before TensorFlow is loaded."""
  from pid_jax import tasks

  if tasks.is_file(args.task):
    files.check_regular(args.task, 'TASK')
  if args.vocabulary is not None:
    files.check_regular(args.vocabulary, '--vocabulary')


def main(args: argparse.Namespace) -> None:
  """Prepares the data if requested, and prints lengths and examples."""
  import seqio

  from pid_jax import tasks
  from pid_jax.subtasks import inspection
  from pid_jax.subtasks import round_trip
  from pid_jax.tasks import preparation

  lengths = args.lengths
  seqio.set_tfds_data_dir_override(args.data_dir)
  for name in tasks.find(args.task, args.vocabulary):
    task = seqio.TaskRegistry.get(name)
    inspection.check_lengths(task, lengths)
    splits = None
    if args.action == 'prepare':
      for line in preparation.prepare_and_report(
        task, args.manual_dir, overwrite=args.overwrite
      ):
        print(line, flush=True)
      splits = inspection.splits(task)
      print(inspection.vocabulary_line(task))
      print(inspection.lengths_table(task, splits, lengths, args.num_measured))
      print()
    split = args.split or inspection.split_to_show(task)
    rewritten = round_trip.report(task, splits or [split], args.num_measured)
    if rewritten:
      print(rewritten, end='\n\n')
    for index in range(args.num):
      print(inspection.show_example(name, split, index, lengths), end='\n\n')


if __name__ == '__main__':
  cli.run(
    main,
    doc=__doc__,
    flags=add_flags,
    preload=['seqio'],
    compute_on='cpu',
    check=check,
  )
