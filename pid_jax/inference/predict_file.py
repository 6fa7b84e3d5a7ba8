# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers the prompts of a JSONL file in another one.

Mistakes in the input are found before anything is computed, and the output
appears only when it is complete. Until then results are in OUTPUT.parts, from
which the same command resumes, and through which many processes share the work,
on a file system that all of them see. subtasks.examples describes the input's
lines. An output line is
  {"id": "...", "inputs": "...", "subtasks": [{"name": "...", "prompt": "...",
                                               "prediction": "..."}, ...]}
with the "target" and "answers" of a subtask where the input has them (and
"answers_as_written", what predictions are compared with, where the vocabulary
writes these otherwise), a "score" (natural logarithm of the prediction's
probability) on request, and "inputs_truncated": true where the model could not
read all of an input.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import hashlib
import json
import math
from typing import Any

from etils import epath

import pid_jax
from pid_jax import checkpoints
from pid_jax import distributed
from pid_jax import files
from pid_jax import progress
from pid_jax import subtasks
from pid_jax.inference import model as model_lib
from pid_jax.inference import options as options_lib
from pid_jax.inference import partial_results as partial_results_lib
from pid_jax.inference import text as text_lib
from pid_jax.subtasks import postprocessors


def model_name(
  model: checkpoints.LazyCheckpoint, load_options: Mapping[str, Any]
) -> str:
  """Identifies a model, for `answer_file`.

  Args:
    model: the checkpoint.
    load_options: of `PromptInDecoder.from_pretrained`.
  """
  options = dict(load_options)
  vocabulary = options.pop('vocabulary', None)
  facts = [getattr(vocabulary, name, None) for name in ('sha256', 'extra_ids')]
  given = sorted((k, v) for k, v in options.items() if v is not None)
  return f'{model.path} {model.fingerprint()} {given} {vocabulary} {facts}'


def answer_file(
  load: Callable[[], model_lib.PromptInDecoder],
  input_file: epath.PathLike,
  output_file: epath.PathLike,
  options: options_lib.DecodingOptions | None = None,
  *,
  batch_size: int = 16,
  with_scores: bool = False,
  model_name: str = '',
) -> int:
  """Answers a file.

  Args:
    load: returns the model; called when the input has been read.
    input_file: JSONL; local, or gs://.
    output_file: JSONL, in a folder that exists; local, or gs://.
    options: of decoding; None: greedy. Without max_new_tokens, outputs are cut
      as in training, else at 32.
    batch_size: inputs that are decoded together, at most.
    with_scores: whether to write scores.
    model_name: identifies the model: partial results of another one are not
      used. See `model_name`.

  Returns:
    The number of lines written.

  Raises:
    UserError: a line of the input is wrong, the output cannot be written, or
      another run is writing it. There is no output then, or the one from
      before.
  """
  input_file = files.path(input_file, 'the input')
  output_file = files.check_output(output_file, [input_file])
  partial_results = partial_results_lib.PartialResults(output_file)
  examples = subtasks.read_examples(input_file, require_targets=False)
  options = options or options_lib.DecodingOptions()
  with partial_results:
    model = load()
    partial_results.open(
      {
        'model': model_name,
        'version': pid_jax.__version__,  # Batching may change between versions.
        'input': hashlib.sha256(json.dumps(examples).encode()).hexdigest(),
        'options': repr((options, batch_size)),
      }
    )
    responses = _answer(model, examples, options, batch_size, partial_results)
    as_written = postprocessors.rewriter(model.vocabulary, model.newline)
    lines = []
    for example, response in zip(examples, responses, strict=True):
      record = {'id': example['example_id'], 'inputs': example['inputs']}
      if response.truncated:
        record['inputs_truncated'] = True
      record['subtasks'] = list(
        _subtasks(example, response, with_scores, as_written)
      )
      lines.append(json.dumps(record, ensure_ascii=False) + '\n')
    if distributed.process_index() == 0:
      files.write(output_file, ''.join(lines).encode())
    partial_results.remove()
  return len(lines)


def _answer(
  model: model_lib.PromptInDecoder,
  examples: Sequence[dict[str, Any]],
  options: options_lib.DecodingOptions,
  batch_size: int,
  partial_results: partial_results_lib.PartialResults,
) -> list[text_lib.Response]:
  """Answers examples, which were checked when they were read."""
  prompts = [example['prompts'] for example in examples]
  with progress.Progress(
    sum(map(len, prompts)) // distributed.process_count(),
    label='predict',
    unit='prompt',
    enabled=distributed.process_index() == 0,
  ) as shown:
    return model.answer(
      [example['inputs'] for example in examples],
      prompts,
      options,
      choices=[example['choices'] for example in examples]
      if options.use_choices
      else None,
      batch_size=batch_size,
      progress=shown.update,
      partial_results=partial_results,
    )


def _subtasks(
  example: dict[str, Any],
  response: text_lib.Response,
  with_scores: bool,
  as_written: Callable[[str], str],
) -> Iterator[dict[str, Any]]:
  """Yields the subtasks of an output line."""
  for u, text in enumerate(response.outputs):
    subtask = {'name': example['subtasks'][u], 'prompt': example['prompts'][u]}
    target, answers = example['targets'][u], example['answers'][u]
    if target is not None:
      subtask['target'] = target
      golds = list(dict.fromkeys([target, *(answers or ())]))
      written = [as_written(gold) for gold in golds]
    if answers is not None:
      subtask['answers'] = answers
    if target is not None and written != golds:
      subtask['answers_as_written'] = written
    subtask['prediction'] = text
    if with_scores:
      score = response.scores[u]  # JSON has no infinity, nor what is no number.
      subtask['score'] = round(score, 6) if math.isfinite(score) else None
    yield subtask
