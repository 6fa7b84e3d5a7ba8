# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The native format of checkpoints: what a trained model is on disk.

    MODEL_DIR/config.json             shape of the model, vocabulary, task, and
                                      a checksum of these
    MODEL_DIR/training.json           settings of the training
    MODEL_DIR/vocabulary.model        SentencePiece, a copy
    MODEL_DIR/checkpoints/STEP/params     the parameters to serve (orbax)
    MODEL_DIR/checkpoints/STEP/state      optimizer state (orbax)
    MODEL_DIR/checkpoints/STEP/data       position in the training data
    MODEL_DIR/checkpoints/STEP/metrics    of the evaluation at that step
    MODEL_DIR/tensorboard             events

The trainer writes the steps; this module writes and reads the rest, and makes a
MODEL_DIR of a model in another format.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import json
import math
import re
from typing import Any
import zlib

from etils import epath
from flax import traverse_util
import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from pid_jax import adafactor
from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import files
from pid_jax import strict_json
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.checkpoints import lazy_checkpoint
from pid_jax.checkpoints import names
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import tensorstore_io
from pid_jax.checkpoints import trees
from pid_jax.subtasks import examples

PyTree = Any

CONFIG_FILE = 'config.json'
VOCABULARY_FILE = 'vocabulary.model'
CHECKPOINTS = 'checkpoints'
PARAMS = 'params'
STATE = 'state'
_CHECKSUM = 'checksum'  # Of the others in config.json, and of metrics.
MAX_STEP = 2**31 - 1  # Steps are int32.
_FIELDS = ('model', 'vocabulary', 'task', 'selection')  # Of config.json.


def matches(path: epath.Path) -> bool:
  """Whether a folder looks like a MODEL_DIR of pid_jax, or one of its steps."""
  return _is_step(path) or (path / CHECKPOINTS).is_dir()


def open_checkpoint(
  path: epath.PathLike, step: int | str | None = None
) -> lazy_checkpoint.LazyCheckpoint:
  """Opens a step; reads no weights.

  Args:
    path: MODEL_DIR, or MODEL_DIR/checkpoints/STEP; local, or gs://.
    step: of a MODEL_DIR: see `resolve_step`.

  Raises:
    UserError: no such directory, step or vocabulary, or a damaged checkpoint.
  """
  model_dir = tensorstore_io.absolute(path)
  if _is_step(model_dir):
    model_dir, step = model_dir.parent.parent, int(model_dir.name)
  description = read_config(model_dir)
  config = config_lib.T5Config.from_dict(description['model'])
  step = resolve_step(model_dir, step)
  folder = checkpoints_path(model_dir) / str(step)
  stored = tensorstore_io.open_tree(folder / PARAMS)
  return lazy_checkpoint.LazyCheckpoint(
    path=str(folder / PARAMS),
    config=config,
    tensors=names.to_plain(stored, names.param_axes(config)),
    task=description['task'],
    step=step,
    read_vocabulary=lambda: read_vocabulary(model_dir, description),
    moments=_open_moments(folder, config, stored),
  )


def write_checkpoint(
  folder: epath.PathLike,
  model: lazy_checkpoint.LazyCheckpoint,
  *,
  dtype: str = 'float32',
  with_optimizer: bool = False,
) -> None:
  """Writes a model into an empty folder, as a MODEL_DIR with one step.

  With the optimizer's state, a training run of this MODEL_DIR resumes at the
  step, if its optimizer is `optimizers.adafactor` without first moments and
  without clipping of the gradient's norm, as T5's.

  Args:
    folder: local, or gs://.
    model: is read into memory.
    dtype: 'float32' or 'bfloat16', of the parameters.
    with_optimizer: whether to take the moments of Adafactor along.

  Raises:
    UserError: moments are wanted that the model does not have.
  """
  folder, config = tensorstore_io.absolute(folder), model.config
  sources = names.from_plain(model.fitted(config), config)
  items = {
    PARAMS: traverse_util.unflatten_dict(
      tensors_lib.read_all(sources, tensors_lib.parse_dtype(dtype)), sep='/'
    )
  }
  if with_optimizer:
    if config.scan_layers or not model.moments:
      raise errors.UserError(
        f"the optimizer's state of {model.path} cannot be converted: that "
        'needs moments of Adafactor, and layers that are not scanned.'
      )
    items[STATE] = _train_state(items[PARAMS], model)
  write_config(
    folder,
    config=config,
    task=model.task,
    vocabulary=model.read_vocabulary(),
  )
  for name, item in items.items():
    with ocp.Checkpointer(trees.TreeHandler()) as checkpointer:
      target = folder / CHECKPOINTS / str(model.step) / name
      checkpointer.save(target, args=trees.TreeSave(item))


