# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches for training from a SeqIO task, at a position that can be saved.

A checkpoint holds the state of the tf.data iterator, shuffle buffers included,
so that a run that was killed goes on with the very batch that came next.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import os
import pathlib
import tempfile

import jax
import numpy as np
import seqio
import tensorflow as tf

from pid_jax import errors
from pid_jax import subtasks

Lengths = Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """What to read; the fields are those of T5X's DatasetConfig.

  Attributes:
    mixture_or_task_name: registered with SeqIO.
    task_feature_lengths: feature -> greatest number of tokens.
    split: such as 'train'.
    batch_size: B, rows of a global batch (over all processes).
    shuffle: whether to shuffle, anew in each pass.
    seed: of shuffling and of preprocessors that draw; None takes the run's.
    use_cached: whether to read what `seqio_cache_tasks` wrote.
    pack: whether to put several examples in a row.
    num_examples: in evaluation, read so many examples; None reads all.
    feature_converter: (pack=...) -> seqio.FeatureConverter; None takes
      `subtasks.PromptInDecoderFeatureConverter` for a task with prompts and
      `seqio.EncDecFeatureConverter` for text-to-text.
    num_threads: of tf.data; None leaves half of the cores to the model, if the
      model computes on them, else takes tf.data's own choice.
  """

  mixture_or_task_name: str
  task_feature_lengths: Lengths
  split: str = 'train'
  batch_size: int = 128
  shuffle: bool = True
  seed: int | None = None
  use_cached: bool = False
  pack: bool = True
  num_examples: int | None = None
  feature_converter: Callable[..., seqio.FeatureConverter] | None = None
  num_threads: int | None = None


def get_task(name: str) -> seqio.Task | seqio.Mixture:
  """Finds a task or mixture by name.

  Raises:
    UserError: no such task; the nearest names are shown.
  """
  known = [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
  if name not in known:
    raise errors.unknown('task', name, known)
  return seqio.get_mixture_or_task(name)


def check_split(task: seqio.Task | seqio.Mixture, split: str) -> None:
  """Raises UserError if a task has no such split."""
  splits = sorted({s for t in seqio.get_subtasks(task) for s in t.splits})
  if split not in splits:
    raise errors.unknown(f'split of {task.name}', split, splits)


def with_seed(cfg: DatasetConfig, seed: int) -> DatasetConfig:
  """Fills in the run's seed where a configuration has none of its own."""
  return cfg if cfg.seed is not None else dataclasses.replace(cfg, seed=seed)


def layout(task: seqio.Task | seqio.Mixture) -> str:
  """'pid' for a task with prompts of its own, 'text' for text-to-text."""
  return 'pid' if 'prompts' in task.output_features else 'text'


def feature_converter(cfg: DatasetConfig) -> seqio.FeatureConverter:
  """The converter that makes model features of a task's examples."""
  if cfg.feature_converter is not None:
    return cfg.feature_converter(pack=cfg.pack)
  if layout(get_task(cfg.mixture_or_task_name)) == 'text':
    return seqio.EncDecFeatureConverter(pack=cfg.pack)
  return subtasks.PromptInDecoderFeatureConverter(pack=cfg.pack)


def row_shapes(
  cfg: DatasetConfig,
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
  """Shape and dtype of each feature of one row of a training batch.

  Reads no data.
  """
  converter = feature_converter(cfg)
  lengths = converter.get_model_feature_lengths(dict(cfg.task_feature_lengths))
  specs = converter.MODEL_FEATURES
  int32 = np.dtype(np.int32)  # Of what SeqIO adds in packing.
  return {
    name: (
      (length,),
      specs[name].dtype.as_numpy_dtype if name in specs else int32,
    )
    for name, length in lengths.items()
  }


def dataset(cfg: DatasetConfig, num_epochs: int | None) -> tf.data.Dataset:
  """This process's share of the batches of a task.

  Args:
    cfg: what to read.
    num_epochs: passes over the data; None for no end.

  Returns:
    Batches of model features, [B / processes, ...]; a last batch that is not
    full is dropped.
  """
  check_split(get_task(cfg.mixture_or_task_name), cfg.split)
  shard = seqio.ShardInfo(jax.process_index(), jax.process_count())
  ds = seqio.get_dataset(
    cfg.mixture_or_task_name,
    task_feature_lengths=dict(cfg.task_feature_lengths),
    dataset_split=cfg.split,
    shuffle=cfg.shuffle,
    num_epochs=num_epochs,
    feature_converter=feature_converter(cfg),
    shard_info=shard if shard.num_shards > 1 else None,
    use_cached=cfg.use_cached,
    seed=cfg.seed,
    verbose=False,
  )
  ds = ds.batch(cfg.batch_size // jax.process_count(), drop_remainder=True)
  ds = ds.prefetch(2)
  options = tf.data.Options()
  options.deterministic = True
  num_threads = cfg.num_threads
  if num_threads is None and jax.default_backend() == 'cpu':
    num_threads = max(1, (os.cpu_count() or 1) // 2)
  if num_threads is not None:
    options.threading.private_threadpool_size = num_threads
    options.threading.max_intra_op_parallelism = 1
  return ds.with_options(options)


class TrainIterator(Iterator[dict[str, np.ndarray]]):
  """Endless batches, with a position that can be saved and restored."""

  def __init__(self, ds: tf.data.Dataset):
    self._iterator = iter(ds)
    self._checkpoint = tf.train.Checkpoint(iterator=self._iterator)

  def __next__(self) -> dict[str, np.ndarray]:
    batch = next(self._iterator)
    return {name: np.asarray(value) for name, value in batch.items()}

  def save(self) -> dict[str, bytes]:
    """Returns the position after the last batch taken, as named files."""
    with tempfile.TemporaryDirectory() as folder:
      try:
        self._checkpoint.write(os.path.join(folder, 'iterator'))
      except tf.errors.FailedPreconditionError as e:
        raise errors.UserError(
          'The position in the training data cannot be saved, because a '
          'source or preprocessor keeps state of its own (a Python generator, '
          'say): build it from tf.data operations, or set '
          f'CheckpointConfig.save_dataset = False. ({e.message})'
        ) from e
      return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}

  def restore(self, files: Mapping[str, bytes]) -> None:
    """Goes to a position that `save` returned."""
    with tempfile.TemporaryDirectory() as folder:
      for name, content in files.items():
        (pathlib.Path(folder) / name).write_bytes(content)
      path = os.path.join(folder, 'iterator')
      self._checkpoint.read(path).assert_consumed()
