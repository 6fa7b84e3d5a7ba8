# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model after its training."""

from collections.abc import Mapping
import json
import os
import re

from etils import epath
import jax

from pid_jax import checkpoints
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax import partitioning
from pid_jax.inference import options as options_lib
from pid_jax.trainer import data
from pid_jax.trainer import evaluation
from pid_jax.trainer import io_errors
from pid_jax.trainer import reporting


def evaluate(
  model_dir: epath.PathLike,
  dataset_cfg: data.DatasetConfig,
  *,
  step: int | str | None = None,
  output_dir: epath.PathLike | None = None,
  partitioner: partitioning.Partitioner | None = None,
  param_dtype: str = 'float32',
  options: options_lib.DecodingOptions | None = None,
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
    options: of decoding, as in `PromptInDecoder.generate`; max_new_tokens None:
      the task's length of targets. None: greedy.

  Returns:
    'TASK/METRIC' -> value, and the output directory.

  Raises:
    UserError: no such model, step, task, split or param_dtype; a full disk.
  """
  options = options or options_lib.DecodingOptions()
  partitioner = partitioner or partitioning.Partitioner()
  pretrained = checkpoints.load_for_inference(
    model_dir, step, partitioner, param_dtype=param_dtype
  )
  step = pretrained.step
  task = dataset_cfg.mixture_or_task_name
  if output_dir is None:
    parts = [dataset_cfg.split, str(step)]
    if task != pretrained.task.get('name', task):
      parts.append(task)
    if dataset_cfg.num_examples is not None:
      parts.append(f'first-{dataset_cfg.num_examples}')
    if param_dtype != 'float32':
      parts.append(param_dtype)
    parts += [_file_name(f'{k}-{v}') for k, v in options.changed().items()]
    output_dir = epath.Path(model_dir) / 'evaluation' / '-'.join(parts)
  output_dir = epath.Path(output_dir)
  evaluator = evaluation.PredictionEvaluator(
    model_lib.EncoderDecoderModel(network.Transformer(pretrained.config)),
    dataset_cfg,
    partitioner,
    loggers=[evaluation.PredictionsWriter],
    log_dir=os.fspath(output_dir),
    options=options,
  )
  reporting.warn_of_truncated(evaluator.truncated)
  with io_errors.faults_explained(output_dir):
    values = evaluator.evaluate(pretrained.params, step)
    results = {
      'step': step,
      'split': dataset_cfg.split,
      'task': task,
      'num_examples': dataset_cfg.num_examples,  # None: all.
      'param_dtype': param_dtype,
      'decoding': {k: str(v) for k, v in options.changed().items()},
      'metrics': values,
    }
    if jax.process_index() == 0:
      output_dir.mkdir(parents=True, exist_ok=True)
      text = json.dumps(results, indent=2) + '\n'
      (output_dir / 'metrics.json').write_text(text)
  return values, os.fspath(output_dir)


def _file_name(text: str) -> str:
  """Writes a value of an option so that it can be part of a file's name."""
  return re.sub(r'[^\w.]+', '-', text).strip('-')


def table(values: Mapping[str, float]) -> str:
  """Formats metrics in two columns."""
  width = max(map(len, values), default=0)
  # Counts are integers.
  shown = (
    (k, f'{x:.{0 if x.is_integer() else 4}f}') for k, x in values.items()
  )
  return '\n'.join(f'{name:<{width}}  {x}' for name, x in shown)
