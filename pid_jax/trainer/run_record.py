# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""MODEL_DIR/training.json: with which settings its checkpoints were trained.

A list with an entry for each run that went on with other settings than the one
before: the step from which they hold, and all of them, by name. An entry with
which a checkpoint was trained is never changed. What may differ from the last
one of these depends on what a setting decides:

    what is evaluated, shown or kept, and the mesh   may change; said in a line
    how updates are made, such as the learning rate  may change while there are
                                                     steps left; a warning
    data, seed, first weights, shape of the model    make another training:
                                                     refused
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import json
from typing import Any

from etils import epath
import jax
import seqio

from pid_jax import checkpoints
from pid_jax import checks
from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax import subtasks
from pid_jax.trainer import data
from pid_jax.trainer import reporting

FILE = 'training.json'

# Beginnings of names; all others make another training.
_FREE = (
  *(
    'total_steps',
    'eval_period',
    'eval_steps',
    'log_period',
    'checkpoint_cfg.',
  ),
  *('train_eval.', 'infer_eval.', 'decoding_options', 'mesh.'),
  *('num_microbatches', 'train.num_threads'),
)
_UPDATES = (
  *('schedule.', 'optimizer.', 'loss.', 'ema_decay'),
  *('model.dropout_rate', 'model.dtype', 'model.matmul_precision'),
  *('model.remat_policy', 'model.initializer'),
)
_REMEDY = (
  'Choose another MODEL_DIR; to begin with the weights of this one, let '
  'INITIAL_CHECKPOINT_PATH name it.'
)
_MAX_SHOWN = 6  # Differences that a message names.

Settings = dict[str, Any]


def settings(arguments: Mapping[str, Any]) -> Settings:
  """Returns the settings of a run by name, as JSON values.

  Args:
    arguments: of `trainer.train`, with the model, the checkpoint_cfg and the
      train_dataset_cfg (with a seed) that the run uses.

  Returns:
    Such as 'schedule.warmup_steps' -> 100. Of training data in memory
    there is a digest, so that a file that was edited is noticed.
  """
  model, optimizer = arguments['model'], arguments['optimizer']
  partitioner = arguments['partitioner']
  initial = arguments['initial_checkpoint_path']
  decoding = arguments['decoding_options']
  custom = {'name': 'custom'}
  options = dict(optimizer.settings or custom)
  options.pop('learning_rate', None)
  # One value, which may be None in one run and a dictionary in another.
  options = {
    name: repr(value) if isinstance(value, Mapping) else value
    for name, value in options.items()
  }
  found = {
    'train': _describe_data(arguments['train_dataset_cfg']),
    'data': _describe_examples(arguments['train_dataset_cfg']),
    'initial_checkpoint_path': initial and str(files.absolute(initial)),
    'random_seed': arguments['random_seed'],
    'model': model.module.config.to_dict(),
    'loss': {
      'label_smoothing': model.label_smoothing,
      'z_loss': model.z_loss,
      'loss_normalizing_factor': model.loss_normalizing_factor,
    },
    'optimizer': options,
    'schedule': getattr(optimizer.learning_rate, 'settings', custom),
    'ema_decay': arguments['ema_decay'],
    'train_eval': _describe_data(arguments['train_eval_dataset_cfg']),
    'infer_eval': _describe_data(arguments['infer_eval_dataset_cfg']),
    'decoding_options': decoding
    and {k: str(v) for k, v in decoding.changed().items()},
    'checkpoint_cfg': dataclasses.asdict(arguments['checkpoint_cfg']),
    'mesh': dict(partitioner.mesh.shape),
    **{
      name: arguments[name]
      for name in (
        *('total_steps', 'eval_period', 'eval_steps', 'log_period'),
        'num_microbatches',
      )
    },
  }
  flat = _flatten(found)
  return json.loads(json.dumps(flat, default=str))  # Tuples become lists.


