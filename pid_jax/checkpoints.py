# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a trained model is on disk, and how to load one.

    MODEL_DIR/config.json             shape of the model, vocabulary, task
    MODEL_DIR/vocabulary.model        SentencePiece, a copy
    MODEL_DIR/checkpoints/STEP/params     the parameters to serve (orbax)
    MODEL_DIR/checkpoints/STEP/state      optimizer state (orbax)
    MODEL_DIR/checkpoints/STEP/data       position in the training data
    MODEL_DIR/checkpoints/STEP/metrics    of the evaluation at that step
    MODEL_DIR/tensorboard             events

The trainer writes the steps; this module writes and reads the rest, compares
shapes before anything is allocated, and needs no TensorFlow.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

from etils import epath
import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import network
from pid_jax import partitioning
from pid_jax import vocabulary as vocabulary_lib

PyTree = Any

CONFIG_FILE = 'config.json'
VOCABULARY_FILE = 'vocabulary.model'
CHECKPOINTS = 'checkpoints'
PARAMS = 'params'


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A trained model in memory.

  Attributes:
    config: shape of the network.
    params: float32 nested dict, as the network's 'params' collection.
    vocabulary: of inputs, prompts and targets; None where the task had none.
    task: what it was trained on: 'name', 'layout', 'long_inputs',
      'feature_lengths', and 'newline' if a sentinel stood for newlines.
    step: the number of updates that made these parameters.
  """

  config: config_lib.T5Config
  params: PyTree
  vocabulary: vocabulary_lib.Vocabulary | None
  task: Mapping[str, Any]
  step: int


def load(
  model_dir: epath.PathLike,
  step: int | str | None = None,
  partitioner: partitioning.Partitioner | None = None,
) -> Pretrained:
  """Loads a model that was trained with `python -m pid_jax.train`.

  Args:
    model_dir: local or gs://.
    step: a number, 'best' (by the metric that the run named), 'last', or None
      for 'best' where there is one, else 'last'.
    partitioner: places the parameters on its mesh; None on the first device.

  Raises:
    UserError: no such directory, step or vocabulary, or parameters that do not
      fit config.json.
  """
  model_dir = epath.Path(model_dir)
  description = read_config(model_dir)
  config = config_lib.T5Config.from_dict(description['model'])
  step = resolve_step(model_dir, step)
  params = restore_params(model_dir, step, abstract_params(config, partitioner))
  vocabulary = None
  if description.get('vocabulary'):
    vocabulary = vocabulary_lib.Vocabulary(
      model_dir / description['vocabulary']['file'],
      extra_ids=description['vocabulary']['extra_ids'],
    )
    if vocabulary.sha256 != description['vocabulary']['sha256']:
      raise errors.UserError(
        f'{vocabulary.path} is not the vocabulary that the model was trained '
        'with (its SHA-256 differs from that in config.json).'
      )
  return Pretrained(config, params, vocabulary, description['task'], step)


def abstract_params(
  config: config_lib.T5Config,
  partitioner: partitioning.Partitioner | None = None,
) -> PyTree:
  """Shapes, float32 dtypes and shardings of a network's parameters."""
  if partitioner is None:
    partitioner = partitioning.Partitioner(devices=jax.local_devices()[:1])
  tokens = jnp.ones((1, 8), jnp.int32)
  init = functools.partial(
    network.Transformer(config).init, enable_dropout=False
  )
  with partitioner.scope():
    variables = jax.eval_shape(init, jax.random.key(0), tokens, tokens)
  shardings = partitioner.param_shardings(
    variables['params'], variables.get('params_axes', {})
  )
  return jax.tree.map(
    lambda leaf, sharding: jax.ShapeDtypeStruct(
      leaf.shape, jnp.float32, sharding=sharding
    ),
    variables['params'],
    shardings,
  )


def restore_params(
  model_dir: epath.PathLike, step: int, wanted: PyTree
) -> PyTree:
  """Reads the parameters of one step.

  Args:
    model_dir: local or gs://.
    step: a step that exists.
    wanted: ShapeDtypeStructs with shardings.

  Returns:
    The tree of `wanted` with arrays.

  Raises:
    UserError: naming the parameters that are missing, superfluous or of
      another shape. Nothing has been allocated by then.
  """
  path = checkpoints_path(model_dir) / str(step) / PARAMS
  check_shapes(saved_shapes(path), wanted, str(path))
  with ocp.StandardCheckpointer() as checkpointer:
    return checkpointer.restore(path, wanted)


def saved_shapes(path: epath.PathLike) -> dict[str, tuple[int, ...]]:
  """Reads the shapes of a saved tree, from its metadata alone.

  Args:
    path: of an orbax tree, such as MODEL_DIR/checkpoints/100/params.

  Returns:
    'a/b/c' -> shape.
  """
  path = _absolute(path)
  if not path.is_dir():
    raise errors.UserError(f'There is no checkpoint at {path}.')
  with ocp.PyTreeCheckpointer() as checkpointer:
    tree = checkpointer.metadata(path).item_metadata.tree
  return _shapes(tree)


def check_shapes(
  saved: Mapping[str, tuple[int, ...]], wanted: PyTree, where: str
) -> None:
  """Compares a checkpoint's shapes with the model's.

  Args:
    saved: from `saved_shapes`.
    wanted: a tree of arrays or ShapeDtypeStructs.
    where: names the checkpoint in the message.

  Raises:
    UserError: naming all parameters that differ, at most eight of each kind.
  """
  wanted = _shapes(wanted)
  both = [k for k in wanted if k in saved]
  faults = [
    _list_some(
      'of another shape',
      [
        f'{k} is {saved[k]} there, {wanted[k]} here'
        for k in both
        if saved[k] != wanted[k]
      ],
    ),
    _list_some('missing there', [k for k in wanted if k not in saved]),
    _list_some('unknown here', [k for k in saved if k not in wanted]),
  ]
  faults = [fault for fault in faults if fault]
  if faults:
    raise errors.UserError(
      f'The checkpoint {where} does not fit the model: {". ".join(faults)}. '
      'Set the T5Config that it was trained with.'
    )


