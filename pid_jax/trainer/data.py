# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training batches of a SeqIO task, with iterators that can be checkpointed.

A checkpoint has the state of the tf.data iterators, including shuffle buffers,
so that a resumed run continues with the next batch exactly.

The data has V shards, and a batch has V blocks of rows: block i comes from
shard i. A process reads the shards of its rows, each with a separate iterator.
So the batches depend only on the number of shards, not on that of processes,
and a run can resume with any number of processes. If the number of processes
divides the number of shards, each process reads only its part of the data.
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

from pid_jax import checks
from pid_jax import errors
from pid_jax import files
from pid_jax import subtasks
from pid_jax.subtasks import registration

Lengths = Mapping[str, int]

MAX_SEED = 2**31 - 1
MAX_SIZE = 2**20  # Rows of a batch, tokens of a feature.


@dataclasses.dataclass(frozen=True)
class DatasetConfig:
  """What to read.

  The fields up to `pack` are those of T5X's DatasetConfig.

  Attributes:
    mixture_or_task_name: registered with SeqIO.
    task_feature_lengths: feature -> maximum number of tokens. Lengths of
      prompts are ignored for the text-to-text layouts.
    split: such as 'train'.
    batch_size: B, rows of a global batch (over all processes).
    shuffle: whether to shuffle, differently in each epoch.
    seed: of shuffling and random preprocessors; None takes that of the run.
    use_cached: whether to read the cache of `seqio_cache_tasks`.
    pack: whether to pack several examples into a row.
    num_examples: in evaluation, read only this many examples; None reads all.
    feature_converter: (pack=...) -> seqio.FeatureConverter. None takes
      `subtasks.PromptInDecoderFeatureConverter` for a task with prompts, and
      for text-to-text `subtasks.TextToTextFeatureConverter`, or
      seqio.EncDecFeatureConverter if the task does not record truncation.
    num_shards: of training data; None takes that of the checkpoint, or the
      number of processes in a new run. For a run that may resume on more hosts,
      give their number.
    num_threads: of tf.data. None leaves half of the cores to a model that
      computes on them, else lets tf.data choose.

  Raises:
    UserError: a value of another type or out of its range.
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

  def __post_init__(self):
    name = 'DatasetConfig.{}'.format
    checks.string(name('mixture_or_task_name'), self.mixture_or_task_name)
    checks.string(name('split'), self.split)
    _check_lengths(self.task_feature_lengths)
    checks.integer(
      name('batch_size (BATCH_SIZE, of evaluations EVAL_BATCH_SIZE)'),
      self.batch_size,
      *(1, MAX_SIZE),
    )
    checks.boolean(name('shuffle'), self.shuffle)
    checks.boolean(name('use_cached (USE_CACHED_TASKS)'), self.use_cached)
    checks.boolean(name('pack'), self.pack)
    for field, least, most in (
      ('seed', 0, MAX_SEED),
      ('num_examples', 1, None),
      ('num_shards', 1, MAX_SIZE),
      ('num_threads', 1, 1024),
    ):
      value = getattr(self, field)
      if value is not None:
        checks.integer(name(field), value, least, most)
    converter = self.feature_converter
    if converter is not None and not callable(converter):
      raise errors.UserError(
        'DatasetConfig.feature_converter must be a function, such as '
        '@subtasks.PromptInDecoderFeatureConverter without brackets; got '
        f'{checks.shown(converter)}.'
      )


def _check_lengths(lengths: Lengths) -> None:
  checks.mapping(
    'TASK_FEATURE_LENGTHS (task_feature_lengths)',
    lengths,
    'a dictionary from feature to number of tokens',
  )
  for feature, length in lengths.items():
    checks.string('a feature of TASK_FEATURE_LENGTHS', feature)
    checks.integer(f'TASK_FEATURE_LENGTHS[{feature!r}]', length, 1, MAX_SIZE)


def get_task(name: str) -> seqio.Task | seqio.Mixture:
  """Finds a task or mixture by name.

  Raises:
    UserError: there is no such task; the message has the most similar names.
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


def if_given(file: object, cfg: DatasetConfig) -> DatasetConfig | None:
  """Returns what to evaluate on, or None where a run has no file for it.

  Args:
    file: that the task of `cfg` was given for the split, see `files.is_given`.
    cfg: what to read.
  """
  return cfg if files.is_given(file) else None


