# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Evaluates a model and writes its metrics and predictions.

Examples:
  python -m pid_jax.evaluate --model_dir=/tmp/model
  python -m pid_jax.evaluate --model_dir=/tmp/model --input=test.jsonl
  python -m pid_jax.evaluate --model_dir=flan-t5-base --input=test.jsonl \
      --metrics=exact_match,rouge
  python -m pid_jax.evaluate --model_dir=/tmp/model --split=validation \
      --param_dtype=int8 --beam_size=4

Without --input, the task, its lengths and modules are those of
MODEL_DIR/config.gin, which training wrote (or config-STEP.gin, where it went on
with other settings); --gin_file and --gin.NAME=VALUE override them. The split
is `test`, or `validation` where the task has no test.
With --input, a JSONL file whose subtasks have targets, any model that `predict`
can use is evaluated, and needs no config.gin.
The mesh is not that of training: all devices share the batch, in groups of
--num_partitions. Predictions are made as `predict` makes them, with the same
flags. The results go to MODEL_DIR/evaluation/SPLIT-STEP (or FILE-STEP):
metrics.json and TASK.jsonl; of another task, fewer examples, a given layout,
int8 or other decoding to SPLIT-STEP-TASK, -first-N, -pie, -int8, -beam_size-4
and so on.
"""

import argparse
import dataclasses
from typing import Any

from etils import epath

from pid_jax import checks
from pid_jax import cli
from pid_jax import errors
from pid_jax import files
from pid_jax import flag_types
from pid_jax import gin_text

_TASK_FLAGS = ('split', 'task', 'num_examples', 'gin_file', 'gin_bindings')
_INPUT_FLAGS = ('metrics', 'empty_target', 'layout', 'long_inputs')


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of the command."""
  add = parser.add_argument
  cli.add_model_flags(parser)
  add(
    '--input',
    type=flag_types.path,
    metavar='FILE',
    help='JSONL to evaluate on, instead of a task',
  )
  add(
    '--metrics',
    type=flag_types.comma_separated('metric'),
    metavar='NAME,NAME',
    help='of --input; default: exact_match,example_exact_match,token_f1; also '
    'squad, rouge and others of pid_jax.subtasks.metrics',
  )
  add(
    '--empty_target',
    type=flag_types.name,
    metavar='WORD',
    help='the target of --input that means "nothing here", such as none',
  )
  add(
    '--split',
    type=flag_types.name,
    help='of the task; default: test, else validation',
  )
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
    help='inputs that are decoded together; default: as configured, else 16',
  )


def check(args: argparse.Namespace) -> None:
  """Finds what is missing, or does not go together, before the imports."""
  cli.check_model_flags(args)
  if args.output is not None:
    files.check_folder(args.output, '--output')
  others, needed = _INPUT_FLAGS, '--input'
  if args.input is not None:
    files.check_regular(args.input, '--input')
    others, needed = _TASK_FLAGS, 'a task, not with --input'
  for name in others:
    if getattr(args, name) not in (None, []):
      flag = '--gin.NAME' if name == 'gin_bindings' else f'--{name}'
      raise errors.UserError(f'{flag} goes with {needed}')
  if args.input is None and not files.is_remote(args.model_dir):
    config = _find_config(args)
    cli.check_gin(args, config, _bindings(args))


def _find_config(args: argparse.Namespace) -> list[str]:
  """Returns the path of the configuration that training here wrote last.

  Raises:
    UserError: nothing names a task.
  """
  folder = epath.Path(args.model_dir)
  is_native = (folder / 'checkpoints').exists()  # Else it is T5X's.
  config = gin_text.last_config(folder)
  if is_native and config is not None:
    return [str(config)]
  if not args.gin_file:
    raise errors.UserError(
      f'{args.model_dir} has no config.gin that names a task: give '
      '--input=FILE.jsonl, a file with targets, or --gin_file=FILE, which '
      'registers the task (see --help)'
    )
  return []


