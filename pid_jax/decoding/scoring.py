# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Log-probabilities of given outputs.

All tokens are known, so one pass of the decoder scores them: encode, prefill
the prompts, then read all targets at once. Several targets of a prompt share
its prefill and continue from copies of its cache, as beams do. A choice among
given strings therefore costs one pass, and no search can miss the best one.

Axis letters are those of `pid_jax.decoding`.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from pid_jax import network
from pid_jax.decoding import prefill
from pid_jax.decoding import tokens as tokens_lib


@flax.struct.dataclass
class Scored:
  """Natural logarithms of probabilities.

  Attributes:
    log_probs: float32 [B, U] (or [B, U, choices]), of the whole targets.
    token_log_probs: float32 [B, U, T] (or [B, U, choices, T]), of each token
      given those before it; 0 at padding and in rows that are masked.
  """

  log_probs: Float32[Array, '*targets']
  token_log_probs: Float32[Array, '*targets T']


def score(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
  target_tokens: Int32[Array, 'B U T'],
  *,
  row_mask: Bool[Array, 'B U'] | None = None,
  packed_prompt_length: int | None = None,
) -> Scored:
  """Encodes each input once and scores one target of each of its prompts.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    target_tokens: int32 [B, U, T], padded with 0 on the right; EOS is scored
      if it is there. T is at least 1.
    row_mask: bool [B, U], the prompts to score; the others get zeros. None: see
      `tokens.present_rows`.
    packed_prompt_length: see `generation.generate`.

  Returns:
    Scored, [B, U].
  """
  scored = score_choices(
    module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    target_tokens[:, :, None, :],
    row_mask=row_mask,
    packed_prompt_length=packed_prompt_length,
  )
  return jax.tree.map(lambda x: x[:, :, 0], scored)


def score_choices(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
  choice_tokens: Int32[Array, 'B U choices T'],
  *,
  cross: network.KVCache | None = None,
  row_mask: Bool[Array, 'B U'] | None = None,
  packed_prompt_length: int | None = None,
) -> Scored:
  """Encodes each input once and scores several targets of each of its prompts.

  Prompts are read once; the self-attention cache exists once per choice.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    choice_tokens: int32 [B, U, choices, T], padded with 0 on the right. A
      choice of zeros only is padding: its log_probs are 0 and must not be
      compared.
    cross: of `prefill.encode` of the same inputs, S positions or more; None:
      the inputs are encoded here.
    row_mask: see `score`.
    packed_prompt_length: see `generation.generate`.

  Returns:
    Scored, [B, U, choices].
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  num_choices, target_length = choice_tokens.shape[2:]
  if row_mask is None:
    row_mask = tokens_lib.present_rows(encoder_input_tokens, prompt_tokens)
  targets = choice_tokens.reshape(
    num_inputs * num_prompts * num_choices, target_length
  )
  if cross is None:
    cross = prefill.encode(module, params, encoder_input_tokens)
  first, cache = prefill.prefill(
    module,
    params,
    cross,
    prompt_tokens,
    prompt_length + target_length,
    packed_prompt_length,
  )
  logits = jnp.repeat(first, num_choices, axis=0)[:, None, :]
  if target_length > 1:
    if num_choices > 1:
      cache = cache.repeat(num_choices)
    rest, _ = prefill.decode_chunk(
      module,
      params,
      cross,
      cache,
      targets[:, :-1],
      prompt_length + 1,
      all_logits=True,
    )
    logits = jnp.concatenate([logits, rest], axis=1)
  scores = tokens_lib.token_log_probs(logits, targets)
  scores = scores.reshape(choice_tokens.shape)
  counted = (choice_tokens != tokens_lib.PAD_ID) & row_mask[:, :, None, None]
  scores = jnp.where(counted, scores, 0.0)
  return Scored(log_probs=jnp.sum(scores, axis=-1), token_log_probs=scores)
