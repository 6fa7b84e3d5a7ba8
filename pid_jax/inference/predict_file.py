# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers the prompts of a JSONL file in another one.

Mistakes in the input are found before anything is computed, and the output
appears only when it is complete. Until then results are in OUTPUT.parts: the
same command goes on with them, and many processes share the work there, on a
file system that all of them see. subtasks.examples describes the input's lines.
An output line is
  {"id": "...", "inputs": "...", "subtasks": [{"name": "...", "prompt": "...",
                                               "prediction": "..."}, ...]}
with the "target" of a subtask where the input has one, a "score" (natural
logarithm of the prediction's probability) on request, and "inputs_truncated":
true where the model could not read all of an input.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import hashlib
import json
from typing import Any

from etils import epath

import pid_jax
from pid_jax import atomic
from pid_jax import distributed
from pid_jax import progress
from pid_jax import subtasks
from pid_jax.inference import model
from pid_jax.inference import partial_results as parts_lib


def answer_file(
  load: Callable[[], model.PromptInDecoder],
  input_file: epath.PathLike,
  output_file: epath.PathLike,
  *,
  max_new_tokens: int | None = None,
  with_scores: bool = False,
  model_name: str = '',
  **options: Any,
) -> int:
  """Answers a file.

  Args:
    load: returns the model; called when the input has been read.
    input_file: JSONL; local, or gs://.
    output_file: JSONL, in a folder that exists; local, or gs://.
    max_new_tokens: where outputs are cut; None: as in training, else at 32.
    with_scores: whether to write scores.
    model_name: which model it is, of all there are; results of another one are
      not gone on with.
    **options: of PromptInDecoder.generate.

  Returns:
    The number of lines written.

  Raises:
    UserError: a line of the input is wrong, or the output cannot be written.
      There is no output then, or the one from before.
  """
  examples = subtasks.read_examples(input_file, require_targets=False)
  atomic.check(output_file)
  model = load()
  if max_new_tokens is None:
    max_new_tokens = model.task.get('feature_lengths', {}).get('targets', 32)
  prompts = [example['prompts'] for example in examples]
  output_file = epath.Path(output_file)
  parts = parts_lib.Parts(
    output_file.with_name(output_file.name + '.parts'),
    {
      'model': model_name,
      'version': pid_jax.__version__,  # Of which the batches are.
      'input': hashlib.sha256(json.dumps(examples).encode()).hexdigest(),
      'options': repr([max_new_tokens, *sorted(options.items())]),
    },
  )
  with progress.Progress(
    sum(map(len, prompts)) // distributed.process_count(),
    label='predict',
    unit='prompt',
    enabled=distributed.process_index() == 0,
  ) as shown:
    outputs, scores = model.generate(
      [example['inputs'] for example in examples],
      prompts,
      max_new_tokens,
      choices=[example['choices'] for example in examples],
      return_scores=True,
      progress=shown.update,
      parts=parts,
      **options,
    )
  lines = []
  for example, texts, values in zip(examples, outputs, scores, strict=True):
    record = {'id': example['example_id'], 'inputs': example['inputs']}
    if model.is_cut(example['inputs'], example['prompts']):
      record['inputs_truncated'] = True
    record['subtasks'] = list(_subtasks(example, texts, values, with_scores))
    lines.append(json.dumps(record, ensure_ascii=False) + '\n')
  if distributed.process_index() == 0:
    atomic.write(output_file, ''.join(lines).encode())
  parts.remove()
  return len(lines)


def _subtasks(
  example: dict[str, Any],
  texts: Sequence[str],
  scores: Sequence[float],
  with_scores: bool,
) -> Iterator[dict[str, Any]]:
  """Yields the subtasks of an output line."""
  for u, text in enumerate(texts):
    subtask = {'name': example['subtasks'][u], 'prompt': example['prompts'][u]}
    if example['targets'][u] is not None:
      subtask['target'] = example['targets'][u]
    subtask['prediction'] = text
    if with_scores:
      subtask['score'] = round(scores[u], 6)
    yield subtask
