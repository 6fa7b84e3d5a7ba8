# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X's checkpoints: MODEL_DIR/checkpoint_STEP, in its two formats.

T5X now writes through orbax, to `checkpoint_STEP/state`. Earlier, and for all
its public models, it wrote a msgpack file `checkpoint_STEP/checkpoint`, which
names a zarr array for each parameter. Both hold `target`, the parameters, and
`state`, the step and the optimizer's moments. Neither says what model it is of:
names and shapes do, except for what T5X's networks have built in (a maximal
distance of 128, an epsilon of 1e-6) and the vocabulary. If a config.json of
pid_jax lies beside the checkpoint, as `write_checkpoint` leaves it, it holds
the rest.

T5X has two networks. The minimal one keeps layers apart and has a position bias
for each stack; the scalable one stacks layers, splits attention kernels into
heads and has a bias in each layer. Both can be read; `write_checkpoint` writes
the one that the model's `scan_layers` asks for.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import dataclasses
import logging
import re
from typing import Any

from etils import epath
import flax
from flax import traverse_util
import numpy as np
import orbax.checkpoint as ocp

from pid_jax import adafactor
from pid_jax import checks
from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import files
from pid_jax.checkpoints import lazy_checkpoint
from pid_jax.checkpoints import names
from pid_jax.checkpoints import native
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import tensorstore_io
from pid_jax.checkpoints.tensors import Tensor
from pid_jax.network import axes as axes_lib

logger = logging.getLogger(__name__)

PREFIX = 'checkpoint_'
STATE = 'state'
LEGACY_FILE = 'checkpoint'

# Built into T5X's networks.
_BUILT_IN = {
  'relpos_num_buckets': 32,
  'relpos_max_distance': 128,
  'layer_norm_epsilon': 1e-6,
}


def matches(path: epath.Path) -> bool:
  """Whether a folder looks like a checkpoint of T5X's, or holds some."""
  return _is_step(path) or bool(steps(path))


def steps(path: epath.PathLike) -> list[int]:
  """Steps of the checkpoints in a MODEL_DIR of T5X's, in rising order."""
  path = epath.Path(path)
  if not path.is_dir():
    return []
  found = (re.fullmatch(rf'{PREFIX}([0-9]+)', p.name) for p in path.iterdir())
  return sorted(int(match[1]) for match in found if match)


def open_checkpoint(
  path: epath.PathLike, step: int | str | None = None
) -> lazy_checkpoint.LazyCheckpoint:
  """Opens a checkpoint; reads no weights.

  Args:
    path: of MODEL_DIR, or MODEL_DIR/checkpoint_STEP; local, or gs://.
    step: of a MODEL_DIR: a number, or None or 'last' for the last.

  Raises:
    UserError: no such step, or a damaged checkpoint.
  """
  path = tensorstore_io.absolute(path)
  if not _is_step(path):
    path = path / f'{PREFIX}{_resolve(path, step)}'
  if (path / STATE).is_dir():
    stored = tensorstore_io.open_tree(path / STATE)
  elif (path / LEGACY_FILE).is_file():
    stored = _open_legacy(path)
  else:
    raise errors.UserError(
      f'{path} holds neither {STATE}/ nor {LEGACY_FILE}: it is no checkpoint '
      'of T5X, or incomplete.'
    )
  target = {
    name.removeprefix('target/'): tensor
    for name, tensor in stored.items()
    if name.startswith('target/')
  }
  structure, axes = _structure(target, str(path))
  description: Mapping[str, Any] = {'model': None, 'task': {}}
  assumed = ()
  if (path.parent / native.CONFIG_FILE).exists():
    description = native.read_config(path.parent)
    config = config_lib.T5Config.from_dict(description['model'])
  else:
    config = infer_config(target, str(path))
    assumed = lazy_checkpoint.FUNCTION_FIELDS
  return lazy_checkpoint.LazyCheckpoint(
    path=str(path),
    config=config,
    tensors=names.to_plain(target, axes),
    task=description['task'],
    step=_read_step(stored, path),
    assumed=assumed,
    name_there=lambda name: f'target/{name}',
    read_vocabulary=lambda: native.read_vocabulary(path.parent, description),
    moments={} if _is_scalable(structure) else _moments(stored, target),
  )