def check_saved(path: epath.PathLike, wanted: PyTree) -> None:
  """Compares the shapes of a saved tree with those of another, name by name.

  Args:
    path: of an orbax tree, such as MODEL_DIR/checkpoints/100/params.
    wanted: a tree of arrays or ShapeDtypeStructs.

  Raises:
    UserError: there is no such tree, or it is damaged; or naming parameters
      that differ, at most three of each kind.
  """
  shapes = lambda flat: {name: tuple(x.shape) for name, x in flat.items()}
  wanted = shapes(tensors_lib.flatten(wanted))
  saved = shapes(tensorstore_io.open_tree(path))
  remedy = lazy_checkpoint.SET_CONFIG
  if any(name.startswith('opt_state/') for name in wanted):
    has_ema = [any(k.startswith('params/') for k in x) for x in (saved, wanted)]
    what = 'optimizer' if has_ema[0] == has_ema[1] else 'ema_decay'
    remedy = (
      f'Set the {what} that it was trained with. To begin with its '
      'parameters alone, choose another MODEL_DIR, and let '
      'INITIAL_CHECKPOINT_PATH name this one.'
    )
  lazy_checkpoint.check_shapes(saved, wanted, str(path), remedy=remedy)


def checkpoints_path(model_dir: epath.PathLike) -> epath.Path:
  """The folder of all steps, absolute, as orbax demands."""
  return tensorstore_io.absolute(model_dir) / CHECKPOINTS


def steps(model_dir: epath.PathLike) -> list[int]:
  """Steps with a whole checkpoint, in rising order."""
  path = checkpoints_path(model_dir)
  if not path.is_dir():
    return []
  return sorted(ocp.utils.checkpoint_steps(path))


def resolve_step(
  model_dir: epath.PathLike, step: int | str | None = None
) -> int:
  """Resolves 'best', 'last', None or a number to a step that exists.

  Raises:
    UserError: there is no such checkpoint.
  """
  available = steps(model_dir)
  if not available:
    raise errors.UserError(
      f'{model_dir} holds no checkpoint yet: train a model there first, or '
      'give the MODEL_DIR of one.'
    )
  if step == 'last':
    return available[-1]
  if step in (None, 'best'):
    best = _best_step(model_dir, available)
    if best is None and step == 'best':
      raise errors.UserError(
        f'No checkpoint in {model_dir} is known to be best, because the run '
        "named no metric to choose by. Ask for 'last' or for one of "
        f'{available}.'
      )
    return available[-1] if best is None else best
  if step not in available:
    raise errors.UserError(
      f'{model_dir} has no checkpoint of step {step!r}; it has {available}.'
    )
  return int(step)


def read_metrics(model_dir: epath.PathLike, step: int) -> dict[str, float]:
  """Returns the metrics of a step's evaluation; empty where there was none.

  Raises:
    UserError: the file is damaged.
  """
  path = checkpoints_path(model_dir) / str(step) / 'metrics/metrics'
  if not path.exists():
    return {}
  # Of a metric that is not finite, as Python writes it.
  metrics = strict_json.read_object(path, 'the metrics', allow_nan=True)
  recorded = metrics.pop(_CHECKSUM, None)
  for name, value in metrics.items():
    if isinstance(value, bool) or not isinstance(value, int | float):
      raise errors.UserError(
        f'{path}: {checks.shown(name)} must be a number; got '
        f'{checks.shown(value)}.'
      )
  if recorded not in (None, with_checksum(metrics)[_CHECKSUM]):
    raise errors.UserError(
      f'{path} is damaged: its checksum differs. Use another copy, or '
      'delete it: the step then has no metrics.'
    )
  return metrics


