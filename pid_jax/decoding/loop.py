# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The state of a batch that is being decoded, and the loop of its steps.

`start` prefills, and chooses the first token of each sequence; `advance` takes
steps, each of which appends a token to every unfinished sequence, or several
where drafts are accepted (`prompt_lookup`); `compact` drops sequences that have
ended.

Axis letters are those of `pid_jax.decoding`.
"""

import dataclasses
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32, Key, PRNGKeyArray, UInt32

from pid_jax import network
from pid_jax.decoding import constraints
from pid_jax.decoding import prefill
from pid_jax.decoding import prompt_lookup as prompt_lookup_lib
from pid_jax.decoding import sampling
from pid_jax.decoding import tokens as tokens_lib

PAD_ID = tokens_lib.PAD_ID
EOS_ID = tokens_lib.EOS_ID


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is fixed when a program is compiled.

  Attributes:
    module: the network.
    max_new_tokens: T, at least 1, EOS included.
    sampler: chooses the tokens.
    prompt_lookup: drafts tokens from the input; None: one token per step.
    packed_prompt_length: L, see `prefill.prefill`; None: prompts are padded.

  Raises:
    ValueError: max_new_tokens is below 1.
  """

  module: network.Transformer
  max_new_tokens: int
  sampler: sampling.Sampler = sampling.GREEDY
  prompt_lookup: prompt_lookup_lib.PromptLookup | None = None
  packed_prompt_length: int | None = None

  def __post_init__(self):
    if self.max_new_tokens < 1:
      raise ValueError(
        f'max_new_tokens must be at least 1, got {self.max_new_tokens}.'
      )

  @property
  def num_output_positions(self) -> int:
    """Cache positions that a sequence needs behind its prompt."""
    if self.prompt_lookup is None:
      return self.max_new_tokens - 1  # Nothing follows the last token.
    # Drafts are written whole, even where only their beginning is read.
    return self.max_new_tokens - 1 + self.prompt_lookup.max_draft_tokens

  def cache_length(self, prompt_length: int) -> int:
    """Returns C for prompts of P tokens, which follow the start token."""
    return 1 + prompt_length + self.num_output_positions


@flax.struct.dataclass
class Sequences:
  """The A sequences that are still decoded; those of one input are adjacent.

  Attributes:
    index: int32 [A], which of the R sequences each is.
    counts: int32 [A], tokens chosen so far.
    recent: int32 [A, ngram], the last tokens of output and prompt, the newest
      last; prompt_lookup.NO_TOKEN where there are fewer. One token without
      prompt lookup.
    acceptance_rates: float32 [A], see prompt_lookup.update_rates.
    done: bool [A], whether a sequence has its EOS or as many tokens as it may,
      or was masked from the start.
    keys: random keys [A].
    sources: int32 [A, source], see prompt_lookup.sources; source is 0 without
      prompt lookup.
    nodes: int32 [A], of tries; constraints.FREE if a sequence is not
      constrained.
  """

  index: Int32[Array, ' A']
  counts: Int32[Array, ' A']
  recent: Int32[Array, 'A ngram']
  acceptance_rates: Float32[Array, ' A']
  done: Bool[Array, ' A']
  keys: Key[Array, ' A'] | UInt32[Array, 'A _']
  sources: Int32[Array, 'A source']
  nodes: Int32[Array, ' A']


class Output(NamedTuple):
  """The outputs of sequences: of a batch [B, U], of slots [G, J], or of a row.

  Attributes:
    tokens: int32 [..., T], each up to its EOS, then 0; so far, where a sequence
      has not ended.
    log_probs: float32 [...], natural logarithms of the probabilities that the
      model gives the tokens, EOS included.
    normalized_log_probs: float32 [...], the same among what the tries allow;
      see `generation.Generated`.
  """

  tokens: Int32[Array, '*R T']
  log_probs: Float32[Array, '*R']
  normalized_log_probs: Float32[Array, '*R']


@flax.struct.dataclass
class State:
  """A batch that is being decoded.

  Attributes:
    num_steps: int32 scalar, see `generation.Generated`.
    num_row_steps: int32 scalar, see `generation.Generated`.
    tokens: int32 [R, T], the tokens chosen; 0 after EOS, and where none is
      chosen yet.
    log_probs: float32 [R], summed over the tokens chosen.
    log_normalizers: float32 [R], log-probability of all tokens that the tries
      allow, summed over the same steps; see `constraints.Tries.logit_mask`.
    sequences: the A sequences that are still decoded.
    cross: cross-attention cache, B inputs and S positions.
    cache: self-attention cache, A sequences and C positions, written up to the
      newest token but one.
    tries: what constrains the outputs, or None.
  """

  num_steps: Int32[Array, '']
  num_row_steps: Int32[Array, '']
  tokens: Int32[Array, 'R T']
  log_probs: Float32[Array, ' R']
  log_normalizers: Float32[Array, ' R']
  sequences: Sequences
  cross: network.KVCache
  cache: network.KVCache
  tries: constraints.Tries | None

  @property
  def num_inputs(self) -> int:
    """B."""
    return self.cross.mask.shape[0]

  def output(self) -> Output:
    """Returns the outputs of all sequences, [B, R // B]."""
    by_input = lambda x: x.reshape(self.num_inputs, -1, *x.shape[1:])
    return Output(
      tokens=by_input(self.tokens),
      log_probs=by_input(self.log_probs),
      normalized_log_probs=by_input(self.log_probs - self.log_normalizers),
    )


