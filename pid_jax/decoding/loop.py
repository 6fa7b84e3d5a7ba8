# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A batch that is being decoded: start it, take steps, drop rows that ended.

`start` encodes, prefills, and chooses the first token of each row; `advance`
takes steps, each of which appends a token to every row that is not done, or
several where drafts are kept (`lookup`); `compact` keeps fewer rows.

Letters as in `grid`, T generated tokens, R' rows of the grid that are left, Q
tokens of a row in one pass, L, K and M as in `lookup`.
"""

import dataclasses
from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import network
from pid_jax.decoding import constraints as tries_lib
from pid_jax.decoding import prefill as grid_lib
from pid_jax.decoding import prompt_lookup as lookup_lib
from pid_jax.decoding import sampling

PAD_ID = grid_lib.PAD_ID
EOS_ID = grid_lib.EOS_ID


@dataclasses.dataclass(frozen=True)
class Settings:
  """What is fixed when a program is compiled.

  Attributes:
    module: the network.
    max_new_tokens: T, at least 1, EOS included.
    sampler: chooses the tokens.
    lookup: drafts tokens from the input; None: every token takes a step.

  Raises:
    ValueError: max_new_tokens is below 1.
  """

  module: network.Transformer
  max_new_tokens: int
  sampler: sampling.Sampler = sampling.GREEDY
  lookup: lookup_lib.PromptLookup | None = None

  def __post_init__(self):
    if self.max_new_tokens < 1:
      raise ValueError(
        f'max_new_tokens must be at least 1, got {self.max_new_tokens}.'
      )

  @property
  def num_slots(self) -> int:
    """Slots that a row needs besides its prompt's and the start token's."""
    if self.lookup is None:
      return self.max_new_tokens - 1  # Nothing follows the last token.
    # Drafts are written whole, even where only their beginning is read.
    return self.max_new_tokens - 1 + self.lookup.max_draft_tokens


@flax.struct.dataclass
class Rows:
  """The rows that are left; those of an input adjacent.

  Attributes:
    index: int32 [R'], which of the R rows each is.
    counts: int32 [R'], tokens chosen so far.
    recent: int32 [R', M], the last tokens chosen or of the prompt, the newest
      last; lookup.NO_TOKEN where there are fewer. M is 1 without lookup.
    rates: float32 [R'], see lookup.update_rates.
    done: bool [R'], whether a row has its EOS or T tokens, or was absent from
      the start.
    keys: random keys [R'].
    sources: int32 [R', L], see lookup.sources; L is 0 without lookup.
    nodes: int32 [R'], of tries; FREE where a row is not constrained.
  """

  index: jax.Array
  counts: jax.Array
  recent: jax.Array
  rates: jax.Array
  done: jax.Array
  keys: jax.Array
  sources: jax.Array
  nodes: jax.Array


@flax.struct.dataclass
class State:
  """A batch that is being decoded.

  Attributes:
    num_steps: int32 scalar, see `generation.Generated`.
    num_row_steps: int32 scalar, see `generation.Generated`.
    tokens: int32 [R, T], the tokens chosen; 0 after EOS, and where none is yet.
    log_probs: float32 [R], summed over the tokens chosen.
    log_masses: float32 [R], log-probabilities that the tokens which `tries` let
      through had together, summed over the same steps.
    rows: the R' rows that are left.
    grid: their inputs, and which slots are theirs.
    cache: their self-attention, written up to the newest token but one.
    tries: what constrains them, or None: nothing.
  """

  num_steps: jax.Array
  num_row_steps: jax.Array
  tokens: jax.Array
  log_probs: jax.Array
  log_masses: jax.Array
  rows: Rows
  grid: grid_lib.Grid
  cache: Any
  tries: tries_lib.Tries | None


def start(
  settings: Settings,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  *,
  min_new_tokens: int | jax.Array = 0,
  rng: jax.Array | None = None,
  sequence_ids: jax.Array | None = None,
  row_mask: jax.Array | None = None,
  tries: tries_lib.Tries | None = None,
  roots: jax.Array | None = None,
) -> State:
  """Encodes, prefills, and chooses the first token of each row.

  Args:
    settings: of the program.
    params: of the network.
    encoder_input_tokens: int32 [B, S].
    prompt_tokens: int32 [B, U, P].
    min_new_tokens: as in `generation.generate`, like all that follow.
    rng: random key or None.
    sequence_ids: int32 [B] or None.
    row_mask: bool [B, U] or None.
    tries: a table or None.
    roots: int32 [B, U], where there is a table.

  Returns:
    The state with all rows, R' = R.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  rows = num_inputs * num_prompts
  if row_mask is None:
    row_mask = grid_lib.present_rows(encoder_input_tokens, prompt_tokens)
  lookup = settings.lookup
  sources = jnp.zeros((rows, 0), jnp.int32)
  recent = jnp.full((rows, 1), lookup_lib.NO_TOKEN, jnp.int32)
  if lookup is not None:
    sources = lookup_lib.sources(encoder_input_tokens, prompt_tokens)
    recent = grid_lib.last_tokens(
      prompt_tokens.reshape(rows, prompt_length),
      lookup.max_ngram,
      lookup_lib.NO_TOKEN,
    )
  logits, grid, cache = grid_lib.prefill(
    settings.module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    num_slots=prompt_length + 1 + settings.num_slots,
  )
  state = State(
    num_steps=jnp.int32(0),
    num_row_steps=jnp.int32(0),
    tokens=jnp.full((rows, settings.max_new_tokens), PAD_ID, jnp.int32),
    log_probs=jnp.zeros(rows, jnp.float32),
    log_masses=jnp.zeros(rows, jnp.float32),
    rows=Rows(
      index=jnp.arange(rows),
      counts=jnp.zeros(rows, jnp.int32),
      recent=recent,
      rates=jnp.full(rows, lookup_lib.FIRST_RATE, jnp.float32),
      done=~row_mask.reshape(rows),
      keys=_row_keys(rng, sequence_ids, num_inputs, num_prompts),
      sources=sources,
      nodes=jnp.zeros(rows, jnp.int32) if tries is None else roots.reshape(-1),
    ),
    grid=grid,
    cache=cache,
    tries=tries,
  )
  # The prompts' last logits give the first tokens; each step reads the newest.
  return _choose(
    settings, state, logits[:, None], min_new_tokens, *_no_drafts(state)
  )


def advance(
  settings: Settings,
  params: Any,
  state: State,
  *,
  max_left: int = 0,
  max_open: int | jax.Array = 0,
  rows_alike: bool = True,
  min_new_tokens: int | jax.Array = 0,
) -> State:
  """Takes steps until few rows of each input, or few inputs, are left.

  Args:
    settings: of the program.
    params: of the network.
    state: of `start`, `compact` or a call before.
    max_left: it stops when no input has more unfinished rows than this,
    max_open: or when no more inputs than this, which may be traced, have any.
    rows_alike: whether all rows that are not done have as many tokens, which is
      so from `start` on where nothing is drafted.
    min_new_tokens: see `generation.generate`.

  Returns:
    The state with the same rows.
  """
  num_inputs = state.grid.encoder_mask.shape[0]
  num_rows = state.rows.done.shape[0]

  def is_needed(state: State) -> jax.Array:
    left = jnp.sum(~state.rows.done.reshape(num_inputs, -1), axis=1)
    return (jnp.max(left) > max_left) & (jnp.sum(left > 0) > max_open)

  def read(state: State, drafts: jax.Array, lengths: jax.Array) -> State:
    """Reads the newest tokens, and drafts int32 [R', Q - 1], [R']."""
    rows = state.rows
    # Prompts end together; the first token goes to the slot after them.
    first = state.grid.slot_mask.shape[1] - settings.num_slots - 1
    # Where all rows get on alike, one slot serves them.
    alike = rows_alike and settings.lookup is None
    slot = first + (state.num_steps if alike else rows.counts)
    newest = rows.recent[:, -1:]
    logits, cache = grid_lib.extend(
      settings.module,
      params,
      state.grid,
      state.cache,
      jnp.concatenate([newest, drafts], axis=1),
      slot,
      all_logits=True,
    )
    state = state.replace(cache=cache)
    return _choose(settings, state, logits, min_new_tokens, drafts, lengths)

  def take_step(state: State) -> State:
    return read(state, *_no_drafts(state))

  if settings.lookup is None or not settings.lookup.pays(num_rows):
    return jax.lax.while_loop(is_needed, take_step, state)

  def look_up(state: State) -> tuple[State, jax.Array, jax.Array]:
    rows = state.rows
    tokens, lengths = settings.lookup.draft(rows.sources, rows.recent)
    if state.tries is not None:
      tokens, lengths = state.tries.restrain(rows.nodes, tokens, lengths)
    # The token after a draft comes for free, and must have a place.
    room = settings.max_new_tokens - rows.counts - 1
    return state, tokens, jnp.where(rows.done, 0, jnp.minimum(lengths, room))

  def is_worthwhile(carry: tuple[State, jax.Array, jax.Array]) -> jax.Array:
    rows, lengths = carry[0].rows, carry[2]
    return settings.lookup.is_worthwhile(lengths, rows.rates, rows.done)

  # Two loops in one, not a branch: XLA's CPU compiler copies the cache into and
  # out of branches, a seventh of a step.
  def alternate(carry):
    carry = jax.lax.while_loop(
      lambda c: is_needed(c[0]) & ~is_worthwhile(c),
      lambda c: look_up(take_step(c[0])),
      carry,
    )
    return jax.lax.while_loop(
      lambda c: is_needed(c[0]) & is_worthwhile(c),
      lambda c: look_up(read(*c)),
      carry,
    )

  return jax.lax.while_loop(
    lambda c: is_needed(c[0]), alternate, look_up(state)
  )[0]


def _no_drafts(state: State) -> tuple[jax.Array, jax.Array]:
  """Returns int32 [R', 0] tokens, of which 0 are a draft."""
  counts = state.rows.counts
  return jnp.zeros((counts.size, 0), jnp.int32), jnp.zeros_like(counts)


def _choose(
  settings: Settings,
  state: State,
  logits: jax.Array,
  min_new_tokens: int | jax.Array,
  drafts: jax.Array,
  draft_lengths: jax.Array,
) -> State:
  """Appends the tokens that the logits give, and no others.

  Args:
    settings: of the program.
    state: before.
    logits: float32 [R', Q, V], after the newest token and Q - 1 drafted ones.
    min_new_tokens: see `generation.generate`.
    drafts: int32 [R', Q - 1], those tokens.
    draft_lengths: int32 [R'], how many of them are a draft.

  Returns:
    The state after: each row that is not done has its next token, and more
    where drafts are what would have been chosen.
  """
  rows = state.rows
  query = jnp.arange(logits.shape[1])[None, :]
  places = rows.counts[:, None] + query  # [R', Q]
  allowed = allowed_ids(settings.module.config, places >= min_new_tokens)
  if state.tries is not None:
    nodes = state.tries.walk(rows.nodes, drafts)  # [R', Q]
    let_through, masses = state.tries.allow(nodes, logits)
    # A string ends where it does, even before `min_new_tokens`.
    is_free = (nodes == tries_lib.FREE)[:, :, None]
    allowed = jnp.where(is_free, allowed, let_through)
  fold_each = jax.vmap(jax.random.fold_in, (None, 0))
  tokens = jax.vmap(jax.vmap(settings.sampler))(
    jnp.where(allowed, logits, -jnp.inf),
    jax.vmap(fold_each)(rows.keys, places),
  )
  is_kept = (tokens[:, :-1] == drafts) & (
    query[:, :-1] < draft_lengths[:, None]
  )
  num_kept = jnp.sum(jnp.cumprod(is_kept, axis=1), axis=1)
  ends = tokens == EOS_ID
  before = jnp.cumsum(ends, axis=1) - ends  # EOS among the tokens before.
  is_new = (query <= num_kept[:, None]) & (before == 0) & ~rows.done[:, None]
  num_new = jnp.sum(is_new, axis=1)
  counts = rows.counts + num_new
  history = jnp.concatenate([rows.recent, tokens], axis=1)
  span = num_new[:, None] + jnp.arange(rows.recent.shape[1])[None, :]
  log_probs = jnp.where(is_new, token_log_probs(logits, tokens), 0.0)
  if state.tries is not None:
    masses = jnp.sum(jnp.where(is_new, masses, 0.0), axis=1)
    reached = state.tries.child(nodes, tokens)
    newest = jnp.maximum(num_new - 1, 0)[:, None]
    reached = jnp.take_along_axis(reached, newest, axis=1)[:, 0]
    state = state.replace(
      log_masses=state.log_masses.at[rows.index].add(masses),
      rows=rows.replace(nodes=reached),
    )
    rows = state.rows
  return state.replace(
    num_steps=state.num_steps + 1,
    num_row_steps=state.num_row_steps + rows.index.size,
    # A place that is not new lies outside, and is dropped.
    tokens=state.tokens.at[
      rows.index[:, None], jnp.where(is_new, places, settings.max_new_tokens)
    ].set(tokens, mode='drop'),
    log_probs=state.log_probs.at[rows.index].add(jnp.sum(log_probs, axis=1)),
    rows=rows.replace(
      counts=counts,
      recent=jnp.take_along_axis(history, span, axis=1),
      rates=lookup_lib.update_rates(rows.rates, draft_lengths, num_kept),
      done=rows.done
      | jnp.any(ends & is_new, axis=1)
      | (counts >= settings.max_new_tokens),
    ),
  )


def compact(state: State, width: int) -> State:
  """Keeps `width` rows of each input, all that are not done among them.

  Args:
    state: whose inputs have no more unfinished rows than `width`.
    width: rows of an input to keep, at most as many as there are.

  Returns:
    The state with R' = B * width rows; the outputs of all R stay.
  """
  num_inputs = state.grid.encoder_mask.shape[0]
  done = state.rows.done.reshape(num_inputs, -1)
  # Rows stay in order; the done ones come last.
  kept = jnp.argsort(done, axis=1, stable=True)[:, :width]
  kept += done.shape[1] * jnp.arange(num_inputs)[:, None]
  return take_rows(state, kept.reshape(-1))


def take_rows(state: State, kept: jax.Array) -> State:
  """Returns the state of given rows, int32 [n], as many of each input."""
  return state.replace(
    rows=jax.tree.map(lambda x: x[kept], state.rows),
    grid=state.grid.replace(slot_mask=state.grid.slot_mask[kept]),
    cache=grid_lib.take_rows(state.cache, kept),
  )


def token_log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """Returns float32 [...], log-probabilities of tokens [...] by [..., V]."""
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def allowed_ids(
  config: network.T5Config, may_end: bool | jax.Array = True
) -> jax.Array:
  """Returns bool [..., V]: True for ids that may come next.

  Args:
    config: of the network.
    may_end: bool [...], whether EOS is one of them.
  """
  may_end = jnp.asarray(may_end)[..., None]
  ids = jnp.arange(config.vocab_size)
  ids = ids.reshape((1,) * (may_end.ndim - 1) + (-1,))
  is_token = (ids != PAD_ID) & (ids < config.num_tokens)
  return is_token & ((ids != EOS_ID) | may_end)


def _row_keys(
  rng: jax.Array | None,
  sequence_ids: jax.Array | None,
  num_inputs: int,
  num_prompts: int,
) -> jax.Array:
  """Returns R random keys, one for each row."""
  if rng is None:
    rng = jax.random.key(0)
  if sequence_ids is None:
    sequence_ids = jnp.arange(num_inputs)
  fold_each = jax.vmap(jax.random.fold_in, (None, 0))
  by_input = fold_each(rng, sequence_ids)
  keys = jax.vmap(fold_each, (0, None))(by_input, jnp.arange(num_prompts))
  return keys.reshape(num_inputs * num_prompts, *keys.shape[2:])
