# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SeqIO postprocessors that recover whole examples for the metrics.

Metrics are computed on examples: a dialogue turn is right when all its slots
are. But seqio.Evaluator passes one target and one prediction per row of a
layout. The postprocessors and `combine_metrics` give all layouts one form:
  targets      one dictionary per example: `example_id` str, `inputs` str,
               `prompts`, `subtasks`, `targets` [U] str, and all further
               features of the example
  predictions  one list [U] per example, str, or None without a prediction;
               None is always wrong
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

import numpy as np

from pid_jax.subtasks import examples
from pid_jax.subtasks import newlines

Target = dict[str, Any]
Prediction = list[str | None]
MetricFn = Callable[[Sequence[Target], Sequence[Prediction]], Mapping[str, Any]]

# Features that preprocessors.py adds or renames; not for metrics.
_LAYOUT_FEATURES = frozenset(
  {
    'empty_rank',
    'example_inputs',
    'example_targets',
    'inputs',
    'inputs_pretokenized',
    'inputs_truncated',
    'num_subtasks',
    'prompts',
    'prompts_pretokenized',
    examples.CHOICES,
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
  # Predictions are padded to U; this example may have fewer subtasks.
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
  if examples.ANSWERS in example:
    subtask_features = dict.fromkeys((*subtask_features, examples.ANSWERS))
  index = int(example['subtask_index'])
  row = {
    'example_id': _text(example['example_id']),
    'index': index,
    'num_subtasks': int(example['num_subtasks']),
    'subtask': _text(example['subtask_name']),
    'target': _text(example['targets_pretokenized']),
    'features': {k: plain(example[k]) for k in subtask_features},
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
  """Postprocesses a row of NAME_joint: splits the string, or the target."""
  if is_target:
    return _target(example, 'inputs_pretokenized', 'example_targets')
  parts = newlines.restore(output, newline).split(separator.strip())
  # Spaces belong to the separator, newlines to the target.
  return [part.strip(' ') for part in parts]


def combine_metrics(
  metric_fns: Sequence[MetricFn], *, group_rows: bool = False
) -> MetricFn:
  """Returns the one function that SeqIO calls for all metrics of a layout.

  Args:
    metric_fns: from whole examples to named figures.
    group_rows: the layout has one row per subtask.

  Returns:
    A function of postprocessed `targets` and `predictions`. It returns the
    figures of all metrics, and
      missing_predictions  subtasks without a prediction, which count as wrong
      surplus_predictions  predictions beyond the subtasks (a joint output with
                           too many separators), which are ignored
  """

  def metrics(targets, predictions):
    if group_rows:
      targets, predictions = group_by_example(targets, predictions)
    predictions, figures = align(targets, predictions)
    for metric_fn in metric_fns:
      for name, value in metric_fn(list(targets), predictions).items():
        if name in figures:
          raise ValueError(f'two metrics are called {name!r}')
        figures[name] = value
    return figures

  return metrics


def group_by_example(
  rows: Sequence[Mapping[str, Any]], outputs: Sequence[str]
) -> tuple[list[Target], list[Prediction]]:
  """Groups the rows of NAME_pie by example.

  Args:
    rows: postprocessed targets, in any order.
    outputs: one string per row.

  Returns:
    Targets and predictions of whole examples, ordered by their first row. A
    subtask without a row has the prediction None, and None for its features.
    If the first subtask has no row (the one with the strings and further
    features of the example), then these features are missing, and the target
    and name of each other subtask without a row are ''.

  Raises:
    ValueError: an example id occurs twice.
  """
  targets, predictions = {}, {}
  for row, output in zip(rows, outputs, strict=True):
    name, index, size = row['example_id'], row['index'], row['num_subtasks']
    # Defaults until the first subtask's row, which may be missing in a sample.
    target = targets.setdefault(
      name,
      {'example_id': name, 'targets': [''] * size, 'subtasks': [''] * size},
    )
    prediction = predictions.setdefault(name, [None] * size)
    if len(prediction) != size or prediction[index] is not None:
      raise ValueError(
        f'the example id {name!r} occurs twice; ids must be unique in a split, '
        'or the subtasks of an example cannot be grouped'
      )
    if {len(target['targets']), len(target['subtasks'])} != {size}:
      raise ValueError(f'the rows of {name!r} differ in their subtasks')
    prediction[index] = output
    target['targets'][index] = row['target']
    target['subtasks'][index] = row['subtask']
    for key, value in row.get('features', {}).items():
      target.setdefault(key, [None] * size)[index] = value
    # Copied: SeqIO reuses the rows in the next evaluation.
    target.update({k: _copy(v) for k, v in row.get('whole', {}).items()})
  return list(targets.values()), list(predictions.values())


def align(
  targets: Sequence[Target], predictions: Sequence[Prediction]
) -> tuple[list[Prediction], dict[str, int]]:
  """Pads with None or trims predictions to the number of subtasks.

  Args:
    targets: N whole examples.
    predictions: N lists of any length.

  Returns:
    Predictions [N][U]; and the counts `missing_predictions` and
    `surplus_predictions`.
  """
  missing = surplus = 0
  aligned = []
  for target, prediction in zip(targets, predictions, strict=True):
    size = len(target['targets'])
    surplus += max(0, len(prediction) - size)
    prediction = list(prediction)[:size]
    prediction += [None] * (size - len(prediction))
    missing += prediction.count(None)
    aligned.append(prediction)
  return aligned, {
    'missing_predictions': missing,
    'surplus_predictions': surplus,
  }


def _target(
  example: Mapping[str, Any], inputs_key: str, targets_key: str
) -> Target:
  return {
    **{k: plain(v) for k, v in example.items() if k not in _LAYOUT_FEATURES},
    'inputs': _text(example[inputs_key]),
    'prompts': plain(example['prompts_pretokenized']),
    'subtasks': plain(example['subtasks_pretokenized']),
    'targets': plain(example[targets_key]),
  }


def plain(value: Any) -> Any:
  """Converts NumPy values and bytes to Python values, as JSON needs them."""
  if isinstance(value, np.ndarray | np.generic):
    value = value.tolist()
  if isinstance(value, list):
    return [plain(v) for v in value]
  return _text(value)


def _text(value: Any) -> Any:
  return value.decode('utf-8') if isinstance(value, bytes) else value


def _copy(value: Any) -> Any:
  return list(value) if isinstance(value, list) else value
