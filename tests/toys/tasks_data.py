# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The data sets of tests/fixtures, prepared once, and scores of their tasks."""

import contextlib
import functools
import pathlib
import random
import tempfile

import pytest
import seqio
import tensorflow_datasets as tfds

from pid_jax import errors
from pid_jax.subtasks import newlines
from pid_jax.subtasks import postprocessors
from pid_jax.tasks import aci_bench
from pid_jax.tasks import bookings
from pid_jax.tasks import multiwoz
from pid_jax.tasks import reading
from pid_jax.tasks import sgd
from pid_jax.tasks import todsum

FIXTURES = pathlib.Path(__file__).parent.parent / 'fixtures'
FOLDERS = {
  aci_bench.reader.AciBench: 'aci_bench',
  multiwoz.builder.Multiwoz24: 'multiwoz24',
  reading.reader.Radqa: 'reading/radqa',
  reading.reader.SquadV2: 'reading/squad',
  sgd.builder.SchemaGuided: 'sgd',
  todsum.reader.Todsum: 'todsum',
}


def prepare(builder_class, data_dir, manual_dir=None):
  """Prepares a data set as the command `data` does; returns its builder."""
  builder = builder_class(data_dir=str(data_dir))
  builder.download_and_prepare(
    download_config=tfds.download.DownloadConfig(
      manual_dir=manual_dir and str(manual_dir),
      compute_stats=tfds.download.ComputeStatsMode.SKIP,
      try_download_gcs=False,
    )
  )
  return builder


@contextlib.contextmanager
def prepared(*builder_classes):
  """Within it, tasks read the fixtures, and have a small vocabulary.

  Every data set is prepared once per process.
  """
  for builder_class in builder_classes:
    _prepare_once(builder_class)
  data_dir = _data_dir().name
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv('PID_JAX_VOCABULARY', bookings.VOCABULARY_FILE)
    seqio.set_tfds_data_dir_override(data_dir)
    yield data_dir
    seqio.set_tfds_data_dir_override(None)


def assert_refused(builder_class, folder, manual_dir, message):
  """Preparing fails with a message of one line, and leaves no files."""
  with pytest.raises(errors.UserError, match=message) as error:
    prepare(builder_class, folder, manual_dir)
  assert '\n' not in str(error.value)
  left = [p for p in folder.rglob('*') if p.is_file() or 'incomplete' in p.name]
  assert not left


@functools.cache  # Datasets take half a second each.
def examples(task_name, split):
  """Returns the examples of a task's source by their ids, as plain Python."""
  dataset = seqio.TaskRegistry.get(task_name).source.get_dataset(
    split, shuffle=False
  )
  found = [
    {key: postprocessors.plain(value) for key, value in row.items()}
    for row in dataset.as_numpy_iterator()
  ]
  return {example['example_id']: example for example in found}


@functools.cache
def rows(task_name, split):
  """Returns the rows of a task in any layout."""
  dataset = seqio.TaskRegistry.get(task_name).get_dataset(
    None, split, shuffle=False
  )
  return list(dataset.as_numpy_iterator())


def postprocess(task_name, split, answers, keep=lambda row: True, seed=None):
  """Postprocesses `answers` as seqio.Evaluator does.

  They go through the vocabulary and back, as a model's would.

  Args:
    task_name: in any layout.
    split: of the data.
    answers: by example id, [U] strings, or None without a prediction.
    keep: which rows to keep.
    seed: to shuffle the rows by, or None.

  Returns:
    Targets and predictions of the rows.
  """
  task = seqio.TaskRegistry.get(task_name)
  vocabulary = task.output_features['targets'].vocabulary
  layout = task.layout

  def through(text):
    if text is None:
      return None
    ids = vocabulary.encode(newlines.mark(text, layout.newline))
    return vocabulary.decode(ids)

  kept = [row for row in rows(task_name, split) if keep(row)]
  if seed is not None:
    random.Random(seed).shuffle(kept)
  targets, predictions = [], []
  for row in kept:
    answer = answers[row['example_id'].decode()]
    if layout.name == 'pid':
      output = [*map(through, answer), '', '']  # Padding to U.
    elif layout.name == 'pie':
      output = through(answer[row['subtask_index']])
    else:
      output = layout.joint_separator.join(map(through, answer))
    targets.append(task.postprocess_fn(None, example=row, is_target=True))
    predictions.append(
      task.postprocess_fn(output, example=row, is_target=False)
    )
  return targets, predictions


def score(task_name, split, answers, **options):
  """Returns the figures of the task's metrics; see `postprocess`."""
  (metric_fn,) = seqio.TaskRegistry.get(task_name).predict_metric_fns
  return metric_fn(*postprocess(task_name, split, answers, **options))


@functools.cache
def _data_dir():
  return tempfile.TemporaryDirectory()


@functools.cache
def _prepare_once(builder_class):
  prepare(builder_class, _data_dir().name, FIXTURES / FOLDERS[builder_class])
