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

Outputs are as the vocabulary writes them: T5's has no '²', 'ﬁ' or runs of white
space, and writes '2', 'fi' and one space. So here, and nowhere else, gold
answers are rewritten likewise (`as_written`), or they could never be right.
Where this changes targets, `original_targets` [U] keeps them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import json
from typing import Any

import numpy as np

from pid_jax import errors
from pid_jax.subtasks import examples
from pid_jax.subtasks import newlines

Target = dict[str, Any]
Prediction = list[str | None]
MetricFn = Callable[[Sequence[Target], Sequence[Prediction]], Mapping[str, Any]]
Rewrite = Callable[[str], str]

# Features with a JSON list of gold texts for each subtask, or ''.
_GOLD_FEATURES = frozenset({examples.ANSWERS, 'pairs'})

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
  rewrite: Rewrite = str,
) -> Target | Prediction:
  """Postprocesses a row of NAME: a list of decoded strings, or the target."""
  if is_target:
    return _target(
      example, 'inputs_pretokenized', 'targets_pretokenized', rewrite
    )
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
  rewrite: Rewrite = str,
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
    'target': rewrite(_text(example['targets_pretokenized'])),
    'features': {
      k: _feature(k, plain(example[k]), rewrite) for k in subtask_features
    },
  }
  if index == 0:
    of_example = {k: v for k, v in example.items() if k not in subtask_features}
    row['whole'] = _target(
      of_example, 'example_inputs', 'example_targets', rewrite
    )
  return row


def joint(
  output: Any,
  *,
  example: Mapping[str, Any],
  is_target: bool = False,
  separator: str,
  newline: str | None = None,
  rewrite: Rewrite = str,
) -> Target | Prediction:
  """Postprocesses a row of NAME_joint: splits the string, or the target."""
  if is_target:
    return _target(example, 'inputs_pretokenized', 'example_targets', rewrite)
  parts = newlines.restore(output, newline).split(separator.strip())
  # Spaces belong to the separator, newlines to the target.
  return [part.strip(' ') for part in parts]


def as_written(text: str, vocabulary: Any, newline: str | None = None) -> str:
  """Returns a gold answer as a model can write it.

  Args:
    text: the gold answer.
    vocabulary: of the outputs; `pid_jax.vocabulary`'s, or SeqIO's.
    newline: the sentinel that stands for newlines, or None.

  Returns:
    What encoding and decoding make of `text`. A text that the vocabulary cannot
    write is returned as it is: no output equals it, not even one with unknown
    tokens in the same places.
  """
  if newline is not None and newline in text:
    return text
  ids = vocabulary.encode(newlines.mark(text, newline))
  if vocabulary.unk_id in ids:
    return text
  return newlines.restore(vocabulary.decode(ids), newline)


def rewriter(vocabulary: Any, newline: str | None) -> Rewrite:
  """Returns `as_written` of a vocabulary, cached: most golds are repeated."""

  @functools.lru_cache(1 << 14)
  def rewrite(text: str) -> str:
    return as_written(text, vocabulary, newline)

  return rewrite


def rewritten(target: Mapping[str, Any]) -> list[tuple[str, str]]:
  """Returns pairs (original, written) of targets, of which some differ.

  Args:
    target: postprocessed; of NAME_pie a row, the first of its example.
  """
  target = target.get('whole', target)
  return list(
    zip(
      target.get('original_targets', ()),
      target.get('targets', ()),
      strict=False,
    )
  )


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
    predictions, counts = align(targets, predictions)
    figures = {}
    for metric_fn in metric_fns:
      for name, value in metric_fn(list(targets), predictions).items():
        if name in figures or name in counts:
          raise errors.UserError(f'two metrics are called {name!r}')
        figures[name] = value
    return figures | counts

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
    UserError: an example id occurs twice.
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
      raise errors.UserError(
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
  example: Mapping[str, Any],
  inputs_key: str,
  targets_key: str,
  rewrite: Rewrite,
) -> Target:
  originals = plain(example[targets_key])
  target = {
    **{
      k: _feature(k, plain(v), rewrite)
      for k, v in example.items()
      if k not in _LAYOUT_FEATURES
    },
    'inputs': _text(example[inputs_key]),
    'prompts': plain(example['prompts_pretokenized']),
    'subtasks': plain(example['subtasks_pretokenized']),
    'targets': [rewrite(text) for text in originals],
  }
  if target['targets'] != originals:
    target['original_targets'] = originals
  return target


def _feature(name: str, value: Any, rewrite: Rewrite) -> Any:
  """Rewrites the gold texts in a feature, [U] or of one subtask."""
  if name not in _GOLD_FEATURES or not value:
    return value
  if isinstance(value, list):
    return [_feature(name, x, rewrite) for x in value]
  golds = [rewrite(text) for text in json.loads(value)]
  return json.dumps(golds, ensure_ascii=False)


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