def with_checksum(metrics: Mapping[str, float]) -> dict[str, float]:
  """Returns metrics as they are written, so that `read_metrics` can check."""
  values = {name: float(value) for name, value in metrics.items()}
  return {**values, _CHECKSUM: int(_checksum(values), 16)}


def read_config(model_dir: epath.PathLike) -> dict[str, Any]:
  """Reads MODEL_DIR/config.json.

  Raises:
    UserError: there is none, or it is not what `write_config` writes; of the
      model every field is checked.
  """
  path = files.path(model_dir, 'MODEL_DIR') / CONFIG_FILE
  if not path.exists():
    raise errors.UserError(
      f'{path} does not exist: {model_dir} is not the MODEL_DIR of a trained '
      'model.'
    )
  description = strict_json.read_object(path, 'the configuration')
  if 'model_type' in description:
    raise errors.UserError(
      f"{model_dir} is a model of Hugging Face's, not the MODEL_DIR of a "
      'training here: python -m pid_jax.convert makes one of it.'
    )
  recorded = description.pop(_CHECKSUM, None)
  try:
    _check_description(description)
    if recorded not in (None, _checksum(description)):
      raise errors.UserError(
        'its content does not have its "checksum", so the file is damaged or '
        'was edited. Use another copy; or, if you edited it, delete the line '
        'with "checksum".'
      )
  except errors.UserError as e:
    raise errors.UserError(f'{path}: {e}') from e
  return description


def _check_description(description: Mapping[str, Any]) -> None:
  """Checks every field of config.json by type and range."""
  for name in description:
    if name not in _FIELDS:
      raise errors.unknown('field', name, [*_FIELDS, _CHECKSUM])
  config_lib.T5Config.from_dict(description.get('model'))
  check_task(description.get('task'))
  selection = checks.mapping('selection', description.get('selection') or {})
  if selection:
    checks.string('selection.metric', selection.get('metric'))
    checks.one_of('selection.mode', selection.get('mode'), ('max', 'min'))
  entry = checks.mapping('vocabulary', description.get('vocabulary') or {})
  if not entry:
    return
  checks.integer(
    'vocabulary.extra_ids', entry.get('extra_ids'), 0, checks.MOST_EXTRA_IDS
  )
  if entry.get('kind') == 'bytes':
    name = 'vocabulary.sentinels_in_text'
    checks.boolean(name, entry.get('sentinels_in_text'))
    return
  # Its name only: no field may lead out of the folder.
  checks.one_of('vocabulary.file', entry.get('file'), (VOCABULARY_FILE,))
  checks.string('vocabulary.sha256', entry.get('sha256'))


def check_task(task: Any) -> Mapping[str, Any]:
  """Checks what a checkpoint says of its training; returns it.

  Raises:
    UserError: a field is not of its type.
  """
  task = checks.mapping('task', task)
  for name in ('name', 'layout', 'long_inputs', 'newline'):
    if name in task:
      checks.string(f'task.{name}', task[name])
  if 'long_inputs' in task:
    ways = examples.LONG_INPUTS
    checks.one_of('task.long_inputs', task['long_inputs'], ways)
  lengths = checks.mapping(
    'task.feature_lengths', task.get('feature_lengths', {})
  )
  for name, length in lengths.items():
    label = f'task.feature_lengths.{name}'
    checks.integer(label, length, 1, config_lib.MAX_DIM)
  return task


def _checksum(description: Mapping[str, Any]) -> str:
  content = json.dumps(description, sort_keys=True).encode()
  return f'{zlib.crc32(content):08x}'


