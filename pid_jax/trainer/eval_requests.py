# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A task's evaluation examples as requests for the engine, and back.

seqio.Evaluator keeps an evaluation's examples as padded features of the model:
an array of prompts [U, P] for PiD, and no prompts for text-to-text tasks (PiE
and joint). The engine takes requests of ids, and batches them by length;
SeqIO's metrics take a prediction for each example, in order and in the shape of
its features. This module converts in both directions. Examples are read once,
for all evaluations.
"""

from collections.abc import Sequence
import dataclasses
import functools

import numpy as np
import seqio
import tensorflow as tf

from pid_jax import errors
from pid_jax import model as model_lib
from pid_jax import strict_json
from pid_jax.inference import arguments
from pid_jax.inference import batching
from pid_jax.inference import text
from pid_jax.subtasks import examples as examples_lib
from pid_jax.subtasks import tf_devices

tf_devices.hide_gpus()

_BATCH = 256  # Examples that are read together.


@dataclasses.dataclass(frozen=True)
class EvalRequests:
  """The examples of a task, in order.

  Attributes:
    requests: one for each example, without targets. Its prompts are those of
      the example that are not padding; one empty prompt for text-to-text.
    targets: for each example its targets, one for each prompt of the request.
    rows: for each example the indices of the request's prompts among the padded
      ones, int array.
    num_prompts: U, padded prompts of an example; None for text-to-text.
    target_length: T, where targets are cut, EOS included.
    truncated: 'inputs_truncated' and 'targets_truncated' -> how many do not fit
      the lengths, where the task tells.
  """

  requests: list[batching.TokenRequest]
  targets: list[list[Sequence[int]]]
  rows: list[np.ndarray]
  num_prompts: int | None
  target_length: int
  truncated: dict[str, int]

  @functools.cached_property
  def to_score(self) -> list[batching.TokenRequest]:
    """The requests with their targets, for `Engine.score`."""
    return [
      dataclasses.replace(
        request, targets=[[target] for target in targets], choices=()
      )
      for request, targets in zip(self.requests, self.targets, strict=True)
    ]

  def restore(self, values: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Gives results the shape of the examples' features.

    Args:
      values: for each example an array, one entry for each prompt of its
        request.

    Returns:
      For each example an array [U, ...], 0 where a prompt is padding; or [...]
      where the task is text-to-text.
    """
    if self.num_prompts is None:
      return [array[0] for array in values]
    restored = []
    for rows, array in zip(self.rows, values, strict=True):
      padded = np.zeros((self.num_prompts, *array.shape[1:]), array.dtype)
      padded[rows] = array
      restored.append(padded)
    return restored


def read(
  task: seqio.Task,
  model_dataset: tf.data.Dataset,
  task_dataset: tf.data.Dataset,
  max_new_tokens: int | None = None,
  *,
  use_choices: bool = True,
) -> EvalRequests:
  """Reads all examples of a task.

  Args:
    task: the task; if one of `subtasks.register`, its examples may say what
      outputs are to be chosen from.
    model_dataset: of `seqio.Evaluator.cached_model_datasets`: (index,
      features), with int32 `encoder_input_tokens` [S], `decoder_target_tokens`
      [U, T] or [T], and of a task with prompts `decoder_prompt_tokens` [U, P],
      all padded with 0.
    task_dataset: of `seqio.Evaluator.cached_task_datasets`, the same examples.
    max_new_tokens: where outputs are cut; None: as targets are.
    use_choices: False ignores the choices of the examples.

  Raises:
    UserError: a string to choose from is too long, or the vocabulary cannot
      write it.
  """
  requests, targets, rows = [], [], []
  known: dict[bytes, np.ndarray] = {}  # Most prompts are asked again and again.
  _, features = model_dataset.element_spec
  has_prompts = 'decoder_prompt_tokens' in features
  *num_prompts, target_length = features['decoder_target_tokens'].shape
  truncated = {
    name: 0 for name in features if name.endswith(model_lib.TRUNCATED)
  }
  for _, batch in model_dataset.batch(_BATCH).as_numpy_iterator():
    for name in truncated:
      truncated[name] += int(batch[name].sum())
    inputs = _unpadded(batch['encoder_input_tokens'])
    for i, ids in enumerate(inputs):
      target_rows = batch['decoder_target_tokens'][i]
      if has_prompts:
        padded = batch['decoder_prompt_tokens'][i]
        present = np.flatnonzero(padded.any(axis=-1))
        prompts = [
          known.setdefault(prompt.tobytes(), prompt)
          for prompt in _unpadded(padded[present])
        ]
      else:
        target_rows, present, prompts = target_rows[None], np.arange(1), [()]
      # Empty inputs and targets stand for themselves as one padding token.
      requests.append(batching.TokenRequest(ids if len(ids) else (0,), prompts))
      target_rows = _unpadded(target_rows[present])
      targets.append([x if len(x) else (0,) for x in target_rows])
      rows.append(present)
  choices = None
  if use_choices:
    choices = _choices(task, task_dataset, max_new_tokens or target_length)
  if choices is not None:
    requests = [
      dataclasses.replace(request, choices=[strings[u] for u in present])
      for request, present, strings in zip(requests, rows, choices, strict=True)
    ]
  return EvalRequests(
    requests,
    targets,
    rows,
    num_prompts[0] if has_prompts else None,
    target_length,
    truncated,
  )


def _choices(
  task: seqio.Task, dataset: tf.data.Dataset, max_new_tokens: int
) -> list[list[batching.TokenSequences | None]] | None:
  """Reads and tokenises the strings that outputs are to be chosen from.

  Returns:
    For each example and subtask their ids, or None: any output. None where the
    task says nothing of them.
  """
  layout = getattr(task, 'layout', None)
  if layout is None or layout.name == 'joint':  # All targets are one.
    return None
  if examples_lib.CHOICES not in dataset.element_spec:
    return None
  pick = lambda example: example[examples_lib.CHOICES]
  column = dataset.map(tf.autograph.experimental.do_not_convert(pick))
  tokenizer = text.Tokenizer(
    task.output_features['targets'].vocabulary, layout.newline
  )
  known: dict[bytes, batching.TokenSequences | None] = {b'': None}

  def encode(content: bytes) -> batching.TokenSequences | None:
    if content not in known:
      name = f'choices of the task {task.name}'
      try:
        strings = arguments.strings(name, strict_json.parse(content, name))
        known[content] = tokenizer.encode_choices(strings, name, max_new_tokens)
      except errors.UserError as e:
        raise errors.UserError(
          f"{e} (In evaluations during training, max_new_tokens is 'targets' "
          'of TASK_FEATURE_LENGTHS.)'
        ) from e
    return known[content]

  # An example with prompts has those of all its subtasks, a text those of one.
  values = map(np.atleast_1d, column.as_numpy_iterator())
  return [[encode(content) for content in x.tolist()] for x in values]


def _unpadded(rows: np.ndarray) -> list[np.ndarray]:
  """Cuts the padding off: [n, T], padded with 0 -> n arrays."""
  is_token = rows != 0
  from_end = np.argmax(is_token[:, ::-1], axis=1)
  lengths = np.where(is_token.any(axis=1), rows.shape[1] - from_end, 0)
  # Copied, so that the padding is freed.
  return [x[:length].copy() for x, length in zip(rows, lengths, strict=True)]
