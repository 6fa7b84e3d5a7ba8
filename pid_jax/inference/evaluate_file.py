# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Evaluates a model on a labelled JSONL file; needs no task and no SeqIO.

For any model that `predict` can use: of Hugging Face's or T5X's formats, or
trained from Python. The file is answered as `predict` answers it, and metrics
are computed on what was written, so that they are those of the file.
"""

from collections.abc import Sequence
import functools
import logging
from typing import Any

from etils import epath

from pid_jax import checkpoints
from pid_jax import checks
from pid_jax import distributed
from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax import subtasks
from pid_jax.inference import model as model_lib
from pid_jax.inference import options as options_lib
from pid_jax.inference import predict_file
from pid_jax.inference import results
from pid_jax.subtasks import metrics as metrics_lib
from pid_jax.subtasks import postprocessors

logger = logging.getLogger(__name__)


def evaluate_file(
  model_dir: epath.PathLike,
  input_file: epath.PathLike,
  metrics: Sequence[str] = metrics_lib.DEFAULT,
  *,
  step: int | str | None = None,
  output_dir: epath.PathLike | None = None,
  empty_target: str | None = None,
  options: options_lib.DecodingOptions | None = None,
  batch_size: int = 16,
  **load_options: Any,
) -> tuple[dict[str, float], str]:
  """Computes metrics of a model on a file.

  Args:
    model_dir: of training, or a folder of Hugging Face's or T5X's; local, or
      gs://.
    input_file: JSONL whose subtasks have targets, see `subtasks.examples`;
      local, or gs://.
    metrics: keys of `subtasks.metrics.names`.
    step: see `checkpoints.load`.
    output_dir: receives metrics.json and FILE.jsonl, of the form of `predict`;
      by default MODEL_DIR/evaluation/FILE-STEP, with a suffix for what is not
      the default.
    empty_target: the target that means "nothing here", such as 'none'.
    options: of decoding; None: greedy.
    batch_size: inputs that are decoded together, at most.
    **load_options: of `PromptInDecoder.from_pretrained`, such as `param_dtype`.

  Returns:
    'FILE/METRIC' -> value, and the output directory. Of several processes the
    first one has the values, the others an empty dictionary.

  Raises:
    UserError: an unknown metric, a line of the file without target or
      otherwise wrong, no such model, or the results cannot be written.
  """
  names = [metrics] if isinstance(metrics, str) else list(metrics)
  for name in names:
    metrics_lib.by_name(name, empty_target)
  if not names or len(set(names)) < len(names):
    raise errors.UserError('give at least one metric, and none twice')
  options = options or options_lib.DecodingOptions()
  input_file = files.check_regular(input_file, 'the file to evaluate on')
  num_examples = len(subtasks.read_examples(input_file))
  model = checkpoints.open_checkpoint(model_dir, step)
  param_dtype = load_options.get('param_dtype', 'float32')
  name = input_file.name.removesuffix('.jsonl')
  if output_dir is None:
    parts = [name, str(model.step)]
    given = map(load_options.get, ('layout', 'long_inputs'))
    parts += [checks.string('an option', x) for x in given if x is not None]
    output_dir = results.output_folder(
      model_dir,
      parts,
      param_dtype,
      options,
      load_options.get('matmul_precision'),
    )
  output_dir = results.check_folder(output_dir)
  if not distributed.process_index():
    logger.info(
      '%s: step %d; %s, %s inputs',
      *(model_dir, model.step, input_file, f'{num_examples:,}'),
    )
  results.make_folder(output_dir)
  answers = output_dir / f'{name}.jsonl'

  @functools.cache
  def load() -> model_lib.PromptInDecoder:
    return model_lib.PromptInDecoder.from_pretrained(model, **load_options)

  predict_file.answer_file(
    load,
    input_file,
    answers,
    options,
    batch_size=batch_size,
    model_name=predict_file.model_name(model, load_options),
  )
  if distributed.process_index():
    return {}, str(output_dir)
  lines = [
    record for _, _, record in strict_json.read_lines(answers, 'the answers')
  ]
  if empty_target is not None:  # As metrics see it in targets and outputs.
    empty_target = postprocessors.as_written(
      empty_target, load().vocabulary, load().newline
    )
  targets = [_target(line) for line in lines]
  results.warn_of_rewritten(
    name,
    [
      (subtask['target'], written)
      for line, target in zip(lines, targets, strict=True)
      for subtask, written in zip(
        line['subtasks'], target['targets'], strict=True
      )
    ],
  )
  figures = postprocessors.combine_metrics(
    [metrics_lib.by_name(metric, empty_target) for metric in names]
  )(targets, [[s['prediction'] for s in line['subtasks']] for line in lines])
  values = {f'{name}/{metric}': float(x) for metric, x in figures.items()}
  results.write(
    output_dir,
    values,
    step=model.step,
    split=input_file.name,
    task=name,
    num_examples=num_examples,
    param_dtype=param_dtype,
    options=options,
  )
  return values, str(output_dir)


def _target(line: dict[str, Any]) -> dict[str, Any]:
  """Returns what metrics compare the predictions of a line with."""
  golds = [
    subtask.get('answers_as_written')
    or [subtask['target'], *subtask.get('answers', ())]
    for subtask in line['subtasks']
  ]
  return {
    'example_id': line['id'],
    'inputs': line['inputs'],
    'prompts': [subtask['prompt'] for subtask in line['subtasks']],
    'subtasks': [subtask['name'] for subtask in line['subtasks']],
    'targets': [texts[0] for texts in golds],
    'answers': [metrics_lib.join_alternatives(texts) for texts in golds],
  }
