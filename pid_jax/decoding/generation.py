# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generates the outputs of many prompts to each input.

`generate` is one pure function, to be jitted by the caller: encode, prefill,
then loops of steps, until the last row has ended. Most slots of a dialogue say
"none" after two tokens while one says a long name; so whenever half of the rows
of each input have ended, the others move together, and the next loop runs on
half as many. Shapes of a program are fixed: it holds one loop for each width.
Letters as in `grid`, and T generated tokens.
"""

from typing import Any

import flax
import jax

from pid_jax import network
from pid_jax.decoding import constraints as tries_lib
from pid_jax.decoding import loop
from pid_jax.decoding import prompt_lookup as lookup_lib
from pid_jax.decoding import sampling

# So few rows cost hardly less when they are halved: a step then waits for the
# weights to be read.
_FEW_ROWS = 16


@flax.struct.dataclass
class Generated:
  """The outputs of a batch.

  Attributes:
    tokens: int32 [B, U, T]; ends with EOS unless T cut it, then 0. Rows that
      are absent hold 0 only.
    log_probs: float32 [B, U], natural logarithm of the probability that the
      model gives the tokens, EOS included: its own, whichever sampler chose
      them. 0 for absent rows.
    normalized_log_probs: float32 [B, U], the same by the distribution that
      `tries` leave: each token's probability over the sum of those of the
      tokens that were let through in its place. Those of all strings of a set
      sum to 1. Where a row is free, its log_probs.
    num_steps: int32 scalar, how often the decoder ran, the prefill included:
      once for each token of the longest output, or less often with drafts.
    num_row_steps: int32 scalar, the rows that it ran on, summed over the steps.
  """

  tokens: jax.Array
  log_probs: jax.Array
  normalized_log_probs: jax.Array
  num_steps: jax.Array
  num_row_steps: jax.Array


def generate(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  *,
  max_new_tokens: int,
  min_new_tokens: int | jax.Array = 0,
  sampler: sampling.Sampler = sampling.GREEDY,
  lookup: lookup_lib.PromptLookup | None = None,
  rng: jax.Array | None = None,
  sequence_ids: jax.Array | None = None,
  row_mask: jax.Array | None = None,
  tries: tries_lib.Tries | None = None,
  roots: jax.Array | None = None,
  num_compactions: int = 2,
) -> Generated:
  """Encodes each input once and decodes all its prompts together.

  Padding (id 0) and the ids from `config.num_tokens` on are never generated.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right, without a start
      token. P may be 0: each row then starts from the start token alone, as in
      a stock T5.
    max_new_tokens: T, at least 1, EOS included.
    min_new_tokens: tokens before which EOS is not allowed in rows that are
      free; may be traced. As many as `max_new_tokens` fixes the number of
      tokens, for timing.
    sampler: chooses the tokens.
    lookup: how to draft tokens that the output may copy from the input or the
      prompt, or to which `tries` leave no alternative; None: not. The outputs
      do not depend on it.
    rng: random key; not needed by `Greedy`.
    sequence_ids: int32 [B]. Row (b, u) draws from the random numbers of `rng`,
      sequence_ids[b] and u, so that an input's outputs do not depend on its
      place in a batch. None: 0 .. B-1.
    row_mask: bool [B, U], the rows to decode; others return zeros. None: see
      `grid.present_rows`.
    tries: sets of strings, of `tries.build`; None: all rows are free. A string
      of more than `max_new_tokens`, EOS included, may come out cut.
    roots: int32 [B, U], given with `tries`: the root of the set that a row's
      output is one of; tries.FREE for rows that are free.
    num_compactions: how often the number of rows may be halved. The outputs do
      not depend on it; the program grows by a loop for each.

  Returns:
    Generated.
  """
  num_inputs, num_prompts, _ = prompt_tokens.shape
  settings = loop.Settings(module, max_new_tokens, sampler, lookup)
  state = loop.start(
    settings,
    params,
    encoder_input_tokens,
    prompt_tokens,
    min_new_tokens=min_new_tokens,
    rng=rng,
    sequence_ids=sequence_ids,
    row_mask=row_mask,
    tries=tries,
    roots=roots,
  )
  for width in _narrower_widths(num_inputs, num_prompts, num_compactions):
    state = loop.advance(
      settings, params, state, max_left=width, min_new_tokens=min_new_tokens
    )
    state = loop.compact(state, width)
  state = loop.advance(settings, params, state, min_new_tokens=min_new_tokens)
  normalized = state.log_probs - state.log_masses
  return Generated(
    tokens=state.tokens.reshape(num_inputs, num_prompts, max_new_tokens),
    log_probs=state.log_probs.reshape(num_inputs, num_prompts),
    normalized_log_probs=normalized.reshape(num_inputs, num_prompts),
    num_steps=state.num_steps,
    num_row_steps=state.num_row_steps,
  )


def _narrower_widths(
  num_inputs: int, num_prompts: int, num_compactions: int
) -> list[int]:
  """Returns the numbers of rows of an input to compact to, falling."""
  widths, width = [], num_prompts
  while len(widths) < num_compactions and num_inputs * width > _FEW_ROWS:
    if width == 1:
      break
    width = -(-width // 2)
    widths.append(width)
  return widths