def start(
  settings: Settings,
  params: Any,
  cross: network.KVCache,
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
  *,
  min_new_tokens: int | Int32[Array, ''] = 0,
  token_limit: int | Int32[Array, ''] | None = None,
  rng: PRNGKeyArray | None = None,
  sequence_ids: Int32[Array, ' B'] | None = None,
  row_mask: Bool[Array, 'B U'] | None = None,
  tries: constraints.Tries | None = None,
  roots: Int32[Array, 'B U'] | None = None,
) -> State:
  """Prefills, and chooses the first token of each sequence.

  Args:
    settings: of the program.
    params: of the network.
    cross: of `prefill.encode`, S positions or more.
    encoder_input_tokens: int32 [B, S].
    prompt_tokens: int32 [B, U, P].
    min_new_tokens: see `generation.generate`, also for the arguments below.
    token_limit: at most T, or None: T.
    rng: random key or None.
    sequence_ids: int32 [B] or None.
    row_mask: bool [B, U] or None.
    tries: a table or None.
    roots: int32 [B, U] if there is a table.

  Returns:
    The state with all sequences, A = R.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  num_sequences = num_inputs * num_prompts
  if row_mask is None:
    row_mask = tokens_lib.present_rows(encoder_input_tokens, prompt_tokens)
  lookup = settings.prompt_lookup
  sources = jnp.zeros((num_sequences, 0), jnp.int32)
  recent = jnp.full((num_sequences, 1), prompt_lookup_lib.NO_TOKEN, jnp.int32)
  if lookup is not None:
    sources = prompt_lookup_lib.sources(encoder_input_tokens, prompt_tokens)
    recent = tokens_lib.last_tokens(
      prompt_tokens.reshape(num_sequences, prompt_length),
      lookup.max_ngram,
      prompt_lookup_lib.NO_TOKEN,
    )
  logits, cache = prefill.prefill(
    settings.module,
    params,
    cross,
    prompt_tokens,
    settings.cache_length(prompt_length),
    settings.packed_prompt_length,
  )
  nodes = jnp.zeros(num_sequences, jnp.int32)
  state = State(
    num_steps=jnp.int32(0),
    num_row_steps=jnp.int32(0),
    tokens=jnp.full(
      (num_sequences, settings.max_new_tokens), PAD_ID, jnp.int32
    ),
    log_probs=jnp.zeros(num_sequences, jnp.float32),
    log_normalizers=jnp.zeros(num_sequences, jnp.float32),
    sequences=Sequences(
      index=jnp.arange(num_sequences),
      counts=jnp.zeros(num_sequences, jnp.int32),
      recent=recent,
      acceptance_rates=jnp.full(
        num_sequences, prompt_lookup_lib.FIRST_RATE, jnp.float32
      ),
      done=~row_mask.reshape(num_sequences),
      keys=_sequence_keys(rng, sequence_ids, num_inputs, num_prompts),
      sources=sources,
      nodes=nodes if tries is None else roots.reshape(-1),
    ),
    cross=cross,
    cache=cache,
    tries=tries,
  )
  # The last logits of the prompts give the first tokens; from then on each step
  # reads the newest token.
  return _choose(
    settings,
    state,
    logits[:, None],
    min_new_tokens,
    settings.max_new_tokens if token_limit is None else token_limit,
    *_no_drafts(state),
  )


def advance(
  settings: Settings,
  params: Any,
  state: State,
  *,
  max_unfinished: int = 0,
  max_active: int | Int32[Array, ''] = 0,
  lockstep: bool = True,
  min_new_tokens: int | Int32[Array, ''] = 0,
  token_limit: int | Int32[Array, ''] | None = None,
) -> State:
  """Takes steps until few sequences of each input, or few inputs, are left.

  Args:
    settings: of the program.
    params: of the network.
    state: of `start`, `compact` or a call before.
    max_unfinished: the loop stops when no input has more unfinished sequences
      than this,
    max_active: or when no more inputs than this have unfinished sequences. It
      may be traced.
    lockstep: whether all unfinished sequences have equally many tokens, which
      `start` and steps without drafts guarantee.
    min_new_tokens: see `generation.generate`.
    token_limit: see `generation.generate`.

  Returns:
    The state with the same A sequences.
  """
  if token_limit is None:
    token_limit = settings.max_new_tokens

  def is_needed(state: State) -> Bool[Array, '']:
    left = jnp.sum(~state.sequences.done.reshape(state.num_inputs, -1), axis=1)
    return (jnp.max(left) > max_unfinished) & (jnp.sum(left > 0) > max_active)

  def decode(
    state: State,
    drafts: Int32[Array, 'A draft'],
    draft_lengths: Int32[Array, ' A'],
  ) -> State:
    """Reads the newest tokens and drafts, and appends what follows."""
    sequences = state.sequences
    # All prompts end at this position.
    prompt_end = state.cache.length - settings.num_output_positions - 1
    # One index serves all sequences that are in lockstep.
    one_index = lockstep and settings.prompt_lookup is None
    counts = state.num_steps if one_index else sequences.counts
    logits, cache = prefill.decode_chunk(
      settings.module,
      params,
      state.cross,
      state.cache,
      jnp.concatenate([sequences.recent[:, -1:], drafts], axis=1),
      prompt_end + counts,
      all_logits=True,
    )
    state = state.replace(cache=cache)
    return _choose(
      settings,
      state,
      logits,
      min_new_tokens,
      token_limit,
      drafts,
      draft_lengths,
    )

  def take_step(state: State) -> State:
    return decode(state, *_no_drafts(state))

  num_sequences = state.sequences.done.shape[0]
  if settings.prompt_lookup is None or not settings.prompt_lookup.pays(
    num_sequences
  ):
    return jax.lax.while_loop(is_needed, take_step, state)

  def draft(
    state: State,
  ) -> tuple[State, Int32[Array, 'A draft'], Int32[Array, ' A']]:
    sequences = state.sequences
    tokens, lengths = settings.prompt_lookup.draft(
      sequences.sources, sequences.recent
    )
    if state.tries is not None:
      tokens, lengths = state.tries.constrain_draft(
        sequences.nodes, tokens, lengths
      )
    # The token after a draft costs nothing more, and needs a position.
    room = token_limit - sequences.counts - 1
    lengths = jnp.where(sequences.done, 0, jnp.minimum(lengths, room))
    return state, tokens, lengths

  def is_worthwhile(
    carry: tuple[State, Int32[Array, 'A draft'], Int32[Array, ' A']],
  ) -> Bool[Array, '']:
    sequences, lengths = carry[0].sequences, carry[2]
    return settings.prompt_lookup.is_worthwhile(
      lengths, sequences.acceptance_rates, sequences.done
    )

  # Two loops in one, not a branch: XLA's CPU compiler copies the cache into and
  # out of branches, a seventh of a step.
  def alternate(carry):
    carry = jax.lax.while_loop(
      lambda c: is_needed(c[0]) & ~is_worthwhile(c),
      lambda c: draft(take_step(c[0])),
      carry,
    )
    return jax.lax.while_loop(
      lambda c: is_needed(c[0]) & is_worthwhile(c),
      lambda c: draft(decode(*c)),
      carry,
    )

  state, *_ = jax.lax.while_loop(
    lambda c: is_needed(c[0]), alternate, draft(state)
  )
  return state


def _no_drafts(
  state: State,
) -> tuple[Int32[Array, 'A 0'], Int32[Array, ' A']]:
  """Returns drafts of no token for all sequences, and their lengths, 0."""
  counts = state.sequences.counts
  return jnp.zeros((counts.size, 0), jnp.int32), jnp.zeros_like(counts)


def _choose(
  settings: Settings,
  state: State,
  logits: Float32[Array, 'A Q V'],
  min_new_tokens: int | Int32[Array, ''],
  token_limit: int | Int32[Array, ''],
  drafts: Int32[Array, 'A Q-1'],
  draft_lengths: Int32[Array, ' A'],
) -> State:
  """Appends the tokens that the logits give, and no others.

  Args:
    settings: of the program.
    state: before.
    logits: float32 [A, Q, V], after the newest token and Q - 1 drafted ones.
    min_new_tokens: see `generation.generate`.
    token_limit: see `generation.generate`.
    drafts: int32 [A, Q - 1], the drafted tokens.
    draft_lengths: int32 [A], the length of each draft.

  Returns:
    The state after: each unfinished sequence has its next token, and more where
    the draft is what would have been chosen.
  """
  sequences = state.sequences
  query = jnp.arange(logits.shape[1])[None, :]
  positions = sequences.counts[:, None] + query  # [A, Q], in the output.
  allowed = tokens_lib.allowed_ids(
    settings.module.config, positions >= min_new_tokens
  )
  if state.tries is not None:
    nodes = state.tries.walk(sequences.nodes, drafts)  # [A, Q]
    mask, log_normalizers = state.tries.logit_mask(nodes, logits)
    # A string ends where it does, even before `min_new_tokens`.
    is_free = (nodes == constraints.FREE)[:, :, None]
    allowed = jnp.where(is_free, allowed, mask)
  fold_each = jax.vmap(jax.random.fold_in, (None, 0))
  tokens = jax.vmap(jax.vmap(settings.sampler))(
    jnp.where(allowed, logits, -jnp.inf),
    jax.vmap(fold_each)(sequences.keys, positions),
  )
  is_accepted = (tokens[:, :-1] == drafts) & (
    query[:, :-1] < draft_lengths[:, None]
  )
  num_accepted = jnp.sum(jnp.cumprod(is_accepted, axis=1), axis=1)
  ends = tokens == EOS_ID
  ends_before = jnp.cumsum(ends, axis=1) - ends
  is_new = (query <= num_accepted[:, None]) & (ends_before == 0)
  is_new = is_new & ~sequences.done[:, None]
  num_new = jnp.sum(is_new, axis=1)
  counts = sequences.counts + num_new
  history = jnp.concatenate([sequences.recent, tokens], axis=1)
  span = num_new[:, None] + jnp.arange(sequences.recent.shape[1])[None, :]
  log_probs = jnp.where(is_new, tokens_lib.token_log_probs(logits, tokens), 0.0)
  if state.tries is not None:
    log_normalizers = jnp.sum(jnp.where(is_new, log_normalizers, 0.0), axis=1)
    reached = state.tries.child(nodes, tokens)
    newest = jnp.maximum(num_new - 1, 0)[:, None]
    reached = jnp.take_along_axis(reached, newest, axis=1)[:, 0]
    state = state.replace(
      log_normalizers=state.log_normalizers.at[sequences.index].add(
        log_normalizers
      ),
      sequences=sequences.replace(nodes=reached),
    )
    sequences = state.sequences
  return state.replace(
    num_steps=state.num_steps + 1,
    num_row_steps=state.num_row_steps + sequences.index.size,
    # Tokens that are not new are written out of bounds, and dropped.
    tokens=state.tokens.at[
      sequences.index[:, None],
      jnp.where(is_new, positions, settings.max_new_tokens),
    ].set(tokens, mode='drop'),
    log_probs=state.log_probs.at[sequences.index].add(
      jnp.sum(log_probs, axis=1)
    ),
    sequences=sequences.replace(
      counts=counts,
      recent=jnp.take_along_axis(history, span, axis=1),
      acceptance_rates=prompt_lookup_lib.update_rates(
        sequences.acceptance_rates, draft_lengths, num_accepted
      ),
      done=sequences.done
      | jnp.any(ends & is_new, axis=1)
      | (counts >= token_limit),
    ),
  )


def compact(state: State, width: int) -> State:
  """Keeps `width` sequences of each input, the unfinished ones among them.

  Args:
    state: whose inputs have at most `width` unfinished sequences each.
    width: sequences of an input to keep, at most as many as there are.

  Returns:
    The state with A = B * width; the outputs of all R sequences stay.
  """
  done = state.sequences.done.reshape(state.num_inputs, -1)
  # Sequences stay in order; the finished ones come last.
  kept = jnp.argsort(done, axis=1, stable=True)[:, :width]
  kept += done.shape[1] * jnp.arange(state.num_inputs)[:, None]
  return take_sequences(state, kept.reshape(-1))


def take_sequences(state: State, indices: Int32[Array, ' taken']) -> State:
  """Returns the state of the given sequences, equally many per input."""
  return state.replace(
    sequences=jax.tree.map(lambda x: x[indices], state.sequences),
    cache=state.cache.take(indices),
  )


def _sequence_keys(
  rng: PRNGKeyArray | None,
  sequence_ids: Int32[Array, ' B'] | None,
  num_inputs: int,
  num_prompts: int,
) -> Key[Array, ' R'] | UInt32[Array, 'R _']:
  """Returns R random keys, one for each sequence."""
  if rng is None:
    rng = jax.random.key(0)
  if sequence_ids is None:
    sequence_ids = jnp.arange(num_inputs)
  fold_each = jax.vmap(jax.random.fold_in, (None, 0))
  by_input = fold_each(rng, sequence_ids)
  keys = jax.vmap(fold_each, (0, None))(by_input, jnp.arange(num_prompts))
  return keys.reshape(num_inputs * num_prompts, *keys.shape[2:])
