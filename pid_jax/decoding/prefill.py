# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The decoder's grid of rows: encode once, prefill all prompts, extend.

Generating and scoring both stand on this. B inputs with U prompts each are
R = B * U rows, the rows of one input adjacent. Prompts of unequal length are
aligned to the right: every row's prompt ends in slot P of the cache, and its
first generated token goes to slot P + 1. So all rows write the same slot in a
step (one slice, no scatter), and the distance of two slots is the distance of
their tokens for every row, which is all that T5's relative positions need.

    slot        0     1     2     3     4     5
    'p q r'  start    p     q     r    y1    y2
    'p'         .     .  start    p    y1    y2     (. is masked)

Letters: B inputs, S input tokens, U subtasks, P prompt tokens, R = B * U rows,
C cache slots, H heads, D head_dim, V vocab_size.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import network

PAD_ID = 0  # Also T5's decoder start token.
EOS_ID = 1


@flax.struct.dataclass
class Grid:
  """What stays the same while the rows of a batch are decoded.

  Attributes:
    cross: keys and values of the encoded inputs for all layers' cross-attention
      (network.Transformer.cross_key_values), of N layers, B inputs and S
      places: one copy per input, whatever U is.
    encoder_mask: bool [B, S], True at input tokens.
    slot_mask: bool [R, C], True in the slots that are a row's own.
  """

  cross: Any
  encoder_mask: jax.Array
  slot_mask: jax.Array


def present_rows(
  encoder_input_tokens: jax.Array, prompt_tokens: jax.Array
) -> jax.Array:
  """Returns which rows are real, and not padding of a batch.

  Args:
    encoder_input_tokens: int32 [B, S].
    prompt_tokens: int32 [B, U, P].

  Returns:
    bool [B, U]: rows with a prompt; with P = 0, rows of inputs with a token.
  """
  present = jnp.any(encoder_input_tokens != PAD_ID, axis=-1)[:, None]
  if prompt_tokens.shape[-1] > 0:
    present = present & jnp.any(prompt_tokens != PAD_ID, axis=-1)
  return jnp.broadcast_to(present, prompt_tokens.shape[:2])


def prefill(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  num_slots: int,
) -> tuple[jax.Array, Grid, Any]:
  """Encodes the inputs and reads all prompts in one pass of the decoder.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], 0 where padded.
    prompt_tokens: int32 [B, U, P], 0 where padded, on the right. P may be 0.
    num_slots: C, at least P + 1.

  Returns:
    float32 logits [R, V] of the token after each prompt, the Grid, and the
    self-attention cache of R rows and C slots, written up to slot P.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  rows = num_inputs * num_prompts
  tokens, own = _align_right(prompt_tokens.reshape(rows, prompt_length))
  free = jnp.ones((rows, num_slots - prompt_length - 1), bool)

  encoded = apply(
    module, params, encoder_input_tokens, method='encode', enable_dropout=False
  )
  grid = Grid(
    cross=apply(module, params, encoded, method='cross_key_values'),
    encoder_mask=encoder_input_tokens != PAD_ID,
    slot_mask=jnp.concatenate([own, free], axis=1),
  )
  cache = module.empty_cache(rows, num_slots)
  logits, cache = extend(module, params, grid, cache, tokens, 0)
  return logits, grid, cache


def extend(
  module: network.Transformer,
  params: Any,
  grid: Grid,
  cache: Any,
  tokens: jax.Array,
  slot: Any,
  all_logits: bool = False,
) -> tuple[jax.Array, Any]:
  """Reads the next Q tokens of all rows.

  Args:
    module: the network.
    params: its parameters.
    grid: from `prefill`.
    cache: from the call before.
    tokens: int32 [R, Q].
    slot: int32 scalar, of the first of these tokens; or [R], where rows have
      got differently far.
    all_logits: whether the logits of all Q tokens are wanted.

  Returns:
    float32 logits [R, V] after the last token, or [R, Q, V]; the new cache.
  """
  return apply(
    module,
    params,
    tokens,
    grid.cross,
    grid.encoder_mask,
    cache,
    slot,
    grid.slot_mask,
    method='decode_cached',
    all_logits=all_logits,
  )


def repeat_rows(grid: Grid, cache: Any, times: int) -> tuple[Grid, Any]:
  """Makes several rows of each, to be continued in different ways.

  Args:
    grid: of R rows.
    cache: of `prefill`.
    times: K, rows to make of each.

  Returns:
    The grid and the cache of R * K rows, the rows made of one adjacent: rows of
    one input stay adjacent too, and its keys and values stay one copy.
  """
  rows = jnp.repeat(jnp.arange(grid.slot_mask.shape[0]), times)
  grid = grid.replace(slot_mask=grid.slot_mask[rows])
  return grid, take_rows(cache, rows)


def take_rows(cache: Any, rows: jax.Array) -> Any:
  """Returns the cache of given rows, int32 [n], in their order."""
  # Layers that are scanned are stacked on an axis before that of the rows.
  return jax.tree.map(lambda x: jnp.take(x, rows, axis=x.ndim - 4), cache)


def last_tokens(prompts: jax.Array, count: int, none: int) -> jax.Array:
  """Returns the last tokens of each prompt.

  Args:
    prompts: int32 [R, P], padded with 0 on the right.
    count: M, how many.
    none: stands where there are fewer.

  Returns:
    int32 [R, M], the last one last.
  """
  tokens, _ = _align_right(prompts)
  tokens = jnp.pad(tokens[:, 1:], ((0, 0), (count, 0)))[:, -count:]
  return jnp.where(tokens != PAD_ID, tokens, none)


def apply(module: network.Transformer, params: Any, *args, **kwargs) -> Any:
  """Calls a method of the network."""
  return module.apply({'params': params}, *args, **kwargs)


def _align_right(prompts: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Shifts prompts to end together, behind the start token.

  Args:
    prompts: int32 [R, P], padded on the right.

  Returns:
    int32 [R, P + 1], and bool [R, P + 1], True from the start token on.
  """
  rows, longest = prompts.shape
  place = jnp.arange(1, longest + 1)
  # The last token's place, not a count: a prompt is what stands before it.
  lengths = jnp.max(jnp.where(prompts != PAD_ID, place, 0), axis=1, initial=0)
  start = jnp.full((rows, 1), PAD_ID, prompts.dtype)
  prompts = jnp.concatenate([start, prompts], axis=1)
  # Where the token of each slot comes from; below 0 there is none.
  source = jnp.arange(longest + 1)[None, :] - (longest - lengths)[:, None]
  own = source >= 0
  tokens = jnp.take_along_axis(prompts, jnp.maximum(source, 0), axis=1)
  return jnp.where(own, tokens, PAD_ID), own