class Record:
  """The record of a MODEL_DIR, compared with the settings of a run."""

  def __init__(self, model_dir: epath.PathLike, settings: Settings):
    """Reads the record; writes nothing.

    Args:
      model_dir: local, or gs://.
      settings: of the run that is about to begin.

    Raises:
      UserError: the checkpoints there are those of another training, or no step
        is left and the settings of updates differ from those that were used.
    """
    self._model_dir = model_dir
    self._path = files.path(model_dir, 'MODEL_DIR') / FILE
    self._settings = settings
    self._entries = []
    steps = checkpoints.steps(model_dir)
    if steps and self._path.exists():
      # Of a run that wrote no checkpoint nothing is left.
      self._entries = [
        entry for entry in _read(self._path) if entry['first_step'] < steps[-1]
      ]
    old = {}
    if self._entries:
      old = self._entries[-1]['settings']
    elif steps:  # Of a run without a record the shape is known.
      model = checkpoints.read_config(model_dir)['model']
      old = {f'model.{name}': value for name, value in model.items()}
    # Another version may have other names.
    self._differences = {
      name: (value, settings[name])
      for name, value in old.items()
      if name in settings and value != settings[name]
    }
    if self._differences:
      if 'train.mixture_or_task_name' in self._differences:
        self._differences = {
          name: pair
          for name, pair in self._differences.items()
          if not name.startswith('data.')  # Of another task: all.
        }
      self._check(steps[-1])

  def _check(self, step: int) -> None:
    updates, others = self._those('updates'), self._those('another')
    if others:
      raise errors.UserError(
        f'{self._model_dir} holds checkpoints of another run: '
        f'{_list({**others, **updates})}. {_REMEDY}'
      )
    updates.pop('schedule.total_steps', None)  # Fewer steps train no others.
    if updates and step >= self._settings['total_steps']:
      raise errors.UserError(
        f'{self._model_dir} was trained to its end, step {step}, with other '
        f'settings, and nothing would be trained with these: {_list(updates)}. '
        f'{_REMEDY} To go on with other settings, raise TRAIN_STEPS.'
      )

  @contextlib.contextmanager
  def named_where_they_do_not_fit(self) -> Iterator[None]:
    """Lets a UserError within the context name settings, not arrays."""
    try:
      yield
    except errors.UserError as e:
      updates = self._those('updates')
      if not updates:
        raise
      raise errors.UserError(
        f'the state in {self._model_dir} is that of an optimizer with other '
        f'settings: {_list(updates)}. {_REMEDY}'
      ) from e

  def report(self) -> None:
    """Says what differs from the settings that were used before."""
    updates, free = self._those('updates'), self._those('free')
    if updates:
      reporting.logger.warning(
        'goes on with other settings: %s (%s keeps both)', _list(updates), FILE
      )
    if free:
      reporting.logger.info('settings that changed: %s', _list(free))

  def append(self, first_step: int) -> None:
    """Adds the settings to the file unless the last entry has the same.

    Args:
      first_step: number of updates that were made before.
    """
    if self._entries and not self._differences or jax.process_index():
      return
    entry = {'first_step': first_step, 'settings': self._settings}
    text = json.dumps([*self._entries, entry], indent=1) + '\n'
    files.write(self._path, text.encode())

  def _those(self, kind: str) -> dict[str, tuple[Any, Any]]:
    return {
      name: pair
      for name, pair in self._differences.items()
      if self._kind(name, *pair) == kind
    }

  def _kind(self, name: str, old: Any, new: Any) -> str:
    """Returns what a setting that differs makes of a run; see the module."""
    if name.startswith(_FREE):
      return 'free'
    is_update = name.startswith(_UPDATES)
    if name == 'train.batch_size':
      # The saved position in the data holds batches that were read ahead.
      is_update = not self._settings['checkpoint_cfg.save_dataset']
    elif name == 'initial_checkpoint_path':
      # It is read no more, and may have been deleted or moved since.
      is_update = new is None or (
        old is not None and not epath.Path(old).exists()
      )
    return 'updates' if is_update else 'another'


def _read(path: epath.Path) -> list[dict[str, Any]]:
  entries = strict_json.read(path, 'the record of the training')
  if not isinstance(entries, list) or not all(
    isinstance(entry, dict)
    and isinstance(entry.get('first_step'), int)
    and isinstance(entry.get('settings'), dict)
    for entry in entries
  ):
    raise errors.UserError(
      f'{path} is damaged: it must be a list of objects with "first_step" and '
      '"settings". Remove it to go on without a record of the training so far.'
    )
  return entries


def _list(differences: Mapping[str, tuple[Any, Any]]) -> str:
  """Names settings, each with both values."""
  lines = []
  for name, (old, new) in differences.items():
    if name.endswith('.sha256'):
      task = name.removeprefix('data.').removesuffix('.sha256')
      lines.append(f'the examples of {task} that are trained on changed')
    else:
      # Paths differ at their ends, which are not cut.
      shown = repr if name == 'initial_checkpoint_path' else checks.shown
      lines.append(f'{name} was {shown(old)}, is now {shown(new)}')
  more = len(lines) - _MAX_SHOWN
  lines = lines[:_MAX_SHOWN] + [f'and {more} more'] * (more > 0)
  return '; '.join(lines)


def _describe_data(cfg: data.DatasetConfig | None) -> Settings:
  if cfg is None:
    return {}
  described = {
    field.name: getattr(cfg, field.name)
    for field in dataclasses.fields(cfg)
    if field.name not in ('feature_converter', 'num_shards')
  }
  # A function may make it, with arguments from gin.
  converter = data.feature_converter(cfg)
  described['feature_converter'] = {
    'name': type(converter).__name__,
    **{
      name.strip('_'): value
      for name, value in vars(converter).items()
      if isinstance(value, bool | int | float | str | None)
    },
  }
  return described


def _describe_examples(cfg: data.DatasetConfig) -> Settings:
  """Returns for each task how its examples are made, and a digest of them."""
  described = {}
  for task in seqio.get_subtasks(data.get_task(cfg.mixture_or_task_name)):
    source = task.source
    found = {'split': cfg.split}
    if isinstance(source, subtasks.InMemoryDataSource):
      found['sha256'] = source.fingerprint(cfg.split)
    if isinstance(task, subtasks.DecomposableTask):
      found |= dataclasses.asdict(task.layout)
    described[task.name] = found
  return described


def _flatten(tree: Mapping[str, Any], prefix: str = '') -> Settings:
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat |= _flatten(value, f'{prefix}{name}.')
    else:
      flat[f'{prefix}{name}'] = value
  return flat
