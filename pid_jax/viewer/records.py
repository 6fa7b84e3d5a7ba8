# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the predictions of `predict` and `evaluate` as whole examples.

`python -m pid_jax.predict` writes one line per example, with an object for each
subtask. `python -m pid_jax.evaluate` writes one line per row of the task's
layout: whole examples for NAME and NAME_joint, single subtasks for NAME_pie,
and strings for other SeqIO tasks, which have no subtasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
from typing import Any

from etils import epath

from pid_jax import checks
from pid_jax import errors
from pid_jax import strict_json
from pid_jax.subtasks import metrics
from pid_jax.subtasks import postprocessors

_WRITERS = (
  'that `python -m pid_jax.predict` or `python -m pid_jax.evaluate` writes'
)
# What reading a line of another form raises.
_INVALID = (AttributeError, KeyError, TypeError, ValueError)
_MAX_SUBTASKS = 10_000  # Of an example: more are a mistake.


@dataclasses.dataclass(frozen=True)
class Example:
  """An input with its U subtasks.

  Attributes:
    example_id: unique in its file.
    task: its name, '' if unknown.
    inputs: the text.
    names: [U], of the subtasks.
    prompts: [U]; '' where unknown.
    targets: [U]; None where unknown.
    alternatives: [U] further gold values.
    predictions: [U]; None where missing.
    scores: [U] natural logarithms of the predictions' probabilities, or None.
    is_truncated: whether the input was truncated.
  """

  example_id: str
  task: str
  inputs: str
  names: Sequence[str]
  prompts: Sequence[str]
  targets: Sequence[str | None]
  alternatives: Sequence[Sequence[str]]
  predictions: Sequence[str | None]
  scores: Sequence[float | None] | None = None
  is_truncated: bool = False

  def __post_init__(self):
    lists = (
      self.prompts,
      self.targets,
      self.alternatives,
      self.predictions,
      self.names if self.scores is None else self.scores,
    )
    if not self.names or {len(x) for x in lists} != {len(self.names)}:
      raise ValueError('the subtasks do not match')

  def golds(self, u: int) -> list[str]:
    """Returns all gold values of a subtask, the target first; [] if unknown."""
    if self.targets[u] is None:
      return []
    return [self.targets[u], *self.alternatives[u]]


def read(path: epath.PathLike, task: str = '') -> list[Example]:
  """Reads the predictions of a file, in order.

  Args:
    path: JSONL; local, or gs://.
    task: name of the evaluated task.

  Returns:
    At least one example.

  Raises:
    UserError: the file cannot be read, is empty, or a line has no predictions.
  """
  found, rows, outputs = [], [], []
  for number, where, record in strict_json.read_lines(path, 'the predictions'):
    if not isinstance(record, dict):
      raise errors.UserError(f'{where}: must be a JSON object')
    try:
      if 'prediction' not in record:
        found.append(_from_predict(record, task, number, where))
      elif 'num_subtasks' in record:
        rows.append(_row(record, where))
        outputs.append(_text(record['prediction']))
      elif 'subtasks' in record:
        found.append(_from_example(record, record['prediction'], task, where))
      else:
        found.append(_from_text(record, task, number))
    except errors.UserError:
      raise
    except _INVALID as e:
      raise errors.UserError(f'{where}: not a line {_WRITERS}') from e
  if rows:
    try:
      for target, prediction in zip(
        *postprocessors.group_by_example(rows, outputs), strict=True
      ):
        found.append(_from_example(target, prediction, task, str(path)))
    except errors.UserError as e:
      raise errors.UserError(f'{path}: {e}') from e
    except _INVALID as e:
      raise errors.UserError(f'{path} has no lines {_WRITERS}') from e
  if not found:
    raise errors.UserError(f'{path} is empty: there is nothing to show')
  return found