def infer_config(
  target: Mapping[str, Tensor], where: str
) -> config_lib.T5Config:
  """Infers a model's configuration from the names and shapes of parameters.

  Args:
    target: of the checkpoint, by T5X's names.
    where: names the checkpoint in messages.

  Raises:
    UserError: it is no T5.
  """
  structure, axes = _structure(target, where)
  sizes: dict[str, int] = {}
  for name, tensor in target.items():
    if len(axes.get(name, ())) == len(tensor.shape):
      sizes.update(zip(axes[name], tensor.shape, strict=True))
  try:
    joined = (
      sizes['heads'] * sizes['kv'] if 'kv' in sizes else sizes['joined_kv']
    )
    return dataclasses.replace(
      structure,
      vocab_size=sizes['vocab'],
      num_tokens=sizes['vocab'],
      emb_dim=sizes['embed'],
      num_heads=sizes['heads'],
      head_dim=joined // sizes['heads'],
      mlp_dim=sizes['mlp'],
      relpos_num_buckets=sizes['relpos_buckets'],
    )
  except KeyError as e:
    raise _no_t5(target, where, f'no parameter with the axis {e}') from e


def _structure(
  target: Mapping[str, Tensor], where: str
) -> tuple[config_lib.T5Config, dict[str, axes_lib.Axes]]:
  """Reads off the names of parameters which network they are of.

  Args:
    target: of the checkpoint, by T5X's names.
    where: names the checkpoint in messages.

  Returns:
    A configuration that is right but for the sizes of axes, and the axes of the
    parameters in the checkpoint.

  Raises:
    UserError: it is no T5.
  """
  is_scanned = any(name.startswith('encoder/encoder/') for name in target)
  num_layers = {s: names.num_layers(target, s) for s in names.STACKS}
  if is_scanned:
    for stack in names.STACKS:
      norm = target.get(f'{stack}/{stack}/pre_mlp_layer_norm/scale')
      axes = axes_lib.with_layers(('embed',))
      if norm is not None and len(norm.shape) == len(axes):
        num_layers[stack] = norm.shape[axes.index(axes_lib.LAYERS)]
  if not all(num_layers.values()):
    raise _no_t5(target, where, 'no layers')
  is_gated = any(name.endswith('/mlp/wi_0/kernel') for name in target)
  structure = config_lib.T5Config(
    vocab_size=1,
    num_encoder_layers=num_layers['encoder'],
    num_decoder_layers=num_layers['decoder'],
    mlp_activations=('gelu', 'linear') if is_gated else ('relu',),
    logits_via_embedding=names.HEAD not in target,
    relpos_bias_per_layer='encoder/relpos_bias/rel_embedding' not in target,
    scan_layers=is_scanned,
  )
  axes = names.param_axes(structure)
  if _is_scalable(structure):
    axes = {name: names.split_heads(a) for name, a in axes.items()}
  return structure, axes


def _is_scalable(config: config_lib.T5Config) -> bool:
  """Whether a model is of T5X's scalable network, or of its minimal one."""
  return config.scan_layers or config.relpos_bias_per_layer


def _no_t5(
  target: Mapping[str, Tensor], where: str, reason: str
) -> errors.UserError:
  return errors.UserError(
    f'{where} does not have the parameters of a T5: {reason}. It has '
    f'{", ".join(sorted(target)[:8])}, ...'
  )


