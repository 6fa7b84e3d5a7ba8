# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5X's checkpoints: MODEL_DIR/checkpoint_STEP, of today and of old.

Today T5X writes through orbax, to `checkpoint_STEP/state`. Before, and for all
its public models, it wrote a msgpack file `checkpoint_STEP/checkpoint`, which
names a zarr array for each parameter. Both hold `target`, the parameters, and
`state`, the step and the optimizer's moments. Neither says what model it is of:
the shapes do, but for what T5X's networks have built in (a maximal distance of
128, an epsilon of 1e-6) and the vocabulary. Where our config.json lies beside
the checkpoint, as in what we write, it tells the rest.

Of T5X's two networks, the minimal one has layers apart and a position bias for
each stack, the scalable one stacks layers and has a bias in each: we write the
one that the model's `scan_layers` calls for, and read both.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import logging
import re
from typing import Any

from etils import epath
import flax
import numpy as np
import orbax.checkpoint as ocp

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.checkpoints import lazy_checkpoint
from pid_jax.checkpoints import names
from pid_jax.checkpoints import native
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints import tensorstore_io
from pid_jax.checkpoints.tensors import Tensor

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
_MOMENTS = ('v', 'v_row', 'v_col')
# Adafactor's default: kernels with a smaller second dimension are not factored.
_MIN_DIM_TO_FACTOR = 128


def matches(path: epath.Path) -> bool:
  """Whether a folder looks like a checkpoint of T5X's, or holds some."""
  return _is_step(path) or bool(steps(path))


def steps(path: epath.PathLike) -> list[int]:
  """Steps of the checkpoints in a MODEL_DIR of T5X's, in rising order."""
  path = epath.Path(path)
  if not path.is_dir():
    return []
  found = (re.fullmatch(rf'{PREFIX}(\d+)', p.name) for p in path.iterdir())
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
      'of T5X, or not whole.'
    )
  target = {
    name.removeprefix('target/'): tensor
    for name, tensor in stored.items()
    if name.startswith('target/')
  }
  plain = names.to_plain(target)
  description: Mapping[str, Any] = {'model': None, 'task': {}}
  assumed = ()
  if (path.parent / native.CONFIG_FILE).exists():
    description = native.read_config(path.parent)
    config = config_lib.T5Config.from_dict(description['model'])
  else:
    config = infer_config(plain, str(path), scanned=_is_scanned(target))
    assumed = lazy_checkpoint.FUNCTION_FIELDS
  return lazy_checkpoint.LazyCheckpoint(
    path=str(path),
    config=config,
    tensors=plain,
    task=description['task'],
    step=_read_step(stored, path),
    assumed=assumed,
    name_there=lambda name: f'target/{name}',
    read_vocabulary=lambda: native.read_vocabulary(path.parent, description),
    moments=_moments(stored, target),
  )


def infer_config(
  plain: Mapping[str, Tensor], where: str, *, scanned: bool = False
) -> config_lib.T5Config:
  """Tells a model's configuration from the names and shapes of its parameters.

  Args:
    plain: plain name -> tensor.
    where: names the checkpoint in messages.
    scanned: whether layers were stacked.

  Raises:
    UserError: it is no T5.
  """
  first = 'encoder/layers_0'
  biases = (
    'encoder/relpos_bias/rel_embedding',
    f'{first}/relpos_bias/rel_embedding',
  )
  try:
    vocab_size, emb_dim = plain[names.EMBEDDING].shape
    bias = next(plain[name] for name in biases if name in plain)
    num_heads, num_buckets = bias.shape
    joined = plain[f'{first}/attention/query/kernel'].shape[1]
    mlp_dim = plain[f'{first}/mlp/wo/kernel'].shape[0]
  except (KeyError, ValueError, IndexError, StopIteration) as e:
    raise errors.UserError(
      f'{where} has not the parameters of a T5: {e!r}. It has '
      f'{", ".join(sorted(plain)[:8])}, ...'
    ) from e
  gated = f'{first}/mlp/wi_0/kernel' in plain
  return config_lib.T5Config(
    vocab_size=vocab_size,
    emb_dim=emb_dim,
    num_heads=num_heads,
    num_encoder_layers=names.num_layers(plain, 'encoder'),
    num_decoder_layers=names.num_layers(plain, 'decoder'),
    head_dim=joined // num_heads,
    mlp_dim=mlp_dim,
    mlp_activations=('gelu', 'linear') if gated else ('relu',),
    logits_via_embedding=names.HEAD not in plain,
    relpos_num_buckets=num_buckets,
    relpos_bias_per_layer=biases[0] not in plain,
    scan_layers=scanned,
  )


