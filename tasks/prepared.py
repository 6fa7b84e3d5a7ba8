# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A SeqIO data source of the records that a builder has prepared.

Python code turns records into examples when a split is first used. Examples are
kept in memory (subtasks.InMemoryDataSource), so small data sets can be sharded
over more hosts than they have files, and fully shuffled.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import functools
from typing import Any

import seqio
import tensorflow as tf
import tensorflow_datasets as tfds

from pid_jax import errors
from pid_jax import files
from pid_jax import subtasks
from pid_jax.subtasks import postprocessors
from pid_jax.tasks import builder as builder_lib

Record = dict[str, Any]


class PreparedDataSource(subtasks.InMemoryDataSource):
  """Examples of prepared records.

  Attributes:
    builder: the class that prepares the records.
  """

  def __init__(
    self,
    task: str,
    builder: type[builder_lib.Builder],
    examples: Callable[[Record], Iterable[dict[str, Any]]],
  ):
    """Stores where the examples come from, without reading them.

    Args:
      task: name of the task, for messages.
      builder: prepares the records.
      examples: yields the decomposable examples of a record (from `records`),
        any number of them. It must be a module's function, or a
        functools.partial of one, so that Beam can send it to its workers.
    """
    self.builder = builder
    self._data_dir = None
    super().__init__(
      {
        split: functools.partial(_examples, task, builder, examples, split)
        for split in builder.FILES
      }
    )

  def is_prepared(self, split: str) -> bool:
    """Whether a split has been prepared."""
    return split in self.builder(data_dir=data_dir()).info.splits

  def _table(self, split: str) -> Any:
    if self._data_dir != data_dir():  # Drop what was read from elsewhere.
      self._data_dir, self._tables = data_dir(), {}
    return super()._table(split)


def data_dir() -> str:
  """Returns the folder of tfds's prepared data.

  In order of precedence: the argument of seqio.set_tfds_data_dir_override
  (T5X's --tfds_data_dir), the environment variable TFDS_DATA_DIR,
  ~/tensorflow_datasets.

  Raises:
    UserError: there is no home folder.
  """
  override = seqio.utils.LazyTfdsLoader().data_dir
  folder = override or tfds.core.constants.DATA_DIR
  return str(files.path(folder, 'the folder of prepared data, TFDS_DATA_DIR,'))


def records(
  task: str, builder: type[builder_lib.Builder], split: str
) -> Iterator[Record]:
  """Yields the prepared records of a split, in the distributor's order.

  Args:
    task: name of the task, for messages.
    builder: prepares the records.
    split: such as 'train'.

  Yields:
    Each record as Python values: str for strings, lists for arrays.

  Raises:
    UserError: the data set is not prepared, or was prepared without this split.
  """
  made = builder(data_dir=data_dir())
  if split not in made.info.splits:
    command = f'python -m pid_jax.data prepare {task} --manual_dir=DIR'
    if not made.info.splits:
      raise errors.UserError(
        f'the data of {task} is not prepared in {data_dir()}: run `{command}`, '
        'or set TFDS_DATA_DIR to the folder that has it'
      )
    missing = made.info.metadata['splits'].get(split, {}).get('missing', [])
    raise errors.UserError(
      f'{task} was prepared without the split {split}, since '
      f'{made.info.metadata["folder"]} lacked {", ".join(missing[:4])}: '
      f'complete it and run `{command} --overwrite`'
    )
  dataset = made.as_dataset(split=split, shuffle_files=False)
  for record in tfds.as_numpy(dataset):
    yield to_python(record)


def _examples(
  task: str,
  builder: type[builder_lib.Builder],
  examples: Callable[[Record], Iterable[dict[str, Any]]],
  split: str,
) -> Iterator[dict[str, Any]]:
  for record in records(task, builder, split):
    yield from examples(record)


def to_python(value: Any) -> Any:
  """Converts a record of tfds to dictionaries, lists, strings and numbers."""
  if isinstance(value, dict):
    return {k: to_python(v) for k, v in value.items()}
  if isinstance(value, tf.RaggedTensor | tf.compat.v1.ragged.RaggedTensorValue):
    value = value.to_list()
  return postprocessors.plain(value)