def write_checkpoint(
  folder: epath.PathLike,
  model: lazy_checkpoint.LazyCheckpoint,
  *,
  dtype: str = 'float32',
  with_optimizer: bool = False,
) -> None:
  """Writes a model, config.json and the vocabulary into an empty folder.

  T5X resumes from FOLDER/checkpoint_STEP with its Adafactor: with the moments
  of the model at its step, or else with none, at step 0.

  Args:
    folder: local, or gs://.
    model: is read into memory.
    dtype: 'float32' or 'bfloat16', of the parameters.
    with_optimizer: whether to take the moments of Adafactor along.

  Raises:
    UserError: moments are wanted that the model does not have, or whose form
      T5X's network would not take.
  """
  folder = tensorstore_io.absolute(folder)
  config = model.config
  for name, value in _BUILT_IN.items():
    if getattr(config, name) != value:
      logger.warning(
        "%s is %s here, but always %s in T5X's networks: they will not "
        'compute the same.', name, getattr(config, name), value,
      )  # fmt: skip
  scalable = _is_scalable(config)
  there = dataclasses.replace(config, relpos_bias_per_layer=scalable)
  sources = names.from_plain(
    model.fitted(config),
    there,
    num_heads=config.num_heads if scalable else None,
  )
  axes = names.param_axes(there)
  step = 0
  moments = {
    f'{name}/{kind}': np.zeros(shape, np.float32)
    for name, tensor in sources.items()
    for kind, shape in _moment_shapes(
      names.split_heads(axes[name]) if scalable else axes[name], tensor.shape
    ).items()
  }
  if with_optimizer:
    if scalable or not model.moments:
      raise errors.UserError(
        f"the optimizer's state of {model.path} cannot be converted to T5X's: "
        'that needs moments of Adafactor, and layers that are not scanned.'
      )
    step = model.step
    read = tensors_lib.read_all(model.moments, np.dtype(np.float32))
    for name, value in read.items():
      kind, _, parameter = name.partition('/')
      moments[f'{parameter}/{kind}'] = value
  params = tensors_lib.read_all(sources, tensors_lib.parse_dtype(dtype))
  tree = {
    'target': traverse_util.unflatten_dict(params, sep='/'),
    'state': {
      'step': np.array(step, np.int32),
      'param_states': traverse_util.unflatten_dict(moments, sep='/'),
    },
  }
  options = ocp.CheckpointManagerOptions(step_prefix=PREFIX.rstrip('_'))
  with ocp.CheckpointManager(folder, options=options) as manager:
    arguments = ocp.args.Composite(**{STATE: ocp.args.PyTreeSave(tree)})
    manager.save(step, args=arguments)
  native.write_config(
    folder,
    config=config,
    task=model.task,
    vocabulary=model.read_vocabulary(),
  )


def _is_step(path: epath.Path) -> bool:
  return re.fullmatch(rf'{PREFIX}[0-9]+', path.name) is not None and (
    (path / STATE).is_dir() or (path / LEGACY_FILE).is_file()
  )


def _resolve(path: epath.Path, step: int | str | None) -> int:
  available = steps(path)
  if step in (None, 'last') and available:
    return available[-1]
  if step not in available:
    raise errors.UserError(
      f'{path} has no checkpoint of step {step!r}; it has {available}.'
    )
  return int(step)


