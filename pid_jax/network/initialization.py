# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Initial parameters from which a small model soon learns to copy.

Tasks whose outputs are spans of the input (names, times) need attention that
finds the span and copies it. A network trained from scratch spends most of a
short run on discovering that. This arrangement of T5's initial parameters
starts close to it, and leaves everything trainable:

- value and output projections of each attention are an orthogonal matrix and
  its transpose, so what is attended to arrives unchanged;
- cross-attention keys are projected as its queries are, so a token attends to
  the same token in the input;
- one head of the encoder prefers the token before, one the token after, so that
  each input position encodes its neighbours: with the point above, the last
  generated token attends to the position after its copy in the input.

Pretrained checkpoints replace all of these parameters.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax.network import axes as axes_lib

# Added to the bias of a neighbour: e^4 times the weight of another token.
NEIGHBOUR_BIAS = 4.0


def initialize(
  module: nn.Module,
  rng: jax.Array,
  encoder_input_tokens: jax.Array,
  decoder_input_tokens: jax.Array,
) -> dict[str, Any]:
  """Initialises a `Transformer` as its `config.initializer` says.

  Args:
    module: the network.
    rng: a key.
    encoder_input_tokens: int32 [B, S]; parameters do not depend on them.
    decoder_input_tokens: int32 [B, L]; nor on these.

  Returns:
    {'params': float32 nested dict, 'params_axes': their logical axes}.
  """
  variables = dict(
    module.init(
      rng, encoder_input_tokens, decoder_input_tokens, enable_dropout=False
    )
  )
  if module.config.initializer == 'copy':
    variables['params'] = near_copying(
      variables['params'],
      axes_lib.variables_axes(variables),
      module.config,
      rng,
    )
  return variables


def near_copying(
  params: Any,
  axes: axes_lib.ParamAxes,
  config: config_lib.T5Config,
  rng: jax.Array,
) -> Any:
  """Arranges T5's initial parameters for copying; see the module.

  Args:
    params: float32, of `Transformer.init`.
    axes: of the parameters.
    config: of the network.
    rng: a key for the orthogonal matrices.

  Returns:
    Parameters of the same structure.
  """
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  leaves = {axes_lib.path_name(path): leaf for path, leaf in flat}
  for i, name in enumerate(sorted(leaves)):
    if not name.endswith('/value/kernel'):
      continue
    attention = name.removesuffix('/value/kernel')
    value = _orthogonal(
      jax.random.fold_in(rng, i), axes[name], leaves[name].shape
    )
    leaves[name] = value
    out = f'{attention}/out/kernel'
    leaves[out] = axes_lib.transpose(value, axes[name], axes[out])
    if attention.endswith('encoder_decoder_attention'):
      # T5's initial keys have sqrt(D) times the scale of its queries.
      query = leaves[f'{attention}/query/kernel']
      leaves[f'{attention}/key/kernel'] = query * config.head_dim**0.5
  after = config.relpos_num_buckets // 2 + 1
  second_head = min(1, config.num_heads - 1)
  for name, bias in leaves.items():
    if name.startswith('encoder/') and name.endswith('/rel_embedding'):
      for head, bucket in ((0, 1), (second_head, after)):
        indices = {'heads': head, 'relpos_buckets': bucket}
        index = tuple(indices.get(axis, slice(None)) for axis in axes[name])
        bias = bias.at[index].add(NEIGHBOUR_BIAS)
      leaves[name] = bias
  ordered = [leaves[axes_lib.path_name(path)] for path, _ in flat]
  return jax.tree_util.tree_unflatten(treedef, ordered)


def _orthogonal(
  key: jax.Array, axes: axes_lib.Axes, shape: tuple[int, ...]
) -> jax.Array:
  """Draws an orthogonal kernel, or one for each stacked layer."""
  draw = nn.initializers.orthogonal()
  if axes_lib.LAYERS not in axes:
    return draw(key, shape)
  layers = axes.index(axes_lib.LAYERS)
  of_one = shape[:layers] + shape[layers + 1 :]
  keys = jax.random.split(key, shape[layers])
  return jnp.stack([draw(k, of_one) for k in keys], axis=layers)
