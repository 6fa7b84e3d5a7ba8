# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search for many prompts to each input.

The beams of a prompt are further rows of its input: R = B * U rows become
R * W, still adjacent, so that all beams of all prompts read the one copy of the
input's keys and values. Only the self-attention cache exists once per beam.
Prompts are read before the beams part, in one pass.

The search is that of T5X: live and finished sequences are kept apart, a row
ends when no live one can overtake the worst finished one any more, and scores
are divided by the length penalty of Wu et al. (2016, arXiv 1609.08144, eq. 14).
Letters as in `grid`, W beams, and T generated tokens.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import errors
from pid_jax import network
from pid_jax.decoding import constraints as tries_lib
from pid_jax.decoding import generation
from pid_jax.decoding import loop
from pid_jax.decoding import prefill as grid_lib

# The score of what does not exist; finite, so that sums of it stay comparable.
_NONE = -1e10


@flax.struct.dataclass
class Beams:
  """The best outputs of each prompt, best first.

  Attributes:
    tokens: int32 [B, U, W, T]; each ends with EOS, unless no beam of the prompt
      had reached it within T tokens; then 0. Zeros where there is no output.
    scores: float32 [B, U, W], log-probability over length penalty, by which the
      beams are ordered; -inf where there is no output.
    log_probs: float32 [B, U, W], natural logarithm of the probability that the
      model gives the tokens; -inf where there is no output.
    normalized_log_probs: float32 [B, U, W], see `generation.Generated`; -inf
      where there is no output.
    num_steps: int32 scalar, how often the decoder ran.
  """

  tokens: jax.Array
  scores: jax.Array
  log_probs: jax.Array
  normalized_log_probs: jax.Array
  num_steps: jax.Array

  def best(self) -> generation.Generated:
    """The best output of each prompt, in the form of `generate`."""
    best = lambda x: jnp.where(jnp.isneginf(x), 0.0, x)[:, :, 0]
    return generation.Generated(
      tokens=self.tokens[:, :, 0],
      log_probs=best(self.log_probs),
      normalized_log_probs=best(self.normalized_log_probs),
      num_steps=self.num_steps,
      num_row_steps=self.num_steps * self.log_probs.size,
    )


@flax.struct.dataclass
class State:
  """What changes from step to step.

  Attributes:
    step: int32 scalar, tokens of each live sequence.
    live_tokens: int32 [R, W, T].
    live_log_probs: float32 [R, W], falling along W.
    live_log_masses: float32 [R, W], see `loop.State`.
    live_nodes: int32 [R, W], of `tries`.
    finished_tokens: int32 [R, W, T], with EOS.
    finished_scores: float32 [R, W], falling along W.
    finished_log_probs: float32 [R, W].
    finished_log_masses: float32 [R, W].
    cache: network.KeyValues of N layers, R * W rows and C slots, of the live
      ones.
  """

  step: jax.Array
  live_tokens: jax.Array
  live_log_probs: jax.Array
  live_log_masses: jax.Array
  live_nodes: jax.Array
  finished_tokens: jax.Array
  finished_scores: jax.Array
  finished_log_probs: jax.Array
  finished_log_masses: jax.Array
  cache: Any


