# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches for training from a SeqIO task, at a position that can be saved.

A checkpoint holds the state of the tf.data iterators, shuffle buffers included,
so that a run that was killed goes on with the very batch that came next.

The data is divided into shards, and a batch into as many blocks of rows: block
i is of shard i. A process reads the shards of its rows, each by an iterator of
its own. So the batches depend on the number of shards alone, never on that of
processes, and any number of them can go on where others stopped. Each reads
nothing but its own part where the number of processes divides that of shards.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import os
import pathlib
import re
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
    num_shards: of training data; None takes the checkpoint's, or at first the
      number of processes. For a run that may move to more hosts, their number.
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
  num_shards: int | None = None
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


def dataset(
  cfg: DatasetConfig,
  num_epochs: int | None,
  shard: seqio.ShardInfo | None = None,
  num_threads: int | None = None,
) -> tf.data.Dataset:
  """The batches of a task, or what a shard of its data gives to them.

  Args:
    cfg: what to read.
    num_epochs: passes over the data; None for no end.
    shard: which part of the data; by files if there are enough of them, else by
      examples. None: all.
    num_threads: in place of cfg's.

  Returns:
    Batches of model features, [B / num_shards, ...]; a last batch that is not
    full is dropped.
  """
  check_split(get_task(cfg.mixture_or_task_name), cfg.split)
  num_shards = shard.num_shards if shard else 1
  ds = seqio.get_dataset(
    cfg.mixture_or_task_name,
    task_feature_lengths=dict(cfg.task_feature_lengths),
    dataset_split=cfg.split,
    shuffle=cfg.shuffle,
    num_epochs=num_epochs,
    feature_converter=feature_converter(cfg),
    shard_info=shard if num_shards > 1 else None,
    use_cached=cfg.use_cached,
    seed=cfg.seed,
    verbose=False,
  )
  ds = ds.batch(cfg.batch_size // num_shards, drop_remainder=True)
  ds = ds.prefetch(2)
  options = tf.data.Options()
  options.deterministic = True
  num_threads = num_threads or _num_threads(cfg)
  if num_threads is not None:
    options.threading.private_threadpool_size = num_threads
    options.threading.max_intra_op_parallelism = 1
  return ds.with_options(options)


def _num_threads(cfg: DatasetConfig) -> int | None:
  if cfg.num_threads is None and jax.default_backend() == 'cpu':
    return max(1, (os.cpu_count() or 1) // 2)
  return cfg.num_threads


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


_POSITION = re.compile(r'(?:shard|process)_(\d+)_of_(\d+)\.(.+)')


def find_num_shards(cfg: DatasetConfig, saved: Iterable[str]) -> int:
  """Returns into how many shards the training data is divided.

  Args:
    cfg: what to read.
    saved: the names of the files of a position, as `ShardedIterator.save`
      names them; none where nothing was saved.

  Raises:
    UserError: another number was saved, or the batch cannot be divided so.
  """
  found = {int(m[2]) for m in map(_POSITION.fullmatch, saved) if m}
  num_shards = cfg.num_shards or max(found, default=jax.process_count())
  if found and num_shards not in found:
    raise errors.UserError(
      f'DatasetConfig.num_shards is {num_shards}, but the position in the data '
      f'was saved for {max(found)} shards: leave num_shards at {max(found)} or '
      'None, or set CheckpointConfig.save_dataset = False to begin the data '
      'anew.'
    )
  if num_shards < 1 or cfg.batch_size % num_shards:
    raise errors.UserError(
      f'A batch of {cfg.batch_size} cannot be made of {num_shards} shards of '
      'the data: choose a multiple of them as batch size, or another '
      'DatasetConfig.num_shards (by default the number of processes).'
    )
  return num_shards


class ShardedIterator(Iterator[dict[str, np.ndarray]]):
  """A process's rows of endless batches, whatever the number of processes."""

  def __init__(
    self,
    cfg: DatasetConfig,
    num_shards: int,
    rows_of_processes: Mapping[int, np.ndarray] | None = None,
    process: int | None = None,
  ):
    """Opens the shards that this process reads.

    Args:
      cfg: what to read.
      num_shards: V, shards of the data; B is a multiple.
      rows_of_processes: process -> which of the B rows it holds, in rising
        order; None: this one holds all.
      process: the number of this process; None: as JAX counts.
    """
    if rows_of_processes is None:
      process, rows_of_processes = 0, {0: np.arange(cfg.batch_size)}
    elif process is None:
      process = jax.process_index()
    size = cfg.batch_size // num_shards
    shards = {p: rows // size for p, rows in rows_of_processes.items()}
    own = sorted(set(shards[process].tolist()))
    threads = _num_threads(cfg)
    self._num_shards = num_shards
    self._rows = {  # Of a shard's batch, those that this process holds.
      i: rows_of_processes[process][shards[process] == i] % size for i in own
    }
    # Where several read a shard, the first of them saves its position.
    self._saves = {
      i for i in own if process == min(p for p in shards if i in shards[p])
    }
    self._iterators = {
      i: TrainIterator(
        dataset(
          cfg,
          None,
          seqio.ShardInfo(i, num_shards),
          threads and max(1, threads // len(own)),
        )
      )
      for i in own
    }

  def __next__(self) -> dict[str, np.ndarray]:
    parts = []
    for i, iterator in self._iterators.items():
      rows = self._rows[i]
      parts.append({name: x[rows] for name, x in next(iterator).items()})
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

  def save(self) -> dict[str, bytes]:
    """Returns the positions of the shards that this process answers for."""
    return {
      f'shard_{i}_of_{self._num_shards}.{name}': content
      for i in sorted(self._saves)
      for name, content in self._iterators[i].save().items()
    }

  def needs(self, name: str) -> bool:
    """Whether `restore` wants a file that some process has saved."""
    match = _POSITION.fullmatch(name)
    return match is not None and int(match[1]) in self._iterators

  def restore(self, files: Mapping[str, bytes]) -> None:
    """Goes to a position of which all processes together saved the files."""
    positions = {i: {} for i in self._iterators}
    for name, content in files.items():
      if self.needs(name):
        match = _POSITION.fullmatch(name)
        positions[int(match[1])][match[3]] = content
    for i, iterator in self._iterators.items():
      iterator.restore(positions[i])
