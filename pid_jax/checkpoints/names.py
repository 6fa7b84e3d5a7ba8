# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Names of parameters: pid_jax's and T5X's, and those of transformers.

Between formats, a model is a dict from *plain names* to tensors. A plain name
is that of T5X's minimal network, one for each layer:

    token_embedder/embedding                            [V, E]
    encoder/relpos_bias/rel_embedding                   [H, buckets]
    encoder/layers_I/pre_attention_layer_norm/scale     [E]
    encoder/layers_I/attention/{query,key,value}/kernel [E, H * D]
    encoder/layers_I/attention/out/kernel               [H * D, E]
    encoder/layers_I/mlp/{wi_0,wi_1,wo}/kernel          ('wi' when not gated)
    decoder/...                                         likewise
    decoder/logits_dense/kernel                         [E, V], if not tied

Scanned layers stack the same tensors under `encoder/encoder/...`, along the
axis that `network.param_axes` calls 'layers'. T5X's scalable network also
splits 'joined_kv' into 'heads' and 'kv' (attention kernels are [E, N, H, D] and
[H, N, D, E]), and has a bias in every layer, named like the layer's other
parameters; `T5Config.relpos_bias_per_layer` says so here.

transformers keeps kernels transposed, counts layers as blocks, and keeps the
shared bias in block 0.
"""

from collections.abc import Mapping
import dataclasses
import re

from flax import traverse_util
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import network
from pid_jax.checkpoints import tensors as tensors_lib
from pid_jax.checkpoints.tensors import Tensor
from pid_jax.network import axes as axes_lib
from pid_jax.network.axes import Axes
from pid_jax.network.axes import ParamAxes
from pid_jax.network.axes import PyTree

STACKS = ('encoder', 'decoder')
EMBEDDING = 'token_embedder/embedding'
HEAD = 'decoder/logits_dense/kernel'

_NORMS = {
  'encoder': ('pre_attention_layer_norm', 'pre_mlp_layer_norm'),
  'decoder': (
    'pre_self_attention_layer_norm',
    'pre_cross_attention_layer_norm',
    'pre_mlp_layer_norm',
  ),
}
# The parts of a block in transformers, in order: name here -> name there.
_SUBLAYERS = {
  'encoder': {'attention': 'SelfAttention', 'mlp': 'DenseReluDense'},
  'decoder': {
    'self_attention': 'SelfAttention',
    'encoder_decoder_attention': 'EncDecAttention',
    'mlp': 'DenseReluDense',
  },
}
_KERNELS = {'query': 'q', 'key': 'k', 'value': 'v', 'out': 'o'}


def plain_shapes(config: config_lib.T5Config) -> dict[str, tuple[int, ...]]:
  """Returns every plain name of a model with its shape."""
  return {name: shape for name, (shape, _) in _plain_params(config).items()}


def abstract_params(config: config_lib.T5Config) -> PyTree:
  """As `axes.abstract_params`, without tracing layers one by one.

  Args:
    config: of the network, with layers scanned or not.
  """
  if config.scan_layers:
    return axes_lib.abstract_params(network.Transformer(config))
  shapes = {
    name: jax.ShapeDtypeStruct(shape, jnp.float32)
    for name, shape in plain_shapes(config).items()
  }
  return traverse_util.unflatten_dict(shapes, sep='/')


def param_axes(config: config_lib.T5Config) -> dict[str, Axes]:
  """As `network.param_axes`, without tracing layers one by one.

  Args:
    config: of the network, with layers scanned or not.
  """
  if config.scan_layers:
    return network.param_axes(network.Transformer(config))
  return {name: axes for name, (_, axes) in _plain_params(config).items()}


def _plain_params(
  config: config_lib.T5Config,
) -> dict[str, tuple[tuple[int, ...], Axes]]:
  """Returns shape and axes of every plain name of a model."""
  # The scanned network is traced in a fraction of the time.
  module = network.Transformer(dataclasses.replace(config, scan_layers=True))
  axes = network.param_axes(module)
  plain = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    axes_lib.abstract_params(module)
  ):
    name = axes_lib.path_name(path)
    of_layer = axes_lib.without_layers(axes[name])
    dims = axes_lib.layer_dims(axes[name])
    shape = tuple(leaf.shape[i] for i in dims)
    for plain_name in _layer_names(name, axes[name], leaf.shape):
      plain[plain_name] = (shape, of_layer)
  return plain


def _layer_names(name: str, axes: Axes, shape: tuple[int, ...]) -> list[str]:
  """Returns a plain name for each layer of a parameter, or the one it has."""
  if axes_lib.LAYERS not in axes:
    return [name]
  stack, _, rest = name.split('/', 2)
  num_layers = shape[axes.index(axes_lib.LAYERS)]
  return [f'{stack}/layers_{i}/{rest}' for i in range(num_layers)]


def split_heads(axes: Axes) -> Axes:
  """Returns the axes that a parameter has in T5X's scalable network."""
  split = {'joined_kv': ('heads', 'kv')}
  of_layer = tuple(
    name
    for axis in axes_lib.without_layers(axes)
    for name in split.get(axis, (axis,))
  )
  is_stacked = axes_lib.LAYERS in axes
  return axes_lib.with_layers(of_layer) if is_stacked else of_layer


