# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Drafts of the next tokens, looked up in the input and the prompt.

Extractive outputs copy. Where the last tokens of a row stand in its input, what
follows them there is a likely continuation, and one pass of the decoder can
read a whole draft in the time of a step, which mostly waits for the weights.
The tokens that the model would have chosen itself are kept, the first that it
would not is replaced by its own: the output is the same, token for token
(speculative decoding, arXiv 2211.17192, with the draft model of arXiv
2304.04487: a copy of the reference).

A draft costs something where it is not kept. Each row keeps an estimate of how
much of its drafts is, and a pass reads drafts only where enough of them are
expected to be kept; what fails is tried again ever more rarely.

Letters as in `grid`, L source tokens, K drafted tokens, M tokens to match.
"""

import dataclasses

import jax
import jax.numpy as jnp

PAD_ID = 0
NO_TOKEN = -1  # Matches nothing.

# The share of a draft that a row expects to be kept: at first, after a draft
# (the mean of its share and the estimate), and per step without one.
FIRST_RATE = 0.4
_RECOVERY = 1 / 256
# A pass with drafts takes so much longer than a step, at most: it must save as
# many tokens per row.
_COST = 0.6


@dataclasses.dataclass(frozen=True)
class Lookup:
  """How to draft; hashable, so that it can be a static argument of jit.

  Attributes:
    max_draft_tokens: K, at most so many tokens are drafted at once.
    max_ngram: M, the tokens of context that are compared; of the places that
      agree with most of them the last one counts.
    tokens_per_pass: rows times tokens that the decoder reads in little more
      time than one token of one row. Drafts of many rows are cut to it, and
      beyond it there are none.
  """

  max_draft_tokens: int = 8
  max_ngram: int = 3
  tokens_per_pass: int = 64

  def __post_init__(self):
    if min(self.max_draft_tokens, self.max_ngram, self.tokens_per_pass) < 1:
      raise ValueError(f'All of a Lookup must be at least 1. Got {self}.')

  def draft_length(self, num_rows: int) -> int:
    """Returns K for so many rows; 0 where drafts do not pay."""
    return min(self.max_draft_tokens, self.tokens_per_pass // num_rows - 1)


def sources(
  encoder_input_tokens: jax.Array, prompt_tokens: jax.Array
) -> jax.Array:
  """Returns what each row may copy from.

  Args:
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right.

  Returns:
    int32 [R, L], L = P + 1 + S: the prompt, padding, and the input.
  """
  num_inputs, num_prompts, _ = prompt_tokens.shape
  inputs = jnp.broadcast_to(
    encoder_input_tokens[:, None, :],
    (num_inputs, num_prompts, encoder_input_tokens.shape[1]),
  )
  gap = jnp.full((num_inputs, num_prompts, 1), PAD_ID, prompt_tokens.dtype)
  joined = jnp.concatenate([prompt_tokens, gap, inputs], axis=-1)
  return joined.reshape(num_inputs * num_prompts, -1)


def draft(
  source: jax.Array, recent: jax.Array, length: int
) -> tuple[jax.Array, jax.Array]:
  """Looks up the continuation of each row.

  A single token that matches is too little, unless it stands in the source but
  once: names and numbers do, articles do not.

  Args:
    source: int32 [R, L], of `sources`.
    recent: int32 [R, M], the last tokens of each row, the newest last; NO_TOKEN
      where there are fewer.
    length: K, at least 1.

  Returns:
    int32 [R, K] tokens, and int32 [R], how many of them are a draft.
  """
  num_rows, num_places = source.shape
  # agreed[r, j]: how many tokens up to place j are the last ones of row r.
  agreed = jnp.zeros((num_rows, num_places), jnp.int32)
  agrees = source != PAD_ID
  for back in range(recent.shape[1]):
    shifted = jnp.pad(source, ((0, 0), (back, 0)))[:, :num_places]
    agrees = agrees & (shifted == recent[:, -1 - back, None])
    agreed += agrees
  follows = jnp.pad(source, ((0, 0), (0, length)))
  agreed = jnp.where(follows[:, 1 : num_places + 1] != PAD_ID, agreed, 0)
  # The longest; of equals, the last.
  place = jnp.arange(num_places)[None, :]
  best = jnp.argmax(agreed * num_places + place, axis=1)
  longest = jnp.max(agreed, axis=1)
  is_sure = (longest > 1) | (jnp.sum(agreed > 0, axis=1) == 1)
  tokens = jnp.take_along_axis(
    follows, best[:, None] + 1 + jnp.arange(length)[None, :], axis=1
  )
  # A draft ends where its source does.
  is_token = jnp.cumprod(tokens != PAD_ID, axis=1)
  lengths = jnp.where(is_sure & (longest > 0), jnp.sum(is_token, axis=1), 0)
  return tokens, lengths


def is_worthwhile(
  lengths: jax.Array, rates: jax.Array, done: jax.Array
) -> jax.Array:
  """Whether a pass that reads these drafts is expected to save time.

  Args:
    lengths: int32 [R], of the drafts.
    rates: float32 [R], the share of a draft that is expected to be kept.
    done: bool [R], rows that do not count.

  Returns:
    bool scalar.
  """
  expected = jnp.sum(jnp.where(done, 0.0, lengths * rates))
  return expected > _COST * jnp.sum(~done)


def update_rates(
  rates: jax.Array, lengths: jax.Array, kept: jax.Array
) -> jax.Array:
  """Returns the new estimates after a pass.

  Args:
    rates: float32 [R].
    lengths: int32 [R], of the drafts that were read; 0 where there was none.
    kept: int32 [R], how many of their tokens were kept.
  """
  share = kept / jnp.maximum(lengths, 1)
  recovered = jnp.minimum(rates + _RECOVERY, jnp.maximum(rates, FIRST_RATE))
  return jnp.where(lengths > 0, (rates + share) / 2, recovered)
