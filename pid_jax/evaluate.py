# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluates a trained model and writes its metrics and predictions.

Examples:
  python -m pid_jax.evaluate --model_dir=/tmp/model --split=test
  python -m pid_jax.evaluate --model_dir=/tmp/model --step=last \
      --gin.EVAL_BATCH_SIZE=8

Task, lengths and modules are those of MODEL_DIR/config.gin, which training
wrote; --gin_file and --gin.NAME=VALUE come on top. The results go to
MODEL_DIR/evaluation/SPLIT-STEP: metrics.json and TASK.jsonl.
"""

from __future__ import annotations

from collections.abc import Mapping
import os
from typing import TYPE_CHECKING

from pid_jax import cli

if TYPE_CHECKING:
  from pid_jax import trainer


def add_flags(parser) -> None:
  """Adds the command's own flags."""
  parser.add_argument('--model_dir', required=True, help='of training')
  parser.add_argument('--split', default='test', help='default: test')
  parser.add_argument(
    '--step',
    help="a number, 'best' or 'last'; default: best if known, else last",
  )
  parser.add_argument('--task', help='default: the one trained on')
  parser.add_argument(
    '--num_examples', type=int, help='evaluate the first so many only'
  )
  parser.add_argument(
    '--output', metavar='DIR', help='default: MODEL_DIR/evaluation/SPLIT-STEP'
  )


def main(args) -> None:
  """Reads the configuration of the training run and evaluates its model."""
  from etils import epath

  from pid_jax import checkpoints
  from pid_jax import compilation
  from pid_jax import errors

  compilation.use_cache()
  description = checkpoints.read_config(args.model_dir)
  config = epath.Path(args.model_dir) / 'config.gin'
  if config.exists():
    args.gin_file.insert(0, os.fspath(config))
  elif not args.gin_file:
    raise errors.UserError(
      f'{config} does not exist: give a --gin_file that imports the task.'
    )
  cli.parse_gin(args)
  values, output = evaluate(
    args.model_dir,
    dataset_cfg=configured_dataset(args, description),
    step=int(args.step) if (args.step or '').isdigit() else args.step,
    output_dir=args.output,
  )
  print(table(values))
  print(f'written to {output}')


def configured_dataset(args, description: Mapping) -> trainer.DatasetConfig:
  """The gin configuration's `infer_eval/trainer.DatasetConfig`, with flags."""
  import dataclasses

  import gin

  from pid_jax import trainer

  task = description['task']
  defaults = {
    'mixture_or_task_name': task['name'],
    'task_feature_lengths': task['feature_lengths'],
    'batch_size': 32,
    'shuffle': False,
    'seed': 42,
  }
  try:
    with gin.config_scope('infer_eval'):
      bound = gin.get_bindings(trainer.DatasetConfig)
  except ValueError:  # No gin file mentions it.
    bound = {}
  cfg = trainer.DatasetConfig(**{**defaults, **bound})
  changes = {'split': args.split, 'pack': False}
  if args.task:
    changes['mixture_or_task_name'] = args.task
  if args.num_examples:
    changes['num_examples'] = args.num_examples
  return dataclasses.replace(cfg, **changes)


def evaluate(
  model_dir: str,
  *,
  dataset_cfg: trainer.DatasetConfig,
  step: int | str | None = None,
  output_dir: str | None = None,
) -> tuple[dict[str, float], str]:
  """Computes a task's metrics for a trained model.

  Args:
    model_dir: of training.
    dataset_cfg: what to evaluate on; its task must be registered.
    step: see `checkpoints.load`.
    output_dir: where metrics.json and TASK.jsonl go; by default
      MODEL_DIR/evaluation/SPLIT-STEP.

  Returns:
    'TASK/METRIC' -> value, and the output directory.

  Raises:
    UserError: no such model, step, task or split.
  """
  import json

  from etils import epath

  from pid_jax import checkpoints
  from pid_jax import model as model_lib
  from pid_jax import network
  from pid_jax import partitioning
  from pid_jax.trainer import evaluation

  partitioner = partitioning.Partitioner()
  step = checkpoints.resolve_step(model_dir, step)
  if output_dir is None:
    folder = f'{dataset_cfg.split}-{step}'
    output_dir = epath.Path(model_dir) / 'evaluation' / folder
  output_dir = epath.Path(output_dir)
  pretrained = checkpoints.load(model_dir, step, partitioner)
  model = model_lib.EncoderDecoderModel(network.Transformer(pretrained.config))
  evaluator = evaluation.PredictionEvaluator(
    model,
    dataset_cfg,
    partitioner,
    loggers=[evaluation.PredictionsWriter],
    log_dir=os.fspath(output_dir),
  )
  values = evaluator.evaluate(pretrained.params, step)
  results = {'step': step, 'split': dataset_cfg.split, 'metrics': values}
  output_dir.mkdir(parents=True, exist_ok=True)
  (output_dir / 'metrics.json').write_text(json.dumps(results, indent=2) + '\n')
  return values, os.fspath(output_dir)


def table(values: Mapping[str, float]) -> str:
  """Lays metrics out in two columns."""
  width = max(map(len, values), default=0)
  return '\n'.join(f'{name:<{width}}  {x:.4f}' for name, x in values.items())


if __name__ == '__main__':
  cli.run(main, doc=__doc__, flags=add_flags, use_gin=True)
