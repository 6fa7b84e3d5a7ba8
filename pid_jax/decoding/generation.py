# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generates the outputs of many prompts to each input.

`generate` is one pure function, to be jitted by the caller: encode, prefill,
then loops of steps, until the last row has ended. Most slots of a dialogue say
"none" after two tokens while one says a long name; so whenever half of the rows
of each input have ended, the others move together, and the next loop runs on
half as many. Shapes of a program are fixed: it holds one loop for each width.
Letters as in `grid`, T generated tokens, and R' rows of the grid that are left.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import network
from pid_jax.decoding import grid as grid_lib
from pid_jax.decoding import samplers

PAD_ID = grid_lib.PAD_ID
EOS_ID = grid_lib.EOS_ID

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
    num_steps: int32 scalar, tokens of the longest output; the decoder ran once
      for each.
    num_row_steps: int32 scalar, the rows that it ran on, summed over the steps.
  """

  tokens: jax.Array
  log_probs: jax.Array
  num_steps: jax.Array
  num_row_steps: jax.Array


@flax.struct.dataclass
class State:
  """What changes from step to step.

  Attributes:
    step: int32 scalar, tokens chosen so far in every row that is not done.
    row_steps: int32 scalar, see `Generated`.
    tokens: int32 [R, T], the tokens chosen, 0 from `step` on and after EOS.
    log_probs: float32 [R], summed over the tokens chosen.
    rows: int32 [R'], which of the R rows are left; those of an input adjacent.
    newest: int32 [R'], the token that each chose last.
    done: bool [R'], whether a row has its EOS, or was absent from the start.
    cache: network.KeyValues of N layers, [R', C, H, D] each in the activations'
      dtype, C = P + T: start token, prompt, and all tokens but the last, which
      nothing follows. Written up to slot P + `step` - 1.
  """

  step: jax.Array
  row_steps: jax.Array
  tokens: jax.Array
  log_probs: jax.Array
  rows: jax.Array
  newest: jax.Array
  done: jax.Array
  cache: Any


def generate(
  module: network.Transformer,
  params: Any,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  *,
  max_new_tokens: int,
  min_new_tokens: int | jax.Array = 0,
  sampler: samplers.Sampler = samplers.GREEDY,
  rng: jax.Array | None = None,
  stream_ids: jax.Array | None = None,
  row_mask: jax.Array | None = None,
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
    min_new_tokens: tokens before which EOS is not allowed; may be traced. As
      many as `max_new_tokens` fixes the number of steps, for timing.
    sampler: chooses the tokens.
    rng: random key; not needed by `Greedy`.
    stream_ids: int32 [B]. Row (b, u) draws from the random numbers of `rng`,
      stream_ids[b] and u, so that an input's outputs do not depend on its place
      in a batch. None: 0 .. B-1.
    row_mask: bool [B, U], the rows to decode; others return zeros. None: see
      `grid.present_rows`.
    num_compactions: how often the number of rows may be halved. The outputs do
      not depend on it; the program grows by a loop for each.

  Returns:
    Generated.
  """
  if max_new_tokens < 1:
    raise ValueError(
      f'max_new_tokens must be at least 1, got {max_new_tokens}.'
    )
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  if row_mask is None:
    row_mask = grid_lib.present_rows(encoder_input_tokens, prompt_tokens)
  keys = _row_keys(rng, stream_ids, num_inputs, num_prompts)

  logits, grid, cache = grid_lib.prefill(
    module,
    params,
    encoder_input_tokens,
    prompt_tokens,
    num_slots=prompt_length + max_new_tokens,
  )

  def choose(state: State, logits: jax.Array) -> State:
    """Appends a token to each row that is left, given logits [R', V]."""
    allowed = allowed_ids(module.config, state.step >= min_new_tokens)
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(
      keys[state.rows], state.step
    )
    tokens = jax.vmap(sampler)(
      jnp.where(allowed[None, :], logits, -jnp.inf), step_keys
    )
    log_probs = token_log_probs(logits, tokens)
    tokens = jnp.where(state.done, PAD_ID, tokens)
    log_probs = jnp.where(state.done, 0.0, log_probs)
    return state.replace(
      step=state.step + 1,
      row_steps=state.row_steps + state.rows.size,
      tokens=state.tokens.at[state.rows, state.step].set(tokens),
      log_probs=state.log_probs.at[state.rows].add(log_probs),
      newest=tokens,
      done=state.done | (tokens == EOS_ID),
    )

  def decode(state: State, next_width: int) -> State:
    """Takes steps while an input has more than so many unfinished rows."""
    own_grid = grid.replace(slot_mask=grid.slot_mask[state.rows])

    def is_too_wide(state: State) -> jax.Array:
      left = jnp.sum(~state.done.reshape(num_inputs, -1), axis=1)
      return (state.step < max_new_tokens) & (jnp.max(left) > next_width)

    def take_step(state: State) -> State:
      logits, cache = grid_lib.extend(
        module,
        params,
        own_grid,
        state.cache,
        state.newest[:, None],
        prompt_length + state.step,
      )
      return choose(state.replace(cache=cache), logits)

    return jax.lax.while_loop(is_too_wide, take_step, state)

  rows = num_inputs * num_prompts
  state = State(
    step=jnp.int32(0),
    row_steps=jnp.int32(0),
    tokens=jnp.full((rows, max_new_tokens), PAD_ID, jnp.int32),
    log_probs=jnp.zeros(rows, jnp.float32),
    rows=jnp.arange(rows),
    newest=jnp.full(rows, PAD_ID, jnp.int32),
    done=~row_mask.reshape(rows),
    cache=cache,
  )
  # The prompts' last logits give the first tokens; each step reads the newest.
  state = choose(state, logits)
  for width in _narrower_widths(num_inputs, num_prompts, num_compactions):
    state = _compact(decode(state, width), num_inputs, width)
  state = decode(state, 0)
  return Generated(
    tokens=state.tokens.reshape(num_inputs, num_prompts, max_new_tokens),
    log_probs=state.log_probs.reshape(num_inputs, num_prompts),
    num_steps=state.step,
    num_row_steps=state.row_steps,
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


def _compact(state: State, num_inputs: int, width: int) -> State:
  """Keeps `width` rows of each input, all that are not done among them."""
  done = state.done.reshape(num_inputs, -1)
  # Rows stay in order; the done ones come last.
  kept = jnp.argsort(done, axis=1, stable=True)[:, :width]
  kept += done.shape[1] * jnp.arange(num_inputs)[:, None]
  kept = kept.reshape(-1)
  return state.replace(
    rows=state.rows[kept],
    newest=state.newest[kept],
    done=state.done[kept],
    cache=grid_lib.take_rows(state.cache, kept),
  )


def token_log_probs(logits: jax.Array, tokens: jax.Array) -> jax.Array:
  """Returns float32 [...], log-probabilities of tokens [...] by [..., V]."""
  chosen = jnp.take_along_axis(logits, tokens[..., None], axis=-1)[..., 0]
  return chosen - jax.nn.logsumexp(logits, axis=-1)


def allowed_ids(
  config: network.T5Config, may_end: bool | jax.Array = True
) -> jax.Array:
  """Returns bool [V]: True for ids that may come next; EOS if `may_end`."""
  ids = jnp.arange(config.vocab_size)
  is_token = (ids != PAD_ID) & (ids < config.num_tokens)
  return is_token & ((ids != EOS_ID) | may_end)


def _row_keys(
  rng: jax.Array | None,
  stream_ids: jax.Array | None,
  num_inputs: int,
  num_prompts: int,
) -> jax.Array:
  """Returns R random keys, one for each row."""
  if rng is None:
    rng = jax.random.key(0)
  if stream_ids is None:
    stream_ids = jnp.arange(num_inputs)
  fold_each = jax.vmap(jax.random.fold_in, (None, 0))
  by_input = fold_each(rng, stream_ids)
  keys = jax.vmap(fold_each, (0, None))(by_input, jnp.arange(num_prompts))
  return keys.reshape(num_inputs * num_prompts, *keys.shape[2:])