def _moments(
  stored: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> dict[str, Tensor]:
  """Adafactor's moments of a model with T5X's minimal network."""
  found = {}
  for parameter in target:
    for kind in adafactor.MOMENTS:
      moment = stored.get(f'state/param_states/{parameter}/{kind}')
      if moment is None:
        return {}
      found[f'{kind}/{parameter}'] = moment
  return found


def _moment_shapes(
  axes: axes_lib.Axes, shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of T5X's Adafactor state for a parameter.

  As T5X's `standard_logical_factor_rules` say, for T5's parameters: where one
  has more than two axes or is stacked, its rows are 'embed' and its columns all
  others but 'layers' and those of position biases. Others are factored by size.

  Args:
    axes: of the parameter in T5X's network.
    shape: of the parameter.
  """
  moments = dict.fromkeys(('m', *adafactor.MOMENTS), (1,))
  if axes_lib.LAYERS in axes or len(axes) > 2:
    not_columns = ('embed', axes_lib.LAYERS)
    rows = [i for i, axis in enumerate(axes) if axis == 'embed']
    columns = [i for i, axis in enumerate(axes) if axis not in not_columns]
    is_factored = bool(rows and columns)
  else:
    dims = adafactor.factored_dims(axes, shape)
    is_factored = dims is not None
    rows, columns = [[dim] for dim in dims] if is_factored else [[], []]
  if not is_factored:
    return {**moments, 'v': shape}
  keep = lambda dropped: tuple(
    n for i, n in enumerate(shape) if i not in dropped
  )
  return {**moments, 'v_row': keep(columns), 'v_col': keep(rows)}


def _read_step(stored: Mapping[str, Tensor], path: epath.Path) -> int:
  """Returns the number of updates; it names a folder where it is converted."""
  step = int(path.name.removeprefix(PREFIX))
  tensor = stored.get('state/step')
  if tensor is not None:
    if tensor.shape or tensor.dtype.kind not in 'iu':
      raise tensorstore_io.damaged(
        path, f'state/step is {tensor.dtype.name} {tensor.shape}, no integer'
      )
    step = int(tensor.read())
  return checks.integer(f'The step of {path}', step, 0, native.MAX_STEP)


def _open_legacy(path: epath.Path) -> dict[str, Tensor]:
  """Opens a checkpoint of T5X's legacy format, from before it used orbax."""
  file = path / LEGACY_FILE
  tensorstore_io.check_regular(path)
  try:
    # Flax's msgpack holds numbers, strings and arrays, and nothing that runs.
    content = flax.serialization.msgpack_restore(file.read_bytes())
    version, tree = content['version'], content['optimizer']
    entries = list(_walk(tree))
  except Exception as e:  # Whatever a damaged file makes msgpack raise.
    raise errors.UserError(
      f"{file} is damaged, or not of T5X's format: {type(e).__name__}: {e}."
    ) from e
  if version not in (2, 3):
    raise errors.UserError(
      f'{file} is of version {version!r}; 2 and 3 can be read.'
    )
  found, specs = {}, {}
  for name, leaf in entries:
    if isinstance(leaf, Mapping):
      specs[name] = _legacy_spec(path, name, leaf)
    elif leaf is not None:
      found[name] = tensors_lib.of_array(name, np.asarray(leaf))
  return {**found, **tensorstore_io.open_arrays(specs, path)}


def _walk(node: Any, name: str = '') -> Iterator[tuple[str, Any]]:
  """Yields the leaves of a msgpack tree: arrays, and specs of arrays."""
  if not isinstance(node, Mapping) or {'driver', 'kvstore'} <= set(node):
    yield name, node
    return
  for key, child in node.items():
    yield from _walk(child, f'{name}/{key}' if name else str(key))


def _legacy_spec(
  path: epath.Path, name: str, spec: Mapping[str, Any]
) -> dict[str, Any]:
  """TensorStore's spec of an array that T5X's file names.

  Only the folder's name is used: a spec may not point outside the checkpoint.
  """
  try:
    path_there = spec['kvstore'].get('path') or spec['path']
    folder = path_there.rstrip('/').rsplit('/')[-1]
  except (KeyError, TypeError, AttributeError) as e:
    raise errors.UserError(
      f'{path / LEGACY_FILE} does not say where {name} is: '
      f'{checks.shown(spec)}.'
    ) from e
  is_name = path_there.strip('/') == folder and '\0' not in folder
  if not is_name or folder in ('..', '.', ''):
    raise errors.UserError(
      f'{path / LEGACY_FILE} names a path outside its folder for {name}: '
      f'{checks.shown(path_there)}.'
    )
  with files.explained(f'cannot read {path}'):
    is_there = (path / folder / '.zarray').exists()
  if not is_there:
    raise errors.UserError(
      f'{path} lacks {checks.shown(folder)}, which {LEGACY_FILE} names for '
      f'{name}.'
    )
  # Moments that are all zero may have no file.
  is_moment = not name.startswith('target/')
  return tensorstore_io.zarr_spec(path / folder, omits_zeros=is_moment)