def with_seed(cfg: DatasetConfig, seed: int) -> DatasetConfig:
  """Sets the seed of a configuration that has none."""
  return cfg if cfg.seed is not None else dataclasses.replace(cfg, seed=seed)


def layout(task: seqio.Task | seqio.Mixture) -> str:
  """Returns 'pid' for a task with prompts, 'text' for text-to-text."""
  return 'pid' if 'prompts' in task.output_features else 'text'


def feature_converter(cfg: DatasetConfig) -> seqio.FeatureConverter:
  """Returns the converter from task features to model features."""
  if cfg.feature_converter is not None:
    return cfg.feature_converter(pack=cfg.pack)
  task = get_task(cfg.mixture_or_task_name)
  if layout(task) == 'pid':
    return subtasks.PromptInDecoderFeatureConverter(pack=cfg.pack)
  members = seqio.get_subtasks(task)
  if all(isinstance(t, subtasks.DecomposableTask) for t in members):
    return subtasks.TextToTextFeatureConverter(pack=cfg.pack)
  return seqio.EncDecFeatureConverter(pack=cfg.pack)


def feature_lengths(
  cfg: DatasetConfig, *, complete: bool = True
) -> dict[str, int]:
  """Returns the lengths of a task's features.

  Drops the lengths of prompts for the text-to-text layouts, so that one
  TASK_FEATURE_LENGTHS serves all layouts of a task.

  Args:
    cfg: what to read.
    complete: whether all lengths are required.

  Raises:
    UserError: a length is missing, or the task has no such feature.
  """
  task = get_task(cfg.mixture_or_task_name)
  known = set(task.output_features)
  prompt_lengths = registration.PROMPT_LENGTHS
  needed = {*registration.TEXT_LENGTHS, *prompt_lengths} & known
  if layout(task) == 'pid':
    known.add('decoder')
    needed |= {'decoder'} if cfg.pack else set()
  lengths = {
    name: length
    for name, length in cfg.task_feature_lengths.items()
    if name in known or name not in prompt_lengths
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
  """Returns shape and dtype of each feature of one row of a training batch."""
  converter = feature_converter(cfg)
  lengths = converter.get_model_feature_lengths(feature_lengths(cfg))
  specs = converter.MODEL_FEATURES
  packed = seqio.FeatureConverter.FeatureSpec(dtype=tf.int32)  # SeqIO adds it.
  shapes = {}
  for name, length in lengths.items():
    spec = specs.get(name, packed)
    shape = (length,) if spec.rank else ()  # Counters are scalars.
    shapes[name] = shape, np.dtype(spec.dtype.as_numpy_dtype)
  return shapes


def dataset(
  cfg: DatasetConfig,
  num_epochs: int | None,
  shard: seqio.ShardInfo | None = None,
  num_threads: int | None = None,
) -> tf.data.Dataset:
  """Returns the batches of a task, or one shard's block of rows of each.

  Args:
    cfg: what to read.
    num_epochs: None repeats the data without end.
    shard: of the data, by files if there are enough of them, else by examples;
      None reads all.
    num_threads: overrides that of cfg.

  Returns:
    Batches of model features, [B / num_shards, ...]; the last one of a finite
    dataset may have fewer rows.
  """
  task = get_task(cfg.mixture_or_task_name)
  check_split(task, cfg.split)
  num_shards = shard.num_shards if shard else 1
  lengths, converter = feature_lengths(cfg), feature_converter(cfg)
  counters = {}
  if isinstance(task, seqio.Mixture) and isinstance(
    converter, subtasks.TextToTextFeatureConverter
  ):  # Mixtures drop all but the output features.
    counters['passthrough_features'] = list(converter.COUNTERS)
  # Like seqio.get_dataset, which cannot pass features through a mixture.
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
  """Iterates over a dataset, with a position that can be checkpointed."""

  def __init__(self, ds: tf.data.Dataset):
    self._iterator = iter(ds)
    self._checkpoint = tf.train.Checkpoint(iterator=self._iterator)

  def __next__(self) -> dict[str, np.ndarray]:
    batch = next(self._iterator)
    return {name: np.asarray(value) for name, value in batch.items()}

  def save(self) -> dict[str, bytes]:
    """Returns the position after the last batch, as the contents of files."""
    with tempfile.TemporaryDirectory() as folder:
      try:
        self._checkpoint.write(os.path.join(folder, 'iterator'))
      except tf.errors.FailedPreconditionError as e:
        raise errors.UserError(
          'The position in the training data cannot be saved, because a '
          'source or preprocessor has state outside of tf.data (such as a '
          'Python generator): build it from tf.data operations, or set '
          f'CheckpointConfig.save_dataset = False. ({e.message})'
        ) from e
      return {p.name: p.read_bytes() for p in pathlib.Path(folder).iterdir()}

  def restore(self, files: Mapping[str, bytes]) -> None:
    """Restores a position that `save` returned."""
    with tempfile.TemporaryDirectory() as folder:
      for name, content in files.items():
        (pathlib.Path(folder) / name).write_bytes(content)
      path = os.path.join(folder, 'iterator')
      self._checkpoint.read(path).assert_consumed()


_POSITION = re.compile(r'(?:shard|process)_(\d+)_of_(\d+)\.(.+)')


def find_num_shards(cfg: DatasetConfig, saved: Iterable[str]) -> int:
  """Returns the number of shards of the training data.

  Args:
    cfg: what to read.
    saved: the names of the files of `ShardedIterator.save`; empty if no
      position was saved.

  Raises:
    UserError: the position was saved with another number of shards, or the
      batch size is not a multiple of it.
  """
  found = {int(m[2]) for m in map(_POSITION.fullmatch, saved) if m}
  num_shards = cfg.num_shards or max(found, default=jax.process_count())
  if found and num_shards not in found:
    raise errors.UserError(
      f'DatasetConfig.num_shards is {num_shards}, but the position in the data '
      f'was saved for {max(found)} shards: leave num_shards at {max(found)} or '
      'None, or set CheckpointConfig.save_dataset = False to restart the data.'
    )
  if num_shards < 1 or cfg.batch_size % num_shards:
    raise errors.UserError(
      f'A batch of {cfg.batch_size} cannot be divided among {num_shards} data '
      'shards: choose a multiple of them as batch size, or another '
      'DatasetConfig.num_shards (by default the number of processes).'
    )
  return num_shards


class ShardedIterator(Iterator[dict[str, np.ndarray]]):
  """A process's rows of batches that do not depend on the number of processes.

  Iterates without end.
  """

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
      rows_of_processes: process -> sorted indices of its rows among the B; None
        gives this process all rows.
      process: index of this process; None takes jax.process_index().
    """
    if rows_of_processes is None:
      process, rows_of_processes = 0, {0: np.arange(cfg.batch_size)}
    elif process is None:
      process = jax.process_index()
    size = cfg.batch_size // num_shards
    shards = {p: rows // size for p, rows in rows_of_processes.items()}
    local_shards = sorted(set(shards[process].tolist()))
    threads = _num_threads(cfg)
    self._num_shards = num_shards
    self._rows = {  # This process's rows in the block of each shard.
      i: rows_of_processes[process][shards[process] == i] % size
      for i in local_shards
    }
    # Of several processes that read a shard, the first saves its position.
    self._saved_shards = [
      i
      for i in local_shards
      if process == min(p for p in shards if i in shards[p])
    ]
    self._iterators = {
      i: TrainIterator(
        dataset(
          cfg,
          None,
          seqio.ShardInfo(i, num_shards),
          threads and max(1, threads // len(local_shards)),
        )
      )
      for i in local_shards
    }

  def __next__(self) -> dict[str, np.ndarray]:
    parts = []
    for i, iterator in self._iterators.items():
      rows = self._rows[i]
      parts.append({name: x[rows] for name, x in next(iterator).items()})
    return {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}

  def save(self) -> dict[str, bytes]:
    """Returns the positions of the shards that this process saves."""
    return {
      f'shard_{i}_of_{self._num_shards}.{name}': content
      for i in self._saved_shards
      for name, content in self._iterators[i].save().items()
    }

  def needs(self, name: str) -> bool:
    """Whether `restore` needs a file that any process has saved."""
    match = _POSITION.fullmatch(name)
    return match is not None and int(match[1]) in self._iterators

  def restore(self, files: Mapping[str, bytes]) -> None:
    """Restores a position from the files that all processes saved."""
    positions = {i: {} for i in self._iterators}
    for name, content in files.items():
      if self.needs(name):
        match = _POSITION.fullmatch(name)
        positions[int(match[1])][match[3]] = content
    for i, iterator in self._iterators.items():
      iterator.restore(positions[i])
