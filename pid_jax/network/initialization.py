# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Initial parameters from which a small model soon learns to copy.

Tasks whose outputs stand in the input (names, times, spans) need attention that
finds the place and copies on from there. A network trained from scratch spends
most of a short run on discovering that. This arrangement of T5's initial
parameters begins close by, and leaves everything trainable:

- value and output projections of each attention are an orthogonal matrix and
  its transpose, so what is attended to arrives as it is;
- cross-attention keys are made as its queries are, so a token attends to its
  like in the input;
- one head of the encoder prefers the token before, one the token after, so
  that a place in the input knows its neighbours: with the point above, the
  token generated last finds the place after itself.

Pretrained checkpoints replace all of it; for them it does not matter.
"""

from typing import Any

from flax import linen as nn
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib

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
    variables['params'] = near_copying(variables['params'], module.config, rng)
  return variables


def near_copying(
  params: Any, config: config_lib.T5Config, rng: jax.Array
) -> Any:
  """Arranges T5's initial parameters for copying; see the module.

  Args:
    params: float32, of `Transformer.init`.
    config: of the network.
    rng: a key for the orthogonal matrices.

  Returns:
    Parameters of the same structure.
  """
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  leaves = {
    jax.tree_util.keystr(path, simple=True, separator='/'): leaf
    for path, leaf in flat
  }
  orthogonal = nn.initializers.orthogonal()
  for i, name in enumerate(sorted(leaves)):
    if not name.endswith('/value/kernel'):
      continue
    attention = name.removesuffix('/value/kernel')
    key = jax.random.fold_in(rng, i)
    shape = leaves[name].shape
    if config.scan_layers:  # [E, N, H * D]
      keys = jax.random.split(key, shape[1])
      stacked = [orthogonal(k, (shape[0], shape[2])) for k in keys]
      value = jnp.stack(stacked, axis=1)
    else:
      value = orthogonal(key, shape)
    leaves[name] = value
    leaves[f'{attention}/out/kernel'] = jnp.swapaxes(value, 0, -1)
    if attention.endswith('encoder_decoder_attention'):
      # T5's initial keys have sqrt(D) times the scale of its queries.
      query = leaves[f'{attention}/query/kernel']
      leaves[f'{attention}/key/kernel'] = query * config.head_dim**0.5
  after = config.relpos_num_buckets // 2 + 1
  second_head = min(1, config.num_heads - 1)
  for name, bias in leaves.items():  # [H, buckets], or [H, N, buckets]
    if name.startswith('encoder/') and name.endswith('/rel_embedding'):
      bias = bias.at[0, ..., 1].add(NEIGHBOUR_BIAS)
      leaves[name] = bias.at[second_head, ..., after].add(NEIGHBOUR_BIAS)
  ordered = [
    leaves[jax.tree_util.keystr(path, simple=True, separator='/')]
    for path, _ in flat
  ]
  return jax.tree_util.tree_unflatten(treedef, ordered)
