# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The three phases of decoding: encode, prefill, decode a chunk of tokens.

Everything that decodes runs these. Prompts of unequal length are aligned to the
right: all end at position P of the cache, and the first generated token goes to
position P + 1. So all sequences write the same position in a step (one slice,
no scatter), and the distance between two positions is the distance between
their tokens in every sequence, which is all that T5's relative positions need.

    position    0     1     2     3     4     5
    'p q r'  start    p     q     r    y1    y2
    'p'         .     .  start    p    y1    y2     (. is masked)

Axis letters are those of `pid_jax.decoding`.
"""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32
import numpy as np

from pid_jax import network
from pid_jax.decoding import tokens as tokens_lib

# Packed lengths are eighths of the padded one, so that few programs are
# compiled. T5 1.1 small in float32 on two cores, 30 prompts: packed to 6
# eighths, the prefill takes 0.8 of its time; to 7, nothing is left to gain that
# would pay for another program.
_NUM_PACKED_LENGTHS, _MOST_PACKED = 8, 6


def encode(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: Int32[Array, 'B S'],
) -> network.KVCache:
  """Encodes the inputs and projects them for all cross-attention layers.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.

  Returns:
    The cross-attention cache, B inputs and S positions.
  """
  variables = {'params': params}
  encoded = module.apply(
    variables, encoder_input_tokens, method='encode', enable_dropout=False
  )
  return network.KVCache(
    layers=module.apply(variables, encoded, method='cross_key_values'),
    mask=encoder_input_tokens != tokens_lib.PAD_ID,
  )


def prefill(
  module: network.Transformer,
  params: Any,
  cross: network.KVCache,
  prompt_tokens: Int32[Array, 'B U P'],
  cache_length: int,
  packed_length: int | None = None,
) -> tuple[Float32[Array, 'R V'], network.KVCache]:
  """Reads all prompts in one pass of the decoder.

  With `packed_length`, the layers run on the tokens that the prompts have, one
  behind another in a row of their input, as in training:

    positions of the row     0     1     2     3     4     5
    'p q r', 'p'           start   p     q     r   start   p

  Distances within a prompt are what they are in the cache, into which each
  prompt's keys and values are copied.

  Args:
    module: the network.
    params: its parameters.
    cross: of `encode`.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    cache_length: C, at least P + 1.
    packed_length: L, see `choose_packed_length`; at least U and the tokens of
      the prompts of any input. Logits after prompts that do not fit are NaN.
      None: prompts are padded to P.

  Returns:
    float32 logits [R, V] of the token after each prompt; and the self-attention
    cache of R sequences and C positions, written up to position P.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  num_sequences = num_inputs * num_prompts
  num_to_come = cache_length - prompt_length - 1
  if packed_length is None:
    tokens, mask = tokens_lib.align_right(
      prompt_tokens.reshape(num_sequences, prompt_length)
    )
    to_come = jnp.ones((num_sequences, num_to_come), bool)
    cache = module.init_cache(num_sequences, cache_length)
    cache = cache.replace(mask=jnp.concatenate([mask, to_come], axis=1))
    return decode_chunk(module, params, cross, cache, tokens, 0)
  tokens, subtask_ids, starts, ends = tokens_lib.pack(
    prompt_tokens, packed_length
  )
  logits, packed = module.apply(
    {'params': params},
    tokens,
    subtask_ids,
    cross,
    ends,
    prompt_length + 1,
    method='decode_packed',
  )
  cache = packed.windows(starts, ends, prompt_length + 1)
  return logits.reshape(num_sequences, -1), cache.pad(
    right=num_to_come, to_come=True
  )


def choose_packed_length(prompt_tokens: np.ndarray) -> int | None:
  """Returns the L to give to `prefill` for a batch, or None if padding is best.

  Args:
    prompt_tokens: int32 [B, U, P], padded with 0 on the right; on the host.
  """
  _, num_prompts, prompt_length = prompt_tokens.shape
  # As `tokens.prompt_lengths`, without waiting for a device.
  positions = np.arange(1, prompt_length + 1)
  is_token = prompt_tokens != tokens_lib.PAD_ID
  lengths = np.max(np.where(is_token, positions, 0), axis=-1, initial=0)
  needed = num_prompts + int(np.max(np.sum(lengths, axis=1), initial=0))
  lengths = packed_lengths(num_prompts, prompt_length)
  return next((length for length in lengths if length >= needed), None)


def packed_lengths(num_prompts: int, prompt_length: int) -> list[int]:
  """Returns all L that are worth a program, rising.

  Args:
    num_prompts: U.
    prompt_length: P.
  """
  padded = num_prompts * (prompt_length + 1)
  return [
    padded * eighths // _NUM_PACKED_LENGTHS
    for eighths in range(1, _MOST_PACKED + 1)
  ]


def decode_chunk(
  module: network.Transformer,
  params: Any,
  cross: network.KVCache,
  cache: network.KVCache,
  tokens: Int32[Array, 'R Q'],
  cache_index: int | Int32[Array, ''] | Int32[Array, ' R'],
  *,
  all_logits: bool = False,
) -> tuple[Float32[Array, 'R V'] | Float32[Array, 'R Q V'], network.KVCache]:
  """Reads the next Q tokens of all sequences; with Q = 1, a decoding step.

  Args:
    module: the network.
    params: its parameters.
    cross: of `encode`.
    cache: of `prefill`, or of the call before.
    tokens: int32 [R, Q].
    cache_index: int32 scalar, the cache position of the first of these tokens;
      or [R], where sequences have unequal numbers of generated tokens.
    all_logits: True returns logits after each of the Q tokens, False after the
      last only.

  Returns:
    float32 logits [R, V], or [R, Q, V]; and the new cache.
  """
  return module.apply(
    {'params': params},
    tokens,
    cross,
    cache,
    cache_index,
    method='decode_chunk',
    all_logits=all_logits,
  )