def checkpoints_path(model_dir: epath.PathLike) -> epath.Path:
  """The folder of all steps, absolute, as orbax demands."""
  return _absolute(model_dir) / CHECKPOINTS


def steps(model_dir: epath.PathLike) -> list[int]:
  """Steps with a whole checkpoint, in rising order."""
  path = checkpoints_path(model_dir)
  if not path.is_dir():
    return []
  return sorted(ocp.utils.checkpoint_steps(path))


def resolve_step(
  model_dir: epath.PathLike, step: int | str | None = None
) -> int:
  """Turns 'best', 'last', None or a number into a step that exists.

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
  """Metrics of the evaluation at a step; empty where there was none."""
  path = checkpoints_path(model_dir) / str(step) / 'metrics/metrics'
  return json.loads(path.read_text()) if path.exists() else {}


def read_config(model_dir: epath.PathLike) -> dict[str, Any]:
  """Reads MODEL_DIR/config.json.

  Raises:
    UserError: there is none, or it is not what `write_config` writes.
  """
  path = epath.Path(model_dir) / CONFIG_FILE
  if not path.exists():
    raise errors.UserError(
      f'{path} does not exist: {model_dir} is not the MODEL_DIR of a trained '
      'model.'
    )
  try:
    description = json.loads(path.read_text())
    description['model'], description['task']
  except (json.JSONDecodeError, KeyError, TypeError) as e:
    raise errors.UserError(
      f'{path} is damaged: {type(e).__name__}: {e}.'
    ) from e
  return description


def write_config(
  model_dir: epath.PathLike,
  *,
  config: config_lib.T5Config,
  task: Mapping[str, Any],
  vocabulary_path: epath.PathLike | None = None,
  extra_ids: int = 0,
  selection: Mapping[str, str] | None = None,
) -> None:
  """Writes config.json and vocabulary.model, each whole or not at all.

  Args:
    model_dir: made if it does not exist.
    config: shape of the model.
    task: JSON values, those of Pretrained.task.
    vocabulary_path: a SentencePiece model to copy, or None.
    extra_ids: sentinels that SeqIO adds behind the vocabulary's own ids.
    selection: {'metric': name, 'mode': 'max' or 'min'}: what makes a checkpoint
      the best one.

  Raises:
    UserError: the directory belongs to a model of another shape or vocabulary.
  """
  model_dir = epath.Path(model_dir)
  model_dir.mkdir(parents=True, exist_ok=True)
  description = {'model': config.to_dict(), 'vocabulary': None, 'task': task}
  if selection:
    description['selection'] = dict(selection)
  if vocabulary_path is not None:
    try:
      content = epath.Path(vocabulary_path).read_bytes()
    except OSError as e:
      raise errors.UserError(f'Cannot read the vocabulary: {e}.') from e
    description['vocabulary'] = {
      'file': VOCABULARY_FILE,
      'extra_ids': extra_ids,
      'sha256': hashlib.sha256(content).hexdigest(),
    }
  if steps(model_dir):
    _check_same_model(model_dir, read_config(model_dir), description)
  if vocabulary_path is not None:
    _write_whole(model_dir / VOCABULARY_FILE, content)
  text = json.dumps(description, indent=2) + '\n'
  _write_whole(model_dir / CONFIG_FILE, text.encode())


# Fields of T5Config that change how to compute, not what the parameters are.
_FREE_FIELDS = ('dtype', 'dropout_rate', 'remat_policy', 'initializer')


def _check_same_model(model_dir, old, new):
  """Raises UserError where a run would go on with another model's weights."""
  faults = [
    f'{name} was {value!r}, is now {new["model"].get(name)!r}'
    for name, value in old['model'].items()
    if name not in _FREE_FIELDS and new['model'].get(name) != value
  ]
  if old['vocabulary'] != new['vocabulary']:
    faults.append('the vocabulary is another one')
  if faults:
    raise errors.UserError(
      f'{model_dir} holds checkpoints of another model: '
      f'{"; ".join(faults)}. Choose another MODEL_DIR.'
    )


def _best_step(model_dir, available) -> int | None:
  selection = read_config(model_dir).get('selection')
  if not selection:
    return None
  sign = 1 if selection['mode'] == 'max' else -1
  values = {}
  for step in available:
    value = read_metrics(model_dir, step).get(selection['metric'])
    if value is not None:
      values[step] = sign * value
  # Of equals the last, which is also the one that the trainer keeps.
  return max(values, key=lambda s: (values[s], s)) if values else None


def _shapes(tree: PyTree) -> dict[str, tuple[int, ...]]:
  return {
    jax.tree_util.keystr(path, simple=True, separator='/'): tuple(leaf.shape)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
  }


def _absolute(path: epath.PathLike) -> epath.Path:
  path = epath.Path(path)
  if path.is_absolute():  # As gs://... is; Path.absolute would not know.
    return path
  return epath.Path(os.path.abspath(path))


def _list_some(what: str, items: list[str]) -> str:
  if not items:
    return ''
  more = f' and {len(items) - 8} more' if len(items) > 8 else ''
  return f'{len(items)} {what}: {", ".join(items[:8])}{more}'


def _write_whole(path: epath.Path, content: bytes) -> None:
  """Writes a file so that it is never seen half-written."""
  scratch = path.with_name(path.name + '.tmp')
  scratch.write_bytes(content)
  scratch.replace(path)
