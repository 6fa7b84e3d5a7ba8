# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluates a trained model and writes its metrics and predictions.

Example:
  python -m pid_jax.evaluate --model_dir=/tmp/model --split=test
  python -m pid_jax.evaluate --model_dir=/tmp/model --param_dtype=int8
  python -m pid_jax.evaluate --model_dir=/tmp/model --beam_size=4

Task, lengths and modules are those of MODEL_DIR/config.gin, which training
wrote; --gin_file and --gin.NAME=VALUE override them. The mesh is not: all
devices share the batch, in groups of --num_partitions. Predictions are made as
`predict` makes them, with the same flags.
The results go to MODEL_DIR/evaluation/SPLIT-STEP: metrics.json and TASK.jsonl;
of another task, fewer examples, int8 or other decoding to SPLIT-STEP-TASK,
-first-N, -int8, -beam_size-4 and so on.
"""

import argparse
import dataclasses

from etils import epath

from pid_jax import checks
from pid_jax import cli
from pid_jax import files
from pid_jax import flag_types


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  add = parser.add_argument
  cli.add_model_flags(parser)
  cli.add_mesh_flags(parser)
  add('--split', type=flag_types.name, default='test', help='default: test')
  add('--task', type=flag_types.name, help='default: the one trained on')
  add(
    '--num_examples',
    type=flag_types.integer(1),
    metavar='N',
    help='evaluate the first N only',
  )
  add(
    '--output',
    type=flag_types.path,
    metavar='DIR',
    help='default: MODEL_DIR/evaluation/SPLIT-STEP',
  )
  add(
    '--batch_size',
    type=flag_types.integer(1, checks.MOST_INPUTS),
    metavar='N',
    help='inputs that are decoded together; default: as configured',
  )
  cli.add_decoding_flags(parser)


def check(args: argparse.Namespace) -> None:
  """Finds what is missing before TensorFlow is loaded."""
  cli.check_decoding_flags(args)
  cli.check_model_dir(args.model_dir)
  if not files.is_remote(args.model_dir):
    cli.check_gin(args, find_config(args.model_dir), _mesh(args))
  if args.output is not None:
    cli.check_new_folder(args.output, '--output')


def find_config(model_dir: str) -> list[str]:
  """Returns the path of MODEL_DIR/config.gin if training here wrote it."""
  folder = epath.Path(model_dir)
  is_native = (folder / 'checkpoints').exists()  # Else it is T5X's.
  config = folder / 'config.gin'
  return [str(config)] if is_native and config.exists() else []


def _mesh(args: argparse.Namespace) -> list[str]:
  return [f'NUM_PARTITIONS = {args.num_partitions}', 'NUM_FSDP = 1']


def main(args: argparse.Namespace) -> None:
  """Reads the configuration of the training run and evaluates its model."""
  import gin

  from pid_jax import checkpoints
  from pid_jax import partitioning
  from pid_jax import trainer

  options = cli.decoding_options(args)
  task = checkpoints.read_config(args.model_dir)['task']
  args.gin_file[:0] = find_config(args.model_dir)
  cli.parse_gin(args, _mesh(args))
  bound = {'batch_size': 32, 'shuffle': False, 'seed': 42, 'pack': False}
  with gin.config_scope('infer_eval'):
    bound = cli.bindings(trainer.DatasetConfig) or bound
  cfg = trainer.DatasetConfig(
    **{
      'mixture_or_task_name': task['name'],
      'task_feature_lengths': task['feature_lengths'],
      **bound,
    }
  )
  cfg = dataclasses.replace(
    cfg,
    split=args.split,
    mixture_or_task_name=args.task or cfg.mixture_or_task_name,
    num_examples=args.num_examples or cfg.num_examples,
    batch_size=args.batch_size or cfg.batch_size,
  )
  values, output = trainer.evaluate(
    args.model_dir,
    cfg,
    step=args.step,
    output_dir=args.output,
    partitioner=partitioning.Partitioner(
      **{
        'num_partitions': args.num_partitions,
        **cli.bindings(partitioning.Partitioner),
      }
    ),
    param_dtype=args.param_dtype,
    options=options,
  )
  cli.say(f'{trainer.table(values)}\nwritten to {output}')


if __name__ == '__main__':
  cli.run(
    main,
    __doc__,
    add_flags,
    use_gin=True,
    preload=['seqio'],
    check=check,
    join=True,
  )
