# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads predictions, whoever wrote them, as whole examples.

`python -m pid_jax.predict` writes a line per example, with an object for each
subtask. `python -m pid_jax.evaluate` writes a line per row of the task's
layout: whole examples for NAME and NAME_joint, single subtasks for NAME_pie,
and bare strings for a task of SeqIO's that knows no subtasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import json
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax.subtasks import examples
from pid_jax.subtasks import postprocessors
from pid_jax.subtasks import slot_strings


@dataclasses.dataclass(frozen=True)
class Example:
  """An input with its U subtasks.

  Attributes:
    example_id: unique in its file.
    task: that it belongs to, '' if that is not known.
    inputs: the text.
    names: [U].
    prompts: [U]; '' where it is not known.
    targets: [U]; None where it is not known.
    alternatives: [U] further right values.
    predictions: [U]; None where there is none.
    scores: [U] natural logarithms of the predictions' probabilities, or None.
    is_truncated: the model could not read all of the input.
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

  def golds(self, u: int) -> list[str]:
    """All right values of a subtask, its target first; [] if unknown."""
    if self.targets[u] is None:
      return []
    return [self.targets[u], *self.alternatives[u]]


def read(path: epath.PathLike, task: str = '') -> list[Example]:
  """Reads the predictions of a file, in its order.

  Args:
    path: JSONL; local, or gs://.
    task: the name of what was evaluated.

  Returns:
    At least one example.

  Raises:
    UserError: the file cannot be read, is empty, or a line has no predictions.
  """
  found, rows, outputs = [], [], []
  for number, where, record in examples.iterate_lines(path):
    if not isinstance(record, dict):
      raise errors.UserError(f'{where}: must be a JSON object')
    try:
      if 'prediction' not in record:
        found.append(_of_predict(record, task, number, where))
      elif 'num_subtasks' in record:
        rows.append(record)
        outputs.append(_text(record['prediction']))
      elif 'subtasks' in record:
        found.append(_whole(record, record['prediction'], task))
      else:
        found.append(_text_to_text(record, task, number))
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      if isinstance(e, errors.UserError):
        raise
      raise _not_ours(where) from e
  if rows:
    try:
      for target, prediction in zip(
        *postprocessors.regroup(rows, outputs), strict=True
      ):
        found.append(_whole(target, prediction, task))
    except (AttributeError, KeyError, TypeError, ValueError) as e:
      raise errors.UserError(f'{path}: {e}') from e
  if not found:
    raise errors.UserError(f'{path} is empty: there is nothing to show')
  return found


def _of_predict(
  record: Mapping[str, Any], task: str, number: int, where: str
) -> Example:
  """A line of inference/files.py."""
  subtasks = record['subtasks']
  for subtask in subtasks:
    if 'prediction' not in subtask:
      raise errors.UserError(
        f'{where}: the subtask {subtask["name"]!r} has no "prediction"; give '
        'the file that `python -m pid_jax.predict` wrote, its --output'
      )
  scores = [subtask.get('score') for subtask in subtasks]
  return Example(
    example_id=str(record.get('id', number)),
    task=task,
    inputs=_text(record['inputs']),
    names=[_text(subtask['name']) for subtask in subtasks],
    prompts=[_text(subtask.get('prompt', '')) for subtask in subtasks],
    targets=[_text_or_none(subtask.get('target')) for subtask in subtasks],
    alternatives=[[]] * len(subtasks),
    predictions=[_text_or_none(subtask['prediction']) for subtask in subtasks],
    scores=None if scores.count(None) == len(scores) else scores,
    is_truncated=bool(record.get('inputs_truncated', False)),
  )


def _whole(
  target: Mapping[str, Any], prediction: Sequence[str | None], task: str
) -> Example:
  """A target and a prediction in the form of subtasks/wholes.py."""
  if isinstance(prediction, str):
    raise ValueError('a string')
  size = len(target['targets'])
  (target,), (prediction,), _ = postprocessors.align([target], [prediction])
  nothing = [''] * size
  answers = target.get('answers') or nothing
  pairs = target.get('pairs') or nothing
  alternatives = []
  for u in range(size):
    values = json.loads(answers[u]) if answers[u] else []
    # Of a group of slots, the order is free and values have alternatives.
    if pairs[u] and _is_right_group(
      target['targets'][u], json.loads(pairs[u]), prediction[u]
    ):
      values.append(prediction[u])
    alternatives.append(values)
  return Example(
    example_id=_text(target['example_id']),
    task=task,
    inputs=_text(target.get('inputs') or ''),
    names=[_text(name) for name in target['subtasks']],
    prompts=[_text(prompt) for prompt in target.get('prompts') or nothing],
    targets=[_text(text) for text in target['targets']],
    alternatives=alternatives,
    predictions=[_text_or_none(text) for text in prediction],
  )


def _text_to_text(record: Mapping[str, Any], task: str, number: int) -> Example:
  """A row of a task that knows no subtasks: it is its own only one."""
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


def _is_right_group(
  target: str, pairs: Sequence[str], prediction: str | None
) -> bool:
  """Whether all slots of a group are right; see metrics.of_groups."""
  if prediction is None:
    return False
  golds = slot_strings.right_values(target, pairs)
  said, rest = slot_strings.read(prediction)
  nothing = [slot_strings.EMPTY]
  return not rest and all(
    said.get(name, slot_strings.EMPTY) in golds.get(name, nothing)
    for name in {*golds, *said}
  )


def _text(value: Any) -> str:
  if not isinstance(value, str):
    raise TypeError(f'not a string: {value!r}')
  return value


def _text_or_none(value: Any) -> str | None:
  return None if value is None else _text(value)


def _not_ours(where: str) -> errors.UserError:
  return errors.UserError(
    f'{where}: not a line that `python -m pid_jax.predict` or '
    '`python -m pid_jax.evaluate` writes'
  )
