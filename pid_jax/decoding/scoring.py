# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The probability of given outputs.

What `generate` does token by token is done here at once, since all tokens are
known: encode, prefill the prompts, then read all targets in one pass. Letters
as in `grid`, and T target tokens.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import network
from pid_jax.decoding import generation
from pid_jax.decoding import grid as grid_lib


@flax.struct.dataclass
class Scored:
  """Natural logarithms of probabilities.

  Attributes:
    log_probs: float32 [B, U], of the whole targets.
    token_log_probs: float32 [B, U, T], of each token after those before it; 0
      for padding and for rows that are absent.
  """

  log_probs: jax.Array
  token_log_probs: jax.Array


def score(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  target_tokens: jax.Array,
  *,
  row_mask: jax.Array | None = None,
) -> Scored:
  """Encodes each input once and scores the targets of all its prompts together.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    target_tokens: int32 [B, U, T], padded with 0 on the right; an EOS counts if
      it is there. T is at least 1.
    row_mask: bool [B, U], the rows to score; others return zeros. None: see
      `grid.present_rows`.

  Returns:
    Scored.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  num_targets = target_tokens.shape[-1]
  if row_mask is None:
    row_mask = grid_lib.present_rows(encoder_input_tokens, prompt_tokens)
  targets = target_tokens.reshape(num_inputs * num_prompts, num_targets)

  first, grid, cache = grid_lib.prefill(
    module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    num_slots=prompt_length + num_targets,
  )
  logits = first[:, None, :]
  if num_targets > 1:
    rest, _ = grid_lib.extend(
      module,
      params,
      grid,
      cache,
      targets[:, :-1],
      prompt_length + 1,
      all_logits=True,
    )
    logits = jnp.concatenate([logits, rest], axis=1)
  scores = generation.token_log_probs(logits, targets)
  scores = scores.reshape(target_tokens.shape)
  counted = (target_tokens != grid_lib.PAD_ID) & row_mask[:, :, None]
  scores = jnp.where(counted, scores, 0.0)
  return Scored(log_probs=jnp.sum(scores, axis=-1), token_log_probs=scores)
