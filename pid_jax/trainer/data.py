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

_LENGTHS_OF_ALL = ('inputs', 'targets')
_LENGTHS_OF_PROMPTS = ('prompts', 'subtasks', 'decoder')


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """What to read.

  The fields up to `pack` have the names and the meaning that they have in T5X's
  DatasetConfig; the others are of this trainer alone.

  Attributes:
    mixture_or_task_name: registered with SeqIO.
    task_feature_lengths: feature -> greatest number of tokens. Those that only
      a task with prompts has may stand there for its baselines, too.
    split: such as 'train'.
    batch_size: B, rows of a global batch (over all processes).
    shuffle: whether to shuffle, anew in each pass.
    seed: of shuffling and of preprocessors that draw; None takes the run's.
    use_cached: whether to read what `seqio_cache_tasks` wrote.
    pack: whether to put several examples in a row.
    num_examples: in evaluation, read so many examples; None reads all.
    feature_converter: (pack=...) -> seqio.FeatureConverter; None takes
      `subtasks.PromptInDecoderFeatureConverter` for a task with prompts, and
      for text-to-text `subtasks.TextToTextFeatureConverter`, or SeqIO's own if
      the task does not say what it cuts.
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
  task = get_task(cfg.mixture_or_task_name)
  if layout(task) == 'pid':
    return subtasks.PromptInDecoderFeatureConverter(pack=cfg.pack)
  parts = seqio.get_subtasks(task)
  if all(isinstance(part, subtasks.DecomposableTask) for part in parts):
    return subtasks.TextToTextFeatureConverter(pack=cfg.pack)
  return seqio.EncDecFeatureConverter(pack=cfg.pack)


def feature_lengths(
  cfg: DatasetConfig, *, complete: bool = True
) -> dict[str, int]:
  """The lengths that a task has: of a baseline, without those of prompts.

  So that one TASK_FEATURE_LENGTHS serves a task in all its layouts.

  Args:
    cfg: what to read.
    complete: whether none may be missing.

  Raises:
    UserError: a length is missing, or is of nothing that the task has.
  """
  task = get_task(cfg.mixture_or_task_name)
  known = set(task.output_features)
  needed = {*_LENGTHS_OF_ALL, *_LENGTHS_OF_PROMPTS} & known
  if layout(task) == 'pid':
    known.add('decoder')
    needed |= {'decoder'} if cfg.pack else set()
  lengths = {
    name: length
    for name, length in cfg.task_feature_lengths.items()
    if name in known or name not in _LENGTHS_OF_PROMPTS
  }
  for name in sorted(set(lengths) - known):
    raise errors.unknown(f'feature length of {task.name}', name, needed)
  missing = sorted(needed - set(lengths))
  if missing and complete:
    raise errors.UserError(
      f'TASK_FEATURE_LENGTHS has no length of {", ".join(missing)}, which '
      f'{task.name!r} needs; it has {", ".join(sorted(lengths))}.'
    )
  return lengths


def row_shapes(
  cfg: DatasetConfig,
) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
  """Shape and dtype of each feature of one row of a training batch.

  Reads no data.
  """
  converter = feature_converter(cfg)
  lengths = converter.get_model_feature_lengths(feature_lengths(cfg))
  specs = converter.MODEL_FEATURES
  packed = seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)  # SeqIO adds it.
  shapes = {}
  for name, length in lengths.items():
    spec = specs.get(name, packed)
    shape = (length,) if spec.rank else ()  # Of a counter.
    shapes[name] = shape, np.dtype(spec.dtype.as_numpy_dtype)
  return shapes


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
    Batches of model features, [B / num_shards, ...]; the last one of a dataset
    that ends may have fewer rows.
  """
  task = get_task(cfg.mixture_or_task_name)
  check_split(task, cfg.split)
  num_shards = shard.num_shards if shard else 1
  lengths, converter = feature_lengths(cfg), feature_converter(cfg)
  counters = {}
  if isinstance(task, seqio.Mixture) and isinstance(
    converter, subtasks.TextToTextFeatureConverter
  ):  # Mixtures drop what is no output feature.
    counters['passthrough_features'] = list(converter.COUNTERS)
  # As seqio.get_dataset, which has no way to pass features through a mixture.
  ds = task.get_dataset(
    lengths,
    split=cfg.split,
    shuffle=cfg.shuffle,
    num_epochs=num_epochs,
    shard_info=shard if num_shards > 1 else None,
    use_cached=cfg.use_cached,
    seed=cfg.seed,
    **counters,
  )
  ds = converter(ds, lengths)
  size = cfg.batch_size // num_shards
  ds = ds.batch(size, drop_remainder=num_epochs is None)
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
