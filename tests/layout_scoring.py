# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores strings as predictions of a task, in any layout, as SeqIO would.

The strings go through the vocabulary and back, as a model's would; rows may be
shuffled and left out.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import random
from typing import Any

import seqio

from pid_jax.subtasks import newlines


def score(
  name: str,
  split: str,
  answers: Mapping[str, Sequence[str]],
  *,
  seed: int = 0,
  keep: Callable[[Mapping[str, Any]], bool] = lambda row: True,
) -> dict[str, float]:
  """Returns the figures of a task's metrics.

  Args:
    name: of the task, in any layout.
    split: of the data.
    answers: from the id of an example to the U predictions.
    seed: of the order of rows.
    keep: whether a row of the data is there at all.
  """
  task = seqio.TaskRegistry.get(name)
  vocabulary = task.output_features['targets'].vocabulary
  layout = task.layout

  def through(text):
    ids = vocabulary.encode(newlines.mark(text, layout.newline))
    return vocabulary.decode(ids)

  rows = list(_rows(name, split))
  random.Random(seed).shuffle(rows)
  rows = [row for row in rows if keep(row)]
  targets, predictions = [], []
  for row in rows:
    own = answers[row['example_id'].decode()]
    if layout.name == 'pid':
      output = [*map(through, own), '', '']  # The grid may have more rows.
    elif layout.name == 'pie':
      output = through(own[row['subtask_index']])
    else:
      output = layout.joint_separator.join(map(through, own))
    targets.append(task.postprocess_fn(None, example=row, is_target=True))
    predictions.append(
      task.postprocess_fn(output, example=row, is_target=False)
    )
  (metric,) = task.predict_metric_fns
  return metric(targets, predictions)


@functools.cache
def _rows(name: str, split: str) -> list[dict[str, Any]]:
  dataset = seqio.TaskRegistry.get(name).get_dataset(None, split, shuffle=False)
  return list(dataset.as_numpy_iterator())