def to_plain(
  stored: Mapping[str, Tensor], axes: ParamAxes
) -> dict[str, Tensor]:
  """Takes stacks of layers apart, and joins the heads of T5X's kernels.

  Args:
    stored: by the names of a parameter tree of pid_jax's or of T5X's.
    axes: of the parameters there. What has none, or another number of them, is
      kept unchanged.
  """
  plain = {}
  for name, tensor in stored.items():
    stored_axes = axes.get(name, ())
    if len(stored_axes) != len(tensor.shape):
      plain[name] = tensor
      continue
    of_layer = axes_lib.without_layers(stored_axes)
    plain_names = _layer_names(name, stored_axes, tensor.shape)
    for i, plain_name in enumerate(plain_names):
      layer = tensor
      if axes_lib.LAYERS in stored_axes:
        position = stored_axes.index(axes_lib.LAYERS)
        layer = tensors_lib.layer(tensor, i, position)
      plain[plain_name] = _join_heads(layer, of_layer)
  return plain


def from_plain(
  plain: Mapping[str, Tensor],
  config: config_lib.T5Config,
  *,
  num_heads: int | None = None,
) -> dict[str, Tensor]:
  """Arranges a whole model as a parameter tree of pid_jax's or of T5X's.

  Args:
    plain: every tensor of the model.
    config: of the network that the tree is for. A bias that layers share is
      repeated for a network with one in each; several are shared only if they
      are the same.
    num_heads: None, or the number of heads, to split attention kernels into
      heads as T5X's scalable network does.

  Raises:
    UserError: the layers' biases differ, and one is to be shared.
  """
  plain = arrange_biases(plain, config.relpos_bias_per_layer)
  if num_heads is not None:
    of_layer = {k: axes for k, (_, axes) in _plain_params(config).items()}
    plain = {
      name: _split_heads(tensor, of_layer.get(name, ()), num_heads)
      for name, tensor in plain.items()
    }
  if not config.scan_layers:
    return plain
  module = network.Transformer(config)
  axes = network.param_axes(module)
  arranged = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(
    axes_lib.abstract_params(module)
  ):
    name = axes_lib.path_name(path)
    layers = [plain[n] for n in _layer_names(name, axes[name], leaf.shape)]
    if axes_lib.LAYERS in axes[name]:
      position = axes[name].index(axes_lib.LAYERS)
      arranged[name] = tensors_lib.stacked(layers, position)
    else:
      (arranged[name],) = layers
  return arranged


def arrange_biases(
  plain: Mapping[str, Tensor], per_layer: bool
) -> dict[str, Tensor]:
  """Repeats a shared bias for each layer, or shares those of all layers."""
  arranged = dict(plain)
  for stack in STACKS:
    shared = f'{stack}/relpos_bias/rel_embedding'
    of_layers = {
      name: tensor
      for name, tensor in plain.items()
      if re.fullmatch(rf'{stack}/layers_\d+/relpos_bias/rel_embedding', name)
    }
    if per_layer and shared in arranged:
      bias = arranged.pop(shared)
      for i in range(num_layers(plain, stack)):
        arranged[f'{stack}/layers_{i}/relpos_bias/rel_embedding'] = bias
    elif not per_layer and of_layers:
      first, *others = of_layers.values()
      if not all(tensors_lib.equal(first, other) for other in others):
        raise errors.UserError(
          f'the {stack} has a relative position bias in each layer '
          f'({first.name}, ...), and they differ: the model needs '
          'T5Config.relpos_bias_per_layer = True, and only T5X has a format '
          'for it besides the native one.'
        )
      for name in of_layers:
        del arranged[name]
      arranged[shared] = first
  return arranged


def num_layers(plain: Mapping[str, object], stack: str) -> int:
  """Returns how many layers of a stack have a name in `plain`."""
  found = (re.match(rf'{stack}/layers_(\d+)/', name) for name in plain)
  return max((int(match[1]) + 1 for match in found if match), default=0)


def to_hugging_face(name: str) -> str:
  """Returns transformers' name for a plain name."""
  if name == EMBEDDING:
    return 'shared.weight'
  if name == HEAD:
    return 'lm_head.weight'
  stack, *parts = name.split('/')
  if parts[-1] == 'rel_embedding':
    return (
      f'{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight'
    )
  if parts[0] == f'{stack}_norm':
    return f'{stack}.final_layer_norm.weight'
  index, part = parts[0].removeprefix('layers_'), parts[1]
  if part in _NORMS[stack]:
    sublayer = _NORMS[stack].index(part)
    return f'{stack}.block.{index}.layer.{sublayer}.layer_norm.weight'
  sublayer = list(_SUBLAYERS[stack]).index(part)
  there = f'{_SUBLAYERS[stack][part]}.{_KERNELS.get(parts[2], parts[2])}'
  return f'{stack}.block.{index}.layer.{sublayer}.{there}.weight'


def is_transposed(name: str) -> bool:
  """Whether transformers keeps what has this plain name transposed."""
  return name.endswith(('/kernel', '/rel_embedding'))


def _join_heads(tensor: Tensor, axes: Axes) -> Tensor:
  """[E, H, D] -> [E, H * D], and [H, D, E] -> [H * D, E]."""
  if 'kv' not in axes:
    return tensor
  i, shape = axes.index('heads'), tensor.shape
  joined = (*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :])
  return tensors_lib.reshaped(tensor, joined)


def _split_heads(tensor: Tensor, axes: Axes, num_heads: int) -> Tensor:
  """Undoes `_join_heads`, for axes with 'joined_kv'."""
  if 'joined_kv' not in axes:
    return tensor
  i, shape = axes.index('joined_kv'), tensor.shape
  split = (*shape[:i], num_heads, shape[i] // num_heads, *shape[i + 1 :])
  return tensors_lib.reshaped(tensor, split)