def beam_search(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  *,
  max_new_tokens: int,
  beam_size: int,
  length_penalty: float | jax.Array = 0.6,
  min_new_tokens: int | jax.Array = 0,
  row_mask: jax.Array | None = None,
  tries: tries_lib.Tries | None = None,
  roots: jax.Array | None = None,
) -> Beams:
  """Encodes each input once and searches for the outputs of all its prompts.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    max_new_tokens: T, at least 1, EOS included.
    beam_size: W, at least 1; as many finished outputs are kept.
    length_penalty: alpha. Scores are log-probabilities over
      ((5 + length) / 6)^alpha, the length counting EOS: 0 favours the likeliest
      output, more favours longer ones.
    min_new_tokens: see `generation.generate`, as for what follows.
    row_mask: bool [B, U], the rows to decode. None: see `grid.present_rows`.
    tries: a table or None. The best of no more than `beam_size` strings is
      found for certain.
    roots: int32 [B, U], where there is a table.

  Returns:
    Beams.

  Raises:
    UserError: beam_size or max_new_tokens is below 1.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  rows, vocab_size = num_inputs * num_prompts, module.config.vocab_size
  if beam_size < 1 or max_new_tokens < 1:
    raise errors.UserError(
      'beam_size and max_new_tokens must be at least 1. Got '
      f'{beam_size} and {max_new_tokens}.'
    )
  if row_mask is None:
    row_mask = grid_lib.present_rows(encoder_input_tokens, prompt_tokens)
  logits, grid, cache = grid_lib.prefill(
    module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    num_slots=prompt_length + max_new_tokens,
  )
  grid, cache = grid_lib.repeat_rows(grid, cache, beam_size)

  def penalty(length: int | jax.Array) -> jax.Array:
    return ((5.0 + length) / 6.0) ** length_penalty

  def grow(state: State, logits: jax.Array) -> State:
    """Extends the live sequences by a token, given logits [R * W, V]."""
    log_probs = jax.nn.log_softmax(logits)
    allowed = loop.allowed_ids(module.config, state.step >= min_new_tokens)
    allowed = jnp.broadcast_to(allowed[None, :], log_probs.shape)
    log_masses = state.live_log_masses
    if tries is not None:
      nodes = state.live_nodes.reshape(-1)
      let_through, masses = tries.allow(nodes, logits)
      is_free = (nodes == tries_lib.FREE)[:, None]
      allowed = jnp.where(is_free, allowed, let_through)
      log_masses = log_masses + masses.reshape(log_masses.shape)
    log_probs = jnp.where(allowed, log_probs, _NONE)
    log_probs = log_probs.reshape(rows, beam_size, vocab_size)
    log_probs = log_probs + state.live_log_probs[:, :, None]
    # Twice as many as there are beams: at most one in each beam can be EOS.
    log_probs, places = jax.lax.top_k(
      log_probs.reshape(rows, beam_size * vocab_size), 2 * beam_size
    )
    parents, ids = places // vocab_size, places % vocab_size
    log_masses = _take(log_masses, parents)
    nodes = _take(state.live_nodes, parents)
    if tries is not None:
      nodes = tries.child(nodes, ids)
    tokens = jnp.take_along_axis(state.live_tokens, parents[:, :, None], axis=1)
    tokens = jax.lax.dynamic_update_slice_in_dim(
      tokens, ids[:, :, None], state.step, axis=2
    )
    ends = ids == grid_lib.EOS_ID

    scores = jnp.where(
      ends & _exists(log_probs), log_probs / penalty(state.step + 1), _NONE
    )
    finished_scores, best = jax.lax.top_k(
      jnp.concatenate([state.finished_scores, scores], axis=1), beam_size
    )
    take_finished = lambda old, new: _take(
      jnp.concatenate([old, new], axis=1), best
    )
    live_log_probs, best_live = jax.lax.top_k(
      jnp.where(ends, _NONE, log_probs), beam_size
    )
    parents = _take(parents, best_live)
    return State(
      step=state.step + 1,
      live_tokens=_take(tokens, best_live),
      live_log_probs=live_log_probs,
      live_log_masses=_take(log_masses, best_live),
      live_nodes=_take(nodes, best_live),
      finished_tokens=take_finished(state.finished_tokens, tokens),
      finished_scores=finished_scores,
      finished_log_probs=take_finished(state.finished_log_probs, log_probs),
      finished_log_masses=take_finished(state.finished_log_masses, log_masses),
      cache=grid_lib.take_rows(
        state.cache,
        (jnp.arange(rows)[:, None] * beam_size + parents).reshape(-1),
      ),
    )

  def unfinished(state: State) -> jax.Array:
    # Log-probabilities only fall, and no penalty exceeds that of T tokens.
    best = state.live_log_probs[:, 0]
    reachable = best / jnp.maximum(
      penalty(max_new_tokens), penalty(state.step + 1)
    )
    is_open = _exists(best) & (reachable > state.finished_scores[:, -1])
    return (state.step < max_new_tokens) & jnp.any(is_open)

  def take_step(state: State) -> State:
    newest = jax.lax.dynamic_slice_in_dim(
      state.live_tokens, state.step - 1, 1, axis=2
    )
    logits, cache = grid_lib.extend(
      module,
      params,
      grid,
      state.cache,
      newest.reshape(rows * beam_size, 1),
      prompt_length + state.step,
    )
    return grow(state.replace(cache=cache), logits)

  nothing = jnp.full((rows, beam_size), _NONE, jnp.float32)
  no_tokens = jnp.zeros((rows, beam_size, max_new_tokens), jnp.int32)
  alone = jnp.where(row_mask.reshape(rows), 0.0, _NONE)
  if roots is None:
    roots = jnp.zeros((num_inputs, num_prompts), jnp.int32)
  state = State(
    step=jnp.int32(0),
    live_tokens=no_tokens,
    # All beams are alike before the first token: only one may have children.
    live_log_probs=nothing.at[:, 0].set(alone),
    live_log_masses=jnp.zeros_like(nothing),
    live_nodes=jnp.repeat(roots.reshape(rows, 1), beam_size, axis=1),
    finished_tokens=no_tokens,
    finished_scores=nothing,
    finished_log_probs=nothing,
    finished_log_masses=jnp.zeros_like(nothing),
    cache=cache,
  )
  first = grow(state, jnp.repeat(logits, beam_size, axis=0))
  state = jax.lax.while_loop(unfinished, take_step, first)

  # A prompt none of whose beams has ended gives what they have got so far.
  has_ended = _exists(state.finished_scores[:, :1])
  tokens = jnp.where(
    has_ended[:, :, None], state.finished_tokens, state.live_tokens
  )
  scores = jnp.where(
    has_ended, state.finished_scores, state.live_log_probs / penalty(state.step)
  )
  log_probs = jnp.where(
    has_ended, state.finished_log_probs, state.live_log_probs
  )
  log_masses = jnp.where(
    has_ended, state.finished_log_masses, state.live_log_masses
  )
  exists = _exists(log_probs) & _exists(scores)
  shape = (num_inputs, num_prompts, beam_size)
  return Beams(
    tokens=jnp.where(exists[:, :, None], tokens, 0).reshape(*shape, -1),
    scores=jnp.where(exists, scores, -jnp.inf).reshape(shape),
    log_probs=jnp.where(exists, log_probs, -jnp.inf).reshape(shape),
    normalized_log_probs=jnp.where(
      exists, log_probs - log_masses, -jnp.inf
    ).reshape(shape),
    num_steps=state.step,
  )


def _exists(log_probs: jax.Array) -> jax.Array:
  """Whether these are log-probabilities, and not (sums of) _NONE."""
  return log_probs > _NONE / 2


def _take(x: jax.Array, places: jax.Array) -> jax.Array:
  """[R, n, ...], [R, m] -> [R, m, ...]."""
  places = places.reshape(*places.shape, *(1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, places, axis=1)