def read_vocabulary(
  model_dir: epath.PathLike, description: Mapping[str, Any]
) -> vocabulary_lib.AnyVocabulary | None:
  """Reads the vocabulary that config.json names; None: it names none.

  Args:
    model_dir: local, or gs://.
    description: from `read_config`, which has checked it.

  Raises:
    UserError: it is not there, or is another one.
  """
  entry = description.get('vocabulary')
  if not entry:
    return None
  if entry.get('kind') == 'bytes':
    return vocabulary_lib.ByteVocabulary(
      entry['extra_ids'], sentinels_in_text=entry['sentinels_in_text']
    )
  vocabulary = vocabulary_lib.Vocabulary(
    files.path(model_dir) / entry['file'], extra_ids=entry['extra_ids']
  )
  if vocabulary.sha256 != entry['sha256']:
    raise errors.UserError(
      f'{vocabulary.path} is not the vocabulary that the model was trained '
      'with (its SHA-256 differs from that in config.json).'
    )
  return vocabulary


def write_config(
  model_dir: epath.PathLike,
  *,
  config: config_lib.T5Config,
  task: Mapping[str, Any],
  vocabulary: vocabulary_lib.AnyVocabulary | None = None,
  selection: Mapping[str, str] | None = None,
) -> None:
  """Writes config.json and vocabulary.model, each whole or not at all.

  Args:
    model_dir: made if it does not exist.
    config: shape of the model.
    task: JSON values, those of Pretrained.task.
    vocabulary: of inputs, prompts and targets; None: not known.
    selection: {'metric': name, 'mode': 'max' or 'min'}: what makes a checkpoint
      the best one.

  Raises:
    UserError: the directory belongs to a model of another shape, vocabulary or
      task, or its config.json to another program.
  """
  model_dir = files.path(model_dir, 'MODEL_DIR')
  with files.explained(f'cannot write to MODEL_DIR {model_dir}'):
    model_dir.mkdir(parents=True, exist_ok=True)
  description = {'model': config.to_dict(), 'vocabulary': None, 'task': task}
  if selection:
    description['selection'] = dict(selection)
  if isinstance(vocabulary, vocabulary_lib.ByteVocabulary):
    description['vocabulary'] = {
      'kind': 'bytes',
      'extra_ids': vocabulary.extra_ids,
      'sentinels_in_text': vocabulary.sentinels_in_text,
    }
  elif vocabulary is not None:
    description['vocabulary'] = {
      'file': VOCABULARY_FILE,
      'extra_ids': vocabulary.extra_ids,
      'sha256': vocabulary.sha256,
    }
  if steps(model_dir):
    old = read_config(model_dir)
    if _has_same_ids(model_dir, old, description, vocabulary):
      # What the weights were trained with stays.
      description['vocabulary'], vocabulary = old['vocabulary'], None
    _check_same_run(model_dir, old, description)
  else:
    check_own(model_dir)
  description[_CHECKSUM] = _checksum(description)
  text = json.dumps(description, indent=2) + '\n'
  # First, since it shows whose the other files are.
  files.write(model_dir / CONFIG_FILE, text.encode())
  if isinstance(vocabulary, vocabulary_lib.Vocabulary):
    files.write(model_dir / VOCABULARY_FILE, vocabulary.model_bytes)


def check_own(model_dir: epath.PathLike, others: Sequence[str] = ()) -> None:
  """Checks that training in a folder replaces no file that is not a run's.

  Args:
    model_dir: need not exist.
    others: names of files that a run writes besides those of `write_config`.

  Raises:
    UserError: it holds no configuration of a run, but a file of such a name.
  """
  folder = files.path(model_dir, 'MODEL_DIR')
  config = folder / CONFIG_FILE
  with files.explained(f'cannot read MODEL_DIR {folder}'):
    if config.exists():
      try:
        if 'model' in strict_json.read_object(config, 'the configuration'):
          return
      except errors.UserError:
        pass  # It is none of ours.
    for name in (CONFIG_FILE, VOCABULARY_FILE, *others):
      if (folder / name).exists():
        raise errors.UserError(
          f'{folder / name} is not from a run of pid_jax and stays as it is: '
          'choose another MODEL_DIR'
        )


