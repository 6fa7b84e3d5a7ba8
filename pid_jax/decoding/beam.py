# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Beam search for many prompts to each input.

The beams of a prompt are further sequences of its input: R sequences become
R * W, still adjacent, so that all beams of all prompts read the one copy of the
input's keys and values. Only the self-attention cache exists once per beam.
Prompts are prefilled once, before the beams diverge.

The search is that of T5X: live and finished sequences are kept apart, a prompt
is done when no live sequence can overtake its worst finished one any more, and
scores are divided by the length penalty of Wu et al. (2016, arXiv 1609.08144,
eq. 14).

Axis letters are those of `pid_jax.decoding`.
"""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32

from pid_jax import errors
from pid_jax import network
from pid_jax.decoding import constraints
from pid_jax.decoding import generation
from pid_jax.decoding import prefill
from pid_jax.decoding import tokens as tokens_lib

# The score of what does not exist; finite, so that sums of it stay comparable.
_NONE = -1e10


@flax.struct.dataclass
class Beams:
  """The best outputs of each prompt, best first.

  Attributes:
    tokens: int32 [B, U, W, T]; each ends with EOS, unless no beam of the prompt
      reached EOS before the cut; then 0. Zeros where there is no output.
    scores: float32 [B, U, W], log-probability divided by the length penalty,
      falling along W; -inf where there is no output.
    log_probs: float32 [B, U, W], natural logarithm of the model's probability
      of the tokens; -inf where there is no output.
    normalized_log_probs: float32 [B, U, W], see `generation.Generated`; -inf
      where there is no output.
    num_steps: int32 scalar, passes of the decoder, the prefill included.
  """

  tokens: Int32[Array, 'B U W T']
  scores: Float32[Array, 'B U W']
  log_probs: Float32[Array, 'B U W']
  normalized_log_probs: Float32[Array, 'B U W']
  num_steps: Int32[Array, '']

  def best(self) -> generation.Generated:
    """Returns the best output of each prompt, in the form of `generate`."""
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
  """The live and the finished sequences of each prompt.

  Attributes:
    step: int32 scalar, tokens of each live sequence.
    live_tokens: int32 [R, W, T].
    live_log_probs: float32 [R, W], falling along W.
    live_log_normalizers: float32 [R, W], see `loop.State`.
    live_nodes: int32 [R, W], of `tries`.
    finished_tokens: int32 [R, W, T], with EOS.
    finished_scores: float32 [R, W], falling along W.
    finished_log_probs: float32 [R, W].
    finished_log_normalizers: float32 [R, W].
    cache: self-attention cache of the live sequences, R * W and C positions.
  """

  step: Int32[Array, '']
  live_tokens: Int32[Array, 'R W T']
  live_log_probs: Float32[Array, 'R W']
  live_log_normalizers: Float32[Array, 'R W']
  live_nodes: Int32[Array, 'R W']
  finished_tokens: Int32[Array, 'R W T']
  finished_scores: Float32[Array, 'R W']
  finished_log_probs: Float32[Array, 'R W']
  finished_log_normalizers: Float32[Array, 'R W']
  cache: network.KVCache


def beam_search(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
  *,
  cross: network.KVCache | None = None,
  max_new_tokens: int,
  beam_size: int,
  length_penalty: float | int | Float32[Array, ''] = 0.6,
  min_new_tokens: int | Int32[Array, ''] = 0,
  token_limit: int | Int32[Array, ''] | None = None,
  row_mask: Bool[Array, 'B U'] | None = None,
  tries: constraints.Tries | None = None,
  roots: Int32[Array, 'B U'] | None = None,
  packed_prompt_length: int | None = None,
) -> Beams:
  """Encodes each input once and searches for the outputs of all its prompts.

  Args:
    module: the network.
    params: its parameters.
    encoder_input_tokens: int32 [B, S], padded with 0.
    prompt_tokens: int32 [B, U, P], padded with 0 on the right. P may be 0.
    cross: of `prefill.encode` of the same inputs, S positions or more; None:
      the inputs are encoded here.
    max_new_tokens: T, at least 1, EOS included.
    beam_size: W, at least 1: both live and finished sequences of a prompt.
    length_penalty: alpha. Scores are log-probabilities divided by
      ((5 + length) / 6)^alpha, where the length includes EOS: 0 favours the
      likeliest output, larger values favour longer ones.
    min_new_tokens: see `generation.generate`, also for the arguments below.
    token_limit: where outputs are cut, at most T, or None: T.
    row_mask: bool [B, U], the rows to decode. None: see `tokens.present_rows`.
    tries: a table or None. The best string of a set of at most `beam_size` is
      always found.
    roots: int32 [B, U], required with `tries`.
    packed_prompt_length: see `generation.generate`.

  Returns:
    Beams.

  Raises:
    UserError: beam_size or max_new_tokens is below 1.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  if beam_size < 1 or max_new_tokens < 1:
    raise errors.UserError(
      'beam_size and max_new_tokens must be at least 1. Got '
      f'{beam_size} and {max_new_tokens}.'
    )
  if row_mask is None:
    row_mask = tokens_lib.present_rows(encoder_input_tokens, prompt_tokens)
  if roots is None:
    roots = jnp.zeros((num_inputs, num_prompts), jnp.int32)
  if cross is None:
    cross = prefill.encode(module, params, encoder_input_tokens)
  logits, cache = prefill.prefill(
    module,
    params,
    cross,
    prompt_tokens,
    prompt_length + max_new_tokens,
    packed_prompt_length,
  )
  search = _Search(
    module,
    params,
    cross,
    prompt_length,
    max_new_tokens,
    beam_size,
    length_penalty,
    min_new_tokens,
    max_new_tokens if token_limit is None else token_limit,
    tries,
  )
  state = search.start(
    logits, cache.repeat(beam_size), row_mask.reshape(-1), roots.reshape(-1)
  )
  state = jax.lax.while_loop(search.is_unfinished, search.step, state)
  return search.collect(state, num_inputs)


