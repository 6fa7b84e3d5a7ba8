# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The phases of generating, each a function by itself.

`generation.generate` is one program of all of them. To see what each costs, or
whether it fits on a machine, they are compiled apart.

Letters as in `grid`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from pid_jax import network
from pid_jax.decoding import prefill as grid_lib


def encode(
  module: network.Transformer, params: Any, encoder_input_tokens: jax.Array
) -> Any:
  """Encodes int32 [B, S] to the keys and values of all cross-attentions."""
  encoded = grid_lib.apply(
    module, params, encoder_input_tokens, method='encode', enable_dropout=False
  )
  return grid_lib.apply(module, params, encoded, method='cross_key_values')


def prefill(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  cross: Any,
  tokens: jax.Array,
  *,
  num_slots: int,
) -> tuple[jax.Array, Any]:
  """Reads all prompts, of one length, in one pass of the decoder.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S].
    cross: of `encode`.
    tokens: int32 [R, P + 1], the start token and the prompt.
    num_slots: C.

  Returns:
    float32 logits [R, V], and the cache of R rows and C slots.
  """
  cache = module.empty_cache(tokens.shape[0], num_slots)
  return step(module, params, encoder_input_tokens, cross, cache, tokens, 0)


def step(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  cross: Any,
  cache: Any,
  tokens: jax.Array,
  slot: Any,
) -> tuple[jax.Array, Any]:
  """Reads the next tokens of all rows, int32 [R, Q], into the cache."""
  leaf = jax.tree.leaves(cache)[0]  # Keys: [..., C]
  grid = grid_lib.Grid(
    cross=cross,
    encoder_mask=encoder_input_tokens != grid_lib.PAD_ID,
    slot_mask=jnp.ones((tokens.shape[0], leaf.shape[-1]), bool),
  )
  return grid_lib.extend(module, params, grid, cache, tokens, slot)
