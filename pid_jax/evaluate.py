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
import os

from pid_jax import cli


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  add = parser.add_argument
  cli.add_model_flags(parser)
  cli.add_vocabulary_flags(parser)
  cli.add_mesh_flags(parser)
  add('--split', default='test', help='default: test')
  add('--task', help='default: the one trained on')
  add('--num_examples', type=int, metavar='N', help='evaluate the first N only')
  add(
    '--output',
    metavar='DIR',
    help='default: MODEL_DIR/evaluation/SPLIT-STEP',
  )
  add(
    '--batch_size',
    type=int,
    metavar='N',
    help='inputs that are decoded together; default: as configured',
  )
  cli.add_decoding_flags(parser)


def main(args: argparse.Namespace) -> None:
  """Reads the configuration of the training run and evaluates its model."""
  import gin

  from pid_jax import checkpoints
  from pid_jax import partitioning
  from pid_jax import tasks
  from pid_jax import trainer

  options = cli.decoding_options(args)
  task = checkpoints.read_config(args.model_dir)['task']
  config = os.path.join(args.model_dir, 'config.gin')
  if checkpoints.steps(args.model_dir) and os.path.exists(config):  # Not T5X's.
    args.gin_file.insert(0, config)
  bindings = [f'NUM_PARTITIONS = {args.num_partitions}', 'NUM_FSDP = 1']
  vocabulary = cli.vocabulary(args)
  if vocabulary is not None:  # Tasks of pid_jax.tasks, and JSON lines.
    tasks.use_vocabulary(vocabulary.path)
    bindings.append(f'VOCABULARY = {str(vocabulary.path)!r}')
  cli.parse_gin(args, bindings)
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
    vocabulary=vocabulary,
  )
  cli.say(f'{trainer.table(values)}\nwritten to {output}')


if __name__ == '__main__':
  cli.run(main, __doc__, add_flags, use_gin=True, preload=['seqio'], join=True)