def _has_same_ids(model_dir, old, new, vocabulary) -> bool:
  """Whether a vocabulary is another file with the ids of the old one."""
  entries = old.get('vocabulary'), new['vocabulary']
  if None in entries or entries[0] == entries[1]:
    return False
  own = read_vocabulary(model_dir, old)
  return (
    own.extra_ids == vocabulary.extra_ids
    and vocabulary_lib.first_difference(own, vocabulary) is None
  )


# A resumed run reads its whole state, and whether its arrays are stacked must
# not change.
_FREE_FIELDS = set(config_lib.FREE_FIELDS) - {'scan_layers'}


def _check_same_run(model_dir, old, new):
  """Raises UserError where a run would go on with another model's weights."""
  faults = [
    f'{name} was {value!r}, is now {new["model"].get(name)!r}'
    for name, value in old['model'].items()
    if name not in _FREE_FIELDS and new['model'].get(name) != value
  ]
  if old.get('vocabulary') != new['vocabulary']:
    faults.append('the vocabulary is another one')
  for name, was in old['task'].items():  # Of a converted model, not all.
    now = new['task'].get(name)
    if was != now:
      faults.append(f"the task's {name} was {was!r}, is now {now!r}")
  if faults:
    raise errors.UserError(
      f'{model_dir} holds checkpoints of another run: {"; ".join(faults)}. '
      'Choose another MODEL_DIR; to begin with the weights of this one, let '
      'INITIAL_CHECKPOINT_PATH name it.'
    )


def _best_step(model_dir, available) -> int | None:
  selection = read_config(model_dir).get('selection')
  if not selection:
    return None
  sign = 1 if selection['mode'] == 'max' else -1
  values = {}
  for step in available:
    value = read_metrics(model_dir, step).get(selection['metric'])
    if value is not None and not math.isnan(value):
      values[step] = sign * value
  # Of equals the last, which is also the one that the trainer keeps.
  return max(values, key=lambda s: (values[s], s)) if values else None


def _is_step(path: epath.Path) -> bool:
  is_step = re.fullmatch('[0-9]+', path.name) is not None
  return is_step and path.parent.name == CHECKPOINTS


def _open_moments(
  folder: epath.Path,
  config: config_lib.T5Config,
  params: Mapping[str, tensors_lib.Tensor],
) -> dict[str, tensors_lib.Tensor]:
  """Adafactor's moments, wherever in the optimizer's state they are."""
  if config.scan_layers or not (folder / STATE).is_dir():
    return {}
  state = tensorstore_io.open_tree(folder / STATE)
  kinds = '|'.join(adafactor.MOMENTS)
  found = {}
  for name, tensor in state.items():
    match = re.fullmatch(rf'opt_state/[\d/]*({kinds})/(.+)', name)
    if match and match[2] in params:
      found[f'{match[1]}/{match[2]}'] = tensor
  is_whole = len(found) == len(adafactor.MOMENTS) * len(params)
  return found if is_whole else {}


def _train_state(
  params: PyTree, model: lazy_checkpoint.LazyCheckpoint
) -> PyTree:
  """The state of a run with T5's Adafactor after `model.step` steps."""
  transformation = optax.chain(
    adafactor.adafactor(
      names.param_axes(model.config), optax.constant_schedule(0.0)
    )
  )
  state = jax.eval_shape(transformation.init, params)
  moments = tensors_lib.read_all(model.moments, np.dtype(np.float32))
  step = np.array(model.step, np.int32)
  paths, treedef = jax.tree_util.tree_flatten_with_path(state)
  leaves = []
  for path, _ in paths:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    name = re.sub(r'^[\d/]*', '', name)  # Without the indices in the chain.
    leaves.append(step if name == 'count' else moments[name])
  return {
    'step': step,
    'opt_state': jax.tree_util.tree_unflatten(treedef, leaves),
  }
