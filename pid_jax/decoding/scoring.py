# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The probability of given outputs.

What `generate` does token by token is done here at once, since all tokens are
known: encode, prefill the prompts, then read all targets in one pass. With
several targets to a prompt, the rows part behind the prompt, as beams do. So a
choice among given strings costs one pass, and no search can miss the best one.
Letters as in `grid`, K targets of a prompt, and T target tokens.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import network
from pid_jax.decoding import loop
from pid_jax.decoding import prefill as grid_lib


@flax.struct.dataclass
class Scored:
  """Natural logarithms of probabilities.

  Attributes:
    log_probs: float32 [B, U] (or [B, U, K]), of the whole targets.
    token_log_probs: float32 [B, U, T] (or [B, U, K, T]), of each token after
      those before it; 0 for padding and for rows that are absent.
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
  """Encodes each input once and scores one target of each of its prompts.

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
    Scored, [B, U].
  """
  scored = score_choices(
    module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    target_tokens[:, :, None, :],
    row_mask=row_mask,
  )
  return jax.tree.map(lambda x: x[:, :, 0], scored)


def score_choices(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  choice_tokens: jax.Array,
  *,
  row_mask: jax.Array | None = None,
) -> Scored:
  """Encodes each input once and scores K targets of each of its prompts.

  Prompts are read once, whatever K is; the self-attention cache exists K times.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    choice_tokens: int32 [B, U, K, T], padded with 0 on the right. A choice of
      zeros alone is none; the log_probs of it are 0 and must not be compared.
    row_mask: as in `score`.

  Returns:
    Scored, [B, U, K].
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  num_choices, num_targets = choice_tokens.shape[2:]
  if row_mask is None:
    row_mask = grid_lib.present_rows(encoder_input_tokens, prompt_tokens)
  rows = num_inputs * num_prompts * num_choices
  targets = choice_tokens.reshape(rows, num_targets)

  first, grid, cache = grid_lib.prefill(
    module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    num_slots=prompt_length + num_targets,
  )
  logits = jnp.repeat(first, num_choices, axis=0)[:, None, :]
  if num_targets > 1:
    if num_choices > 1:
      grid, cache = grid_lib.repeat_rows(grid, cache, num_choices)
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
  scores = loop.token_log_probs(logits, targets)
  scores = scores.reshape(choice_tokens.shape)
  counted = (choice_tokens != grid_lib.PAD_ID) & row_mask[:, :, None, None]
  scores = jnp.where(counted, scores, 0.0)
  return Scored(log_probs=jnp.sum(scores, axis=-1), token_log_probs=scores)
