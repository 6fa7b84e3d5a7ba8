# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Token ids of a batch: padding, alignment, and which ids may be generated.

Axis letters are those of `pid_jax.decoding`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from pid_jax import network
from pid_jax import vocabulary

PAD_ID = vocabulary.PAD_ID  # Also T5's decoder start token.
EOS_ID = vocabulary.EOS_ID


def present_rows(
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
) -> Bool[Array, 'B U']:
  """Returns which prompts are real, and not padding of a batch.

  Args:
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0.

  Returns:
    bool [B, U]: True for prompts with a token, whose input has a token. With
    P = 0 the input alone decides.
  """
  present = jnp.any(encoder_input_tokens != PAD_ID, axis=-1)[:, None]
  if prompt_tokens.shape[-1] > 0:
    present = present & jnp.any(prompt_tokens != PAD_ID, axis=-1)
  return jnp.broadcast_to(present, prompt_tokens.shape[:2])


def prompt_lengths(prompts: Int32[Array, '*R P']) -> Int32[Array, '*R']:
  """Returns the lengths of prompts [..., P], padded with 0 on the right."""
  position = jnp.arange(1, prompts.shape[-1] + 1)
  # The position of the last token, not a count: a 0 inside a prompt is part
  # of it.
  return jnp.max(jnp.where(prompts != PAD_ID, position, 0), axis=-1, initial=0)


def align_right(
  prompts: Int32[Array, 'R P'],
) -> tuple[Int32[Array, 'R P+1'], Bool[Array, 'R P+1']]:
  """Shifts prompts to end at one position, each behind the start token.

  Args:
    prompts: int32 [R, P], padded with 0 on the right.

  Returns:
    int32 [R, P + 1], padded with 0 on the left; and bool [R, P + 1], True from
    the start token on.
  """
  num_sequences, longest = prompts.shape
  lengths = prompt_lengths(prompts)
  start = jnp.full((num_sequences, 1), PAD_ID, prompts.dtype)
  prompts = jnp.concatenate([start, prompts], axis=1)
  # Index in `prompts` of the token at each position; below 0 there is none.
  source = jnp.arange(longest + 1)[None, :] - (longest - lengths)[:, None]
  mask = source >= 0
  tokens = jnp.take_along_axis(prompts, jnp.maximum(source, 0), axis=1)
  return jnp.where(mask, tokens, PAD_ID), mask


def pack(
  prompts: Int32[Array, 'B U P'], length: int
) -> tuple[
  Int32[Array, 'B L'],
  Int32[Array, 'B L'],
  Int32[Array, 'B U'],
  Int32[Array, 'B U'],
]:
  """Joins the prompts of each input to one row, each behind a start token.

  Args:
    prompts: int32 [B, U, P], padded with 0 on the right.
    length: L.

  Returns:
    int32 [B, L], padded with 0 on the right; int32 [B, L], the number of each
    token's prompt, from 1, and 0 where padded; and int32 [B, U] twice, the
    positions of the start token and of the last token of each prompt.
  """
  num_inputs, num_prompts, longest = prompts.shape
  lengths = 1 + prompt_lengths(prompts)
  ends = jnp.cumsum(lengths, axis=1)
  starts = ends - lengths
  positions = jnp.arange(length)[None, :]
  # [B, L]: as many prompts start up to a token as the number of its own.
  ids = jnp.sum(starts[:, None, :] <= positions[:, :, None], axis=-1)
  offsets = positions - jnp.take_along_axis(starts, ids - 1, axis=1)
  is_token = positions < ends[:, -1:]
  prompts = jnp.pad(prompts, ((0, 0), (0, 0), (1, 0))).reshape(num_inputs, -1)
  sources = (ids - 1) * (longest + 1) + offsets
  tokens = jnp.take_along_axis(prompts, jnp.where(is_token, sources, 0), axis=1)
  return tokens, jnp.where(is_token, ids, 0), starts, ends - 1


def last_tokens(
  prompts: Int32[Array, 'R P'], count: int, missing: int
) -> Int32[Array, 'R ngram']:
  """Returns the last tokens of each prompt.

  Args:
    prompts: int32 [R, P], padded with 0 on the right.
    count: the number of tokens to return.
    missing: the id for tokens that a prompt does not have.

  Returns:
    int32 [R, count], the last token last.
  """
  tokens, _ = align_right(prompts)
  tokens = jnp.pad(tokens[:, 1:], ((0, 0), (count, 0)))[:, -count:]
  return jnp.where(tokens != PAD_ID, tokens, missing)


def allowed_ids(
  config: network.T5Config, may_end: bool | Bool[Array, '*R'] = True
) -> Bool[Array, '*R V']:
  """Returns which ids an unconstrained sequence may generate next.

  Padding and the ids from `config.num_tokens` on are never allowed.

  Args:
    config: of the network.
    may_end: bool [...], whether EOS is allowed.

  Returns:
    bool [..., V].
  """
  may_end = jnp.asarray(may_end)[..., None]
  ids = jnp.arange(config.vocab_size)
  ids = ids.reshape((1,) * (may_end.ndim - 1) + (-1,))
  is_token = (ids != PAD_ID) & (ids < config.num_tokens)
  return is_token & ((ids != EOS_ID) | may_end)


def token_log_probs(
  logits: Float32[Array, '*R V'], tokens: Int32[Array, '*R']
) -> Float32[Array, '*R']:
  """Returns the log-probabilities of tokens.

  Args:
    logits: float32 [..., V], not normalised.
    tokens: int32 [...].

  Returns:
    float32 [...], natural logarithms.
  """
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)