def _bindings(args: argparse.Namespace) -> list[str]:
  found = [f'NUM_PARTITIONS = {args.num_partitions}', 'NUM_FSDP = 1']
  if args.vocabulary is not None:  # Tasks of pid_jax.tasks, and JSON lines.
    found.append(f'VOCABULARY = {args.vocabulary!r}')
  return found


def main(args: argparse.Namespace) -> None:
  """Evaluates on a file, or on a task."""
  from pid_jax import checkpoints
  from pid_jax.inference import results

  options = cli.decoding_options(args)
  if args.input is not None:
    values, output = _on_file(args, options)
  else:
    opened = checkpoints.open_checkpoint(args.model_dir, args.step)
    values, output = _on_task(args, options, opened.task)
  cli.say(f'{results.table(values)}\nwritten to {output}')


def _on_file(args: argparse.Namespace, options: Any) -> Any:
  from pid_jax import inference
  from pid_jax.subtasks import metrics

  return inference.evaluate_file(
    args.model_dir,
    args.input,
    args.metrics or metrics.DEFAULT,
    step=args.step,
    output_dir=args.output,
    empty_target=args.empty_target,
    options=options,
    batch_size=args.batch_size or 16,
    **cli.load_options(args),
  )


def _on_task(
  args: argparse.Namespace, options: Any, trained: dict[str, Any]
) -> Any:
  """Reads the configuration of the training run and evaluates its model."""
  vocabulary = cli.vocabulary(args)
  cfg = _dataset_config(args, trained, vocabulary)
  from pid_jax import partitioning
  from pid_jax import trainer

  split = args.split
  if split is None:
    split = trainer.default_split(cfg.mixture_or_task_name)
    if split != 'test':
      cli.say(f'{cfg.mixture_or_task_name} has no test split: {split} is read')
  return trainer.evaluate(
    args.model_dir,
    dataclasses.replace(cfg, split=split),
    step=args.step,
    output_dir=args.output,
    partitioner=partitioning.Partitioner(
      **{
        'num_partitions': args.num_partitions,
        **cli.bindings(partitioning.Partitioner),
      }
    ),
    param_dtype=args.param_dtype,
    matmul_precision=args.matmul_precision,
    options=options,
    vocabulary=vocabulary,
  )


def _dataset_config(
  args: argparse.Namespace, trained: dict[str, Any], vocabulary: Any
) -> Any:
  """Returns what gin configures to evaluate on, changed by flags."""
  import gin

  from pid_jax import tasks

  args.gin_file[:0] = _find_config(args)
  cli.import_silently(['seqio'], args.verbose)
  from pid_jax import trainer

  if vocabulary is not None:
    tasks.use_vocabulary(vocabulary.path)
  cli.parse_gin(args, _bindings(args))
  bound = {'batch_size': 32, 'shuffle': False, 'seed': 42, 'pack': False}
  try:
    with gin.config_scope('infer_eval'):
      bound = cli.bindings(trainer.DatasetConfig) or bound
  except errors.UserError as e:
    message = str(e).splitlines()[0]
    raise errors.UserError(
      f'{message} (of {args.gin_file[0]}; --gin.NAME=VALUE gives another '
      'value, and --input=FILE.jsonl needs no configuration)'
    ) from e
  bound = {
    'mixture_or_task_name': trained.get('name'),
    'task_feature_lengths': trained.get('feature_lengths'),
    **bound,
  }
  changes = {
    'mixture_or_task_name': args.task,
    'num_examples': args.num_examples,
    'batch_size': args.batch_size,
  }
  bound |= {k: v for k, v in changes.items() if v is not None}
  if not bound['mixture_or_task_name']:
    raise errors.UserError(
      'nothing names the task to evaluate on: give --task=NAME'
    )
  return trainer.DatasetConfig(**bound)


if __name__ == '__main__':
  cli.run(main, __doc__, add_flags, use_gin=True, check=check, join=True)
