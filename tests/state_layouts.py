# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Scores predictions of a task in any layout, as seqio.Evaluator does.

Predictions are strings: what the vocabulary makes of them is tested elsewhere.
"""

import functools
import random

import seqio


def score(task_name, split, answers, layout='', order=None, drop=()):
  """Scores `answers` by the postprocessors and metrics of a layout.

  Args:
    task_name: of the multi-prompt task.
    split: to score.
    answers: by example id, [U] strings, or None where there is no prediction.
    layout: '', '_pie' or '_joint'.
    order: seed to shuffle the rows by, or None.
    drop: (example id, subtask's index) of rows of '_pie' to leave out.

  Returns:
    The figures.
  """
  task = seqio.TaskRegistry.get(task_name + layout)
  rows = list(_rows(task_name + layout, split))
  targets, predictions = [], []
  if order is not None:
    random.Random(order).shuffle(rows)
  for row in rows:
    answer = answers[row['example_id'].decode()]
    if layout == '_pie':
      index = int(row['subtask_index'])
      if (row['example_id'].decode(), index) in drop:
        continue
      answer = answer[index]
    elif layout == '_joint':
      answer = ' ; '.join(answer)
    targets.append(task.postprocess_fn(row, example=row, is_target=True))
    predictions.append(
      task.postprocess_fn(answer, example=row, is_target=False)
    )
  (metric_fn,) = task.metric_fns
  return metric_fn(targets, predictions)


@functools.cache  # Datasets cost half a second each.
def _rows(task_name, split):
  dataset = seqio.TaskRegistry.get(task_name).get_dataset(
    None, split, shuffle=False
  )
  return list(dataset.as_numpy_iterator())


@functools.cache
def examples(task_name, split):
  """Returns the examples of a task's source by their ids, as plain Python."""
  dataset = seqio.TaskRegistry.get(task_name).source.get_dataset(
    split, shuffle=False
  )
  found = [
    {key: _plain(value) for key, value in row.items()}
    for row in dataset.as_numpy_iterator()
  ]
  return {example['example_id']: example for example in found}


def _plain(value):
  if hasattr(value, 'tolist'):
    value = value.tolist()
  if isinstance(value, list):
    return [_plain(v) for v in value]
  return value.decode() if isinstance(value, bytes) else value