def _from_predict(
  record: Mapping[str, Any], task: str, number: int, where: str
) -> Example:
  """Reads a line of inference/predict_file.py."""
  subtasks = record['subtasks']
  for subtask in subtasks:
    if 'prediction' not in subtask:
      raise errors.UserError(
        f'{where}: the subtask {checks.shown(subtask["name"])} has no '
        '"prediction"; pass the --output of `python -m pid_jax.predict`'
      )
  golds = [_golds(subtask) for subtask in subtasks]
  scores = [_number_or_none(subtask.get('score')) for subtask in subtasks]
  return Example(
    example_id=_id(record.get('id', number)),
    task=task,
    inputs=_text(record['inputs']),
    names=[_text(subtask['name']) for subtask in subtasks],
    prompts=[_text(subtask.get('prompt', '')) for subtask in subtasks],
    targets=[texts[0] if texts else None for texts in golds],
    alternatives=[texts[1:] for texts in golds],
    predictions=[_text_or_none(subtask['prediction']) for subtask in subtasks],
    scores=None if scores.count(None) == len(scores) else scores,
    is_truncated=bool(record.get('inputs_truncated', False)),
  )


def _from_example(
  target: Mapping[str, Any],
  prediction: Sequence[str | None],
  task: str,
  where: str,
) -> Example:
  """Reads a target and a prediction of subtasks/postprocessors.py."""
  if not isinstance(prediction, list):
    raise TypeError('the prediction is no list')
  (prediction,), _ = postprocessors.align([target], [prediction])
  blank = [''] * len(target['targets'])
  has_groups = 'pairs' in target
  alternatives = []
  for text, gold, answers, pairs in zip(
    prediction,
    target['targets'],
    target.get('answers') or blank,
    target.get('pairs') or blank,
    strict=True,
  ):
    values = _texts(_parsed(answers, where))
    # A group of slots is right in any order, and with alternative values.
    if has_groups and metrics.is_right_group(
      gold, _texts(_parsed(pairs, where)), text
    ):
      values.append(text)
    alternatives.append(values)
  return Example(
    example_id=_text(target['example_id']),
    task=task,
    inputs=_text(target.get('inputs') or ''),
    names=[_text(name) for name in target['subtasks']],
    prompts=[_text(prompt) for prompt in target.get('prompts') or blank],
    targets=[_text(text) for text in target['targets']],
    alternatives=alternatives,
    predictions=[_text_or_none(text) for text in prediction],
  )


def _from_text(record: Mapping[str, Any], task: str, number: int) -> Example:
  """Reads a row of a task without subtasks, as a single subtask."""
  return Example(
    example_id=str(number),
    task=task,
    inputs=_text(record.get('inputs') or ''),
    names=[task or 'output'],
    prompts=[''],
    targets=[_text_or_none(record.get('target'))],
    alternatives=[[]],
    predictions=[_text_or_none(record['prediction'])],
  )


def _row(record: Mapping[str, Any], where: str) -> Mapping[str, Any]:
  """Checks a row of NAME_pie."""
  for key in ('example_id', 'subtask', 'target'):
    _text(record[key])
  size = checks.integer(
    f'{where}: "num_subtasks"', record['num_subtasks'], 1, _MAX_SUBTASKS
  )
  checks.integer(f'{where}: "index"', record['index'], 0, size - 1)
  return record


def _golds(subtask: Mapping[str, Any]) -> list[str]:
  """Returns the gold answers of a subtask of `predict`, the target first."""
  if subtask.get('target') is None:
    return []
  texts = _texts(subtask.get('answers_as_written'))
  if not texts:
    texts = [_text(subtask['target']), *_texts(subtask.get('answers'))]
  return list(dict.fromkeys(texts))


def _id(value: Any) -> str:
  if isinstance(value, bool) or not isinstance(value, str | int):
    raise TypeError(f'not an id: {value!r}')
  return str(value)


def _text(value: Any) -> str:
  if not isinstance(value, str):
    raise TypeError(f'not a string: {value!r}')
  return value


def _text_or_none(value: Any) -> str | None:
  return None if value is None else _text(value)


def _number_or_none(value: Any) -> float | None:
  if not isinstance(value, int | float | None) or isinstance(value, bool):
    raise TypeError(f'not a number: {value!r}')
  return value


def _texts(values: Any) -> list[str]:
  if not isinstance(values, list | None):
    raise TypeError(f'not a list: {values!r}')
  return [_text(value) for value in values or ()]


def _parsed(content: Any, where: str) -> Any:
  """Parses a feature that is a JSON list, or empty."""
  return strict_json.parse(_text(content), where) if content else None
