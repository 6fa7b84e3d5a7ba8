# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Drafts of the next tokens, looked up in the input and the prompt.

Extractive outputs copy. Where the last tokens of a row stand in its input, what
follows them there is a likely continuation, and one pass of the decoder reads a
whole draft in much less time than as many steps, each of which reads all
weights.
The tokens that the model would have chosen itself are kept, the first that it
would not is replaced by its own: the output is the same, token for token
(speculative decoding, arXiv 2211.17192; its drafts are copied from a reference
as in arXiv 2304.04487).

A draft costs something where it is not kept. Each row keeps an estimate of how
much of its drafts is (the acceptance rate), and a pass reads drafts only where
enough of them are expected to be kept; what fails is tried ever more rarely.

Letters as in `grid`, L source tokens, K drafted tokens, M tokens to match.
"""

import dataclasses

import jax
import jax.numpy as jnp

from pid_jax import errors
from pid_jax.decoding import prefill

PAD_ID = prefill.PAD_ID
NO_TOKEN = -1  # Matches nothing.

# The acceptance rate that a row expects at first, and what it gains with each
# step without a draft, up to that.
FIRST_RATE = 0.4
_RECOVERY = 1 / 256


@dataclasses.dataclass(frozen=True)
class PromptLookup:
  """How to draft; hashable, so that it can be a static argument of jit.

  Attributes:
    max_draft_tokens: K, so many tokens are drafted at once, at most.
    min_ngram: so many of the last tokens must stand in the source.
    max_ngram: M, so many are compared; of the places that agree with most of
      them the last one counts.
    tokens_per_step: so many tokens more in a pass make it last a step longer. A
      pass with drafts must save more than it costs by this; where the rows are
      half as many, there are no drafts. Two CPU cores took 0.32 ms for a token
      more and 9 ms for a step of 4 rows (T5 1.1 small, float32): 28. It
      should be more on accelerators, where that was not measured.

  Raises:
    UserError: a number is below 1, or min_ngram above max_ngram.
  """

  max_draft_tokens: int = 8
  min_ngram: int = 2
  max_ngram: int = 3
  tokens_per_step: int = 32

  def __post_init__(self):
    if min(dataclasses.astuple(self)) < 1 or self.min_ngram > self.max_ngram:
      raise errors.UserError(
        'All numbers of a PromptLookup must be at least 1, and min_ngram at '
        f'most max_ngram. Got {self}.'
      )

  def pays(self, num_rows: int) -> bool:
    """Whether drafts of so many rows can pay at all.

    Args:
      num_rows: R, those that are done included: they are read all the same.
    """
    return 2 * num_rows <= self.tokens_per_step

  def is_worthwhile(
    self, lengths: jax.Array, rates: jax.Array, done: jax.Array
  ) -> jax.Array:
    """Whether a pass that reads these drafts is expected to save time.

    Args:
      lengths: int32 [R], of the drafts.
      rates: float32 [R], the share of a draft that is expected to be kept.
      done: bool [R], rows that do not count.

    Returns:
      bool scalar.
    """
    saved = jnp.sum(jnp.where(done, 0.0, lengths * rates))
    cost = done.size * self.max_draft_tokens / self.tokens_per_step
    return saved > cost * jnp.sum(~done)

  def draft(
    self, source: jax.Array, recent: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Looks up the continuation of each row.

    Args:
      source: int32 [R, L], of `sources`.
      recent: int32 [R, M], the last tokens of each row, the newest last;
        NO_TOKEN where there are fewer.

    Returns:
      int32 [R, K] tokens, and int32 [R], how many of them are a draft.
    """
    num_rows, num_places = source.shape
    # agreed[r, j]: how many tokens up to place j are the last ones of row r.
    agreed = jnp.zeros((num_rows, num_places), jnp.int32)
    agrees = source != PAD_ID
    for back in range(self.max_ngram):
      shifted = jnp.pad(source, ((0, 0), (back, 0)))[:, :num_places]
      agrees = agrees & (shifted == recent[:, -1 - back, None])
      agreed += agrees
    # The longest; of equals, the last.
    place = jnp.arange(num_places)[None, :]
    best = jnp.argmax(agreed * num_places + place, axis=1)
    is_found = jnp.max(agreed, axis=1) >= self.min_ngram
    follows = jnp.pad(source, ((0, 0), (0, self.max_draft_tokens)))
    ahead = 1 + jnp.arange(self.max_draft_tokens)[None, :]
    tokens = jnp.take_along_axis(follows, best[:, None] + ahead, axis=1)
    # A draft ends where its source does.
    length = jnp.sum(jnp.cumprod(tokens != PAD_ID, axis=1), axis=1)
    return tokens, jnp.where(is_found, length, 0)


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


def update_rates(
  rates: jax.Array, lengths: jax.Array, kept: jax.Array
) -> jax.Array:
  """Returns the new estimates after a pass.

  Args:
    rates: float32 [R].
    lengths: int32 [R], of the drafts that were read; 0 where there was none.
    kept: int32 [R], how many of their tokens were kept.

  Returns:
    float32 [R]: after a draft, the mean of the estimate and the draft's share.
  """
  share = kept / jnp.maximum(lengths, 1)
  recovered = jnp.minimum(rates + _RECOVERY, jnp.maximum(rates, FIRST_RATE))
  return jnp.where(lengths > 0, (rates + share) / 2, recovered)
