# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Puts whole examples together again before any metric sees them.

Metrics are about examples: a dialogue turn is right when all its slots are. But
seqio.Evaluator hands out one target and one prediction per row of a layout. The
postprocessors and the assembly of this module give every layout the same form:
  targets      one dictionary per example: `example_id` str, `inputs` str,
               `prompts`, `subtasks`, `targets` [U] str, and whatever else the
               example held
  predictions  one list [U] per example, str, or None where a layout gave no
               prediction; None is never right
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from pid_jax.subtasks import newlines

Target = dict[str, Any]
Prediction = list[str | None]
MetricFn = Callable[[Sequence[Target], Sequence[Prediction]], Mapping[str, Any]]

# What layouts.py adds to an example, or renames; not for metrics.
_OF_LAYOUT = frozenset(
  {
    'empty_place',
    'example_inputs',
    'example_targets',
    'inputs',
    'inputs_pretokenized',
    'inputs_truncated',
    'num_subtasks',
    'prompts',
    'prompts_pretokenized',
    'subtask_choices',
    'subtask_index',
    'subtask_name',
    'subtask_weights',
    'subtasks',
    'subtasks_pretokenized',
    'targets',
    'targets_pretokenized',
    'targets_truncated',
  }
)


def multi_prompt(
  output: Any,
  *,
  example: Mapping[str, Any],
  is_target: bool = False,
  newline: str | None = None,
) -> Target | Prediction:
  """Postprocesses a row of NAME: a list of decoded strings, or the target."""
  if is_target:
    return _target(example, 'inputs_pretokenized', 'targets_pretokenized')
  # The grid may have more rows than this example has subtasks.
  texts = list(output)[: len(example['subtasks_pretokenized'])]
  return [newlines.restore(text, newline) for text in texts]


def prompt_in_encoder(
  output: Any,
  *,
  example: Mapping[str, Any],
  is_target: bool = False,
  subtask_features: Sequence[str] = (),
  newline: str | None = None,
) -> dict[str, Any] | str:
  """Postprocesses a row of NAME_pie: a string, or the target of a subtask."""
  if not is_target:
    return newlines.restore(output, newline)
  index = int(example['subtask_index'])
  row = {
    'example_id': _text(example['example_id']),
    'index': index,
    'num_subtasks': int(example['num_subtasks']),
    'subtask': _text(example['subtask_name']),
    'target': _text(example['targets_pretokenized']),
    'features': {k: _plain(example[k]) for k in subtask_features},
  }
  if index == 0:
    of_example = {k: v for k, v in example.items() if k not in subtask_features}
    row['whole'] = _target(of_example, 'example_inputs', 'example_targets')
  return row


def joint(
  output: Any,
  *,
  example: Mapping[str, Any],
  is_target: bool = False,
  separator: str,
  newline: str | None = None,
) -> Target | Prediction:
  """Postprocesses a row of NAME_joint: splits the one string, or the target."""
  if is_target:
    return _target(example, 'inputs_pretokenized', 'example_targets')
  parts = newlines.restore(output, newline).split(separator.strip())
  # The separator's own spaces; lines are the target's.
  return [part.strip(' ') for part in parts]


def metric(metric_fns: Sequence[MetricFn], *, rows: bool = False) -> MetricFn:
  """Returns the one function that SeqIO calls for all metrics of a layout.

  Args:
    metric_fns: each from whole examples to named figures.
    rows: the layout has a row per subtask.

  Returns:
    A function of `targets` and `predictions` as postprocessed. Its figures are
    those of all metrics and
      missing_predictions  subtasks without a prediction; they count as wrong
      surplus_predictions  predictions beyond the subtasks (a joint output with
                           too many separators); they are ignored
  """

  def metrics(targets, predictions):
    if rows:
      targets, predictions = regroup(targets, predictions)
    targets, predictions, figures = align(targets, predictions)
    for metric_fn in metric_fns:
      for name, value in metric_fn(targets, predictions).items():
        if name in figures:
          raise ValueError(f'two metrics are called {name!r}')
        figures[name] = value
    return figures

  return metrics


def regroup(
  rows: Sequence[Mapping[str, Any]], outputs: Sequence[str]
) -> tuple[list[Target], list[Prediction]]:
  """Gathers the subtasks of each example.

  Args:
    rows: targets of NAME_pie, in any order.
    outputs: a string per row.

  Returns:
    Targets and predictions of whole examples, in the order in which they
    appear. A subtask without a row has the prediction None, and its features
    are None too. If that is the first one, which the whole example is with,
    then target and name of every subtask without a row are '', and what else
    the example held is missing.

  Raises:
    ValueError: an example id occurs twice.
  """
  targets, predictions = {}, {}
  for row, output in zip(rows, outputs, strict=True):
    name, index, size = row['example_id'], row['index'], row['num_subtasks']
    # Until the first subtask comes (it may have been left out of a sample).
    target = targets.setdefault(
      name,
      {'example_id': name, 'targets': [''] * size, 'subtasks': [''] * size},
    )
    prediction = predictions.setdefault(name, [None] * size)
    if len(prediction) != size or prediction[index] is not None:
      raise ValueError(
        f'the example id {name!r} occurs twice; ids must be unique in a split, '
        'or else the subtasks of an example cannot be gathered'
      )
    prediction[index] = output
    target['targets'][index] = row['target']
    target['subtasks'][index] = row['subtask']
    for key, value in row.get('features', {}).items():
      target.setdefault(key, [None] * size)[index] = value
    # Copied: SeqIO keeps the rows for the next evaluation.
    target.update({k: _copy(v) for k, v in row.get('whole', {}).items()})
  return list(targets.values()), list(predictions.values())


def align(
  targets: Sequence[Target], predictions: Sequence[Prediction]
) -> tuple[list[Target], list[Prediction], dict[str, int]]:
  """Gives each example as many predictions as it has subtasks, and counts."""
  missing = surplus = 0
  aligned = []
  for target, prediction in zip(targets, predictions, strict=True):
    size = len(target['targets'])
    surplus += max(0, len(prediction) - size)
    prediction = list(prediction)[:size]
    prediction += [None] * (size - len(prediction))
    missing += prediction.count(None)
    aligned.append(prediction)
  counts = {'missing_predictions': missing, 'surplus_predictions': surplus}
  return list(targets), aligned, counts


def _target(
  example: Mapping[str, Any], inputs_key: str, targets_key: str
) -> Target:
  return {
    **{k: _plain(v) for k, v in example.items() if k not in _OF_LAYOUT},
    'inputs': _text(example[inputs_key]),
    'prompts': _plain(example['prompts_pretokenized']),
    'subtasks': _plain(example['subtasks_pretokenized']),
    'targets': _plain(example[targets_key]),
  }


def _plain(value: Any) -> Any:
  """Numpy values to what JSON can write; SeqIO's loggers do."""
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  if isinstance(value, list):
    return [_plain(v) for v in value]
  return _text(value)


def _text(value: Any) -> Any:
  return value.decode('utf-8') if isinstance(value, bytes) else value


def _copy(value: Any) -> Any:
  return list(value) if isinstance(value, list) else value