def write_checkpoint(
  folder: epath.PathLike,
  model: lazy_checkpoint.LazyCheckpoint,
  *,
  dtype: str = 'float32',
  with_optimizer: bool = False,
) -> None:
  """Writes a model, config.json and the vocabulary into an empty folder.

  T5X goes on from FOLDER/checkpoint_STEP with its Adafactor: with the moments
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
  scalable = config.scan_layers or config.relpos_bias_per_layer
  sources = names.from_plain(
    model.fitted(names.plain_shapes(config), config.relpos_bias_per_layer),
    scanned=config.scan_layers,
    relpos_bias_per_layer=scalable,
    split_heads=config.num_heads if scalable else None,
  )
  step = 0
  moments = {
    f'{name}/{kind}': np.zeros(shape, np.float32)
    for name, tensor in sources.items()
    for kind, shape in _moment_shapes(name, tensor.shape).items()
  }
  if with_optimizer:
    if scalable or not model.moments:
      raise errors.UserError(
        f"the optimizer's state of {model.path} cannot be taken along to T5X: "
        'that needs moments of Adafactor, and layers that are not scanned.'
      )
    step = model.step
    read = tensors_lib.read_all(model.moments, np.dtype(np.float32))
    for name, value in read.items():
      kind, _, parameter = name.partition('/')
      moments[f'{parameter}/{kind}'] = value
  params = tensors_lib.read_all(sources, tensors_lib.parse_dtype(dtype))
  tree = {
    'target': tensors_lib.unflatten(params),
    'state': {
      'step': np.array(step, np.int32),
      'param_states': tensors_lib.unflatten(moments),
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
  return re.fullmatch(rf'{PREFIX}\d+', path.name) is not None and (
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


def _is_scanned(target: Mapping[str, Tensor]) -> bool:
  return any(name.startswith('encoder/encoder/') for name in target)


def _moments(
  stored: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> dict[str, Tensor]:
  """Adafactor's moments of a model with T5X's minimal network."""
  found = {}
  for parameter, tensor in target.items():
    for kind in _MOMENTS:
      moment = stored.get(f'state/param_states/{parameter}/{kind}')
      if moment is None or len(tensor.shape) > 2:
        return {}
      found[f'{kind}/{parameter}'] = moment
  return found


def _moment_shapes(
  name: str, shape: tuple[int, ...]
) -> dict[str, tuple[int, ...]]:
  """Shapes of T5X's Adafactor for a parameter, with T5X's rules."""
  moments = dict.fromkeys(('m', *_MOMENTS), (1,))
  if len(shape) > 2 and name.endswith('/kernel'):
    # Scanned: rows are the embedding's axis, columns all other but the layers'.
    rows = (
      (len(shape) - 1,)
      if name.endswith(('/out/kernel', '/wo/kernel'))
      else (0,)
    )
    has_layers = '/layers_' not in name
    columns = tuple(
      axis
      for axis in range(len(shape))
      if axis not in rows and not (has_layers and axis == 1)
    )
  elif (
    len(shape) == 2
    and min(shape) >= _MIN_DIM_TO_FACTOR
    and not (name.endswith('/scale'))
  ):
    order = np.argsort(shape)
    columns, rows = (int(order[-1]),), (int(order[-2]),)
  else:
    return {**moments, 'v': shape}
  keep = lambda axes: tuple(n for i, n in enumerate(shape) if i not in axes)
  return {**moments, 'v_row': keep(columns), 'v_col': keep(rows)}


def _read_step(stored: Mapping[str, Tensor], path: epath.Path) -> int:
  if 'state/step' in stored:
    return int(stored['state/step'].read())
  return int(path.name.removeprefix(PREFIX))


def _open_legacy(path: epath.Path) -> dict[str, Tensor]:
  """Opens a checkpoint of T5X's own format, of before orbax."""
  file = path / LEGACY_FILE
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
  return {**found, **tensorstore_io.open_arrays(specs)}


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

  Of what is written there, the folder's name alone is used: where else it
  points to is none of our business.
  """
  try:
    place = spec['kvstore'].get('path') or spec['path']
    folder = place.rstrip('/').rsplit('/')[-1]
  except (KeyError, TypeError, AttributeError) as e:
    raise errors.UserError(
      f'{path / LEGACY_FILE} does not say where {name} is: {spec}.'
    ) from e
  if place.strip('/') != folder or folder in ('..', '.', ''):
    raise errors.UserError(
      f'{path / LEGACY_FILE} names a place outside its folder for {name}: '
      f'{place}.'
    )
  if not (path / folder / '.zarray').exists():
    raise errors.UserError(
      f'{path} lacks {folder}, which {LEGACY_FILE} names for {name}.'
    )
  # Moments that are all zero may have no file.
  is_moment = not name.startswith('target/')
  return tensorstore_io.zarr_spec(path / folder, omits_zeros=is_moment)
