# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model after its training, on a registered task."""

import dataclasses
import os

from etils import epath
import jax
import seqio

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import partitioning
from pid_jax import progress as progress_lib
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.inference import options as options_lib
from pid_jax.inference import results
from pid_jax.trainer import data
from pid_jax.trainer import evaluation
from pid_jax.trainer import io_errors
from pid_jax.trainer import reporting
from pid_jax.trainer import setup


def default_split(task_name: str) -> str:
  """Returns 'test' if a task has such a split, else 'validation'.

  Raises:
    UserError: there is no such task, or it has neither.
  """
  subtasks = seqio.get_subtasks(data.get_task(task_name))
  splits = {split for task in subtasks for split in task.splits}
  for split in ('test', 'validation'):
    if split in splits:
      return split
  raise errors.UserError(
    f'{task_name} has neither a test nor a validation split: name a file of '
    'labelled examples (--input=FILE), or one of its splits (--split): '
    f'{", ".join(sorted(splits))}'
  )


def evaluate(
  model_dir: epath.PathLike,
  dataset_cfg: data.DatasetConfig,
  *,
  step: int | str | None = None,
  output_dir: epath.PathLike | None = None,
  partitioner: partitioning.Partitioner | None = None,
  param_dtype: str = 'float32',
  matmul_precision: str | None = None,
  options: options_lib.DecodingOptions | None = None,
  quiet: bool = False,
  vocabulary: vocabulary_lib.AnyVocabulary | None = None,
) -> tuple[dict[str, float], str]:
  """Computes a task's metrics for a trained model.

  Args:
    model_dir: of training.
    dataset_cfg: what to evaluate on; its task must be registered.
    step: see `checkpoints.load`.
    output_dir: receives metrics.json and, for each task, TASK.jsonl with a line
      per example; by default MODEL_DIR/evaluation/SPLIT-STEP, with a suffix for
      what is not the default: the name of another task than that of the
      training, 'first-N' where not all examples are read, `param_dtype`, and
      options.
    partitioner: the mesh; all devices on the data axis by default.
    param_dtype: of the weights, see `network.quantization`.
    matmul_precision: of products of float32 numbers, see `network.precision`;
      None: as in training.
    options: of decoding, as in `PromptInDecoder.generate`; max_new_tokens None:
      the task's length of targets. None: greedy.
    quiet: show neither what is read nor progress.
    vocabulary: of a checkpoint without one; see `checkpoints.load`.

  Returns:
    'TASK/METRIC' -> value, and the output directory.

  Raises:
    UserError: no such model, step, task, split or param_dtype; a task whose
      vocabulary is not that of the model; the results cannot be written.
  """
  options = options or options_lib.DecodingOptions()
  partitioner = partitioner or partitioning.Partitioner()
  task, split = dataset_cfg.mixture_or_task_name, dataset_cfg.split
  data.check_split(data.get_task(task), split)
  opened = checkpoints.open_checkpoint(model_dir, step)
  step = opened.step
  vocabulary = checkpoints.choose_vocabulary(opened, vocabulary)
  setup.check_task_vocabulary(vocabulary, task)
  opened = dataclasses.replace(opened, read_vocabulary=lambda: vocabulary)
  if matmul_precision is not None:
    opened = opened.configured(matmul_precision=matmul_precision)
  if output_dir is None:
    parts = [split, str(step)]
    if task != opened.task.get('name', task):
      parts.append(task)
    if dataset_cfg.num_examples is not None:
      parts.append(f'first-{dataset_cfg.num_examples}')
    output_dir = results.output_folder(
      model_dir, parts, param_dtype, options, matmul_precision
    )
  output_dir = results.check_folder(output_dir)
  pretrained = checkpoints.load_for_inference(
    opened, None, partitioner, param_dtype=param_dtype
  )
  with io_errors.reads_explained('the data to evaluate on'):
    evaluator = evaluation.PredictionEvaluator(
      model_lib.EncoderDecoderModel(network.Transformer(pretrained.config)),
      dataset_cfg,
      partitioner,
      loggers=[evaluation.PredictionsWriter],
      log_dir=os.fspath(output_dir),
      options=options,
    )
  reporting.warn_of_truncated(evaluator.truncated)
  if not quiet:
    reporting.logger.info(
      '%s: step %d; the %s split of %s, %s prompts',
      *(model_dir, step, split, task, f'{evaluator.num_prompts:,}'),
    )
  with progress_lib.Progress(
    evaluator.num_prompts,
    label='evaluate',
    unit='prompt',
    enabled=jax.process_index() == 0 and not quiet,
  ) as progress:
    evaluator.progress = progress.update
    values = evaluator.evaluate(pretrained.params, step)
  if jax.process_index() == 0:
    results.write(
      output_dir,
      values,
      step=step,
      split=split,
      task=task,
      num_examples=dataset_cfg.num_examples,  # None: all.
      param_dtype=param_dtype,
      options=options,
    )
  return values, os.fspath(output_dir)