@dataclasses.dataclass(frozen=True)
class _Search:
  """What stays the same during a search; see `beam_search`."""

  module: network.Transformer
  params: Any
  cross: network.KVCache
  prompt_length: int
  max_new_tokens: int
  beam_size: int
  length_penalty: float | int | Float32[Array, '']
  min_new_tokens: int | Int32[Array, '']
  token_limit: int | Int32[Array, '']
  tries: constraints.Tries | None

  def start(
    self,
    logits: Float32[Array, 'R V'],
    cache: network.KVCache,
    row_mask: Bool[Array, ' R'],
    roots: Int32[Array, ' R'],
  ) -> State:
    """Returns the state after the first token.

    Args:
      logits: float32 [R, V], of the prefill.
      cache: of R * W sequences.
      row_mask: bool [R], the prompts to decode.
      roots: int32 [R], nodes of `tries`.
    """
    shape = (row_mask.size, self.beam_size)
    nothing = jnp.full(shape, _NONE, jnp.float32)
    no_tokens = jnp.zeros((*shape, self.max_new_tokens), jnp.int32)
    # All beams are equal before the first token: only one may have children.
    first_beam = jnp.where(row_mask, 0.0, _NONE)
    state = State(
      step=jnp.int32(0),
      live_tokens=no_tokens,
      live_log_probs=nothing.at[:, 0].set(first_beam),
      live_log_normalizers=jnp.zeros_like(nothing),
      live_nodes=jnp.repeat(roots[:, None], self.beam_size, axis=1),
      finished_tokens=no_tokens,
      finished_scores=nothing,
      finished_log_probs=nothing,
      finished_log_normalizers=jnp.zeros_like(nothing),
      cache=cache,
    )
    return self._append(state, jnp.repeat(logits, self.beam_size, axis=0))

  def step(self, state: State) -> State:
    """Decodes the newest tokens of the live sequences, and appends the next."""
    newest = jax.lax.dynamic_slice_in_dim(
      state.live_tokens, state.step - 1, 1, axis=2
    )
    logits, cache = prefill.decode_chunk(
      self.module,
      self.params,
      self.cross,
      state.cache,
      newest.reshape(-1, 1),
      self.prompt_length + state.step,
    )
    return self._append(state.replace(cache=cache), logits)

  def is_unfinished(self, state: State) -> Bool[Array, '']:
    """Whether a live sequence can still overtake a finished one."""
    # Log-probabilities only fall, and no penalty exceeds that of the longest.
    best = state.live_log_probs[:, 0]
    reachable = best / jnp.maximum(
      self._penalty(self.token_limit), self._penalty(state.step + 1)
    )
    can_improve = _exists(best) & (reachable > state.finished_scores[:, -1])
    return (state.step < self.token_limit) & jnp.any(can_improve)

  def collect(self, state: State, num_inputs: int) -> Beams:
    """Returns the outputs of a search that has ended."""
    # A prompt without a finished sequence returns its live ones.
    has_ended = _exists(state.finished_scores[:, :1])
    tokens = jnp.where(
      has_ended[:, :, None], state.finished_tokens, state.live_tokens
    )
    scores = jnp.where(
      has_ended,
      state.finished_scores,
      state.live_log_probs / self._penalty(state.step),
    )
    log_probs = jnp.where(
      has_ended, state.finished_log_probs, state.live_log_probs
    )
    log_normalizers = jnp.where(
      has_ended, state.finished_log_normalizers, state.live_log_normalizers
    )
    exists = _exists(log_probs) & _exists(scores)
    by_input = lambda x: x.reshape(num_inputs, -1, *x.shape[1:])
    where_exists = lambda x: by_input(jnp.where(exists, x, -jnp.inf))
    return Beams(
      tokens=by_input(jnp.where(exists[:, :, None], tokens, 0)),
      scores=where_exists(scores),
      log_probs=where_exists(log_probs),
      normalized_log_probs=where_exists(log_probs - log_normalizers),
      num_steps=state.step,
    )

  def _penalty(
    self, length: int | Int32[Array, '']
  ) -> float | int | Float32[Array, '']:
    return ((5.0 + length) / 6.0) ** self.length_penalty

  def _append(self, state: State, logits: Float32[Array, 'RW V']) -> State:
    """Appends a token to the live sequences, given logits [R * W, V]."""
    num_sequences, beam_size = state.live_log_probs.shape
    vocab_size = logits.shape[1]
    log_probs = jax.nn.log_softmax(logits)
    allowed = tokens_lib.allowed_ids(
      self.module.config, state.step >= self.min_new_tokens
    )
    allowed = jnp.broadcast_to(allowed[None, :], log_probs.shape)
    log_normalizers = state.live_log_normalizers
    if self.tries is not None:
      nodes = state.live_nodes.reshape(-1)
      mask, of_step = self.tries.logit_mask(nodes, logits)
      is_free = (nodes == constraints.FREE)[:, None]
      allowed = jnp.where(is_free, allowed, mask)
      log_normalizers = log_normalizers + of_step.reshape(log_normalizers.shape)
    log_probs = jnp.where(allowed, log_probs, _NONE)
    log_probs = log_probs.reshape(num_sequences, beam_size, vocab_size)
    log_probs = log_probs + state.live_log_probs[:, :, None]
    # Twice as many as there are beams: at most one in each beam can be EOS.
    log_probs, indices = jax.lax.top_k(
      log_probs.reshape(num_sequences, beam_size * vocab_size), 2 * beam_size
    )
    parents, ids = indices // vocab_size, indices % vocab_size
    log_normalizers = _take(log_normalizers, parents)
    nodes = _take(state.live_nodes, parents)
    if self.tries is not None:
      nodes = self.tries.child(nodes, ids)
    tokens = _take(state.live_tokens, parents)
    tokens = jax.lax.dynamic_update_slice_in_dim(
      tokens, ids[:, :, None], state.step, axis=2
    )
    ends = ids == tokens_lib.EOS_ID

    scores = jnp.where(
      ends & _exists(log_probs),
      log_probs / self._penalty(state.step + 1),
      _NONE,
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
    parents += beam_size * jnp.arange(num_sequences)[:, None]
    return State(
      step=state.step + 1,
      live_tokens=_take(tokens, best_live),
      live_log_probs=live_log_probs,
      live_log_normalizers=_take(log_normalizers, best_live),
      live_nodes=_take(nodes, best_live),
      finished_tokens=take_finished(state.finished_tokens, tokens),
      finished_scores=finished_scores,
      finished_log_probs=take_finished(state.finished_log_probs, log_probs),
      finished_log_normalizers=take_finished(
        state.finished_log_normalizers, log_normalizers
      ),
      # The beams of a prompt have one mask.
      cache=state.cache.replace(
        layers=state.cache.take(parents.reshape(-1)).layers
      ),
    )


def _exists(log_probs: Float32[Array, '*R']) -> Bool[Array, '*R']:
  """Whether these are log-probabilities, and not (sums of) _NONE."""
  return log_probs > _NONE / 2


def _take(x: Array, indices: Int32[Array, 'R taken']) -> Array:
  """Takes entries along axis 1: [R, m, ...], [R, taken] -> [R, taken, ...]."""
  indices = indices.reshape(*indices.shape, *(1,) * (x.ndim - 2))
  return jnp.take_along_axis(x, indices, axis=1)
