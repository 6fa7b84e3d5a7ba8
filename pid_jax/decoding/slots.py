# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A pool of inputs that are decoded together, while others come and go.

`generate` decodes a batch to its end: all wait for the longest output. A pool
has places, each for the rows that are left of one input. `admit` decodes a new
batch until few rows of each input are left, and moves those to free places,
keys and values of their inputs with them; `advance` takes steps until an input
has ended, whose place is free then. Both change the pool where it lies, if it
is donated.

Rows of a pool have got differently far, and come from batches of different
shapes: shorter inputs and prompts are padded to the pool's. Prompts are aligned
to the right (see `grid`), so theirs is padded on the left.

Letters as in `grid` and `steps`; G places of W rows.
"""

from typing import Any

import flax
import jax
import jax.numpy as jnp

from pid_jax import network
from pid_jax.decoding import loop
from pid_jax.decoding import prefill as grid_lib


@flax.struct.dataclass
class Outputs:
  """What rows have so far; whole where they have ended.

  Attributes:
    tokens: int32 [..., T], see `generation.Generated`, as for what follows.
    log_probs: float32 [...].
    normalized_log_probs: float32 [...].
  """

  tokens: jax.Array
  log_probs: jax.Array
  normalized_log_probs: jax.Array


@flax.struct.dataclass
class Admitted:
  """What became of the batch that was admitted.

  Attributes:
    outputs: of [B, U].
    places: int32 [B], where the rows that have not ended are now; G where all
      have.
    prompts: int32 [B, W], which prompt of the input a row of its place answers;
      U where there is none.
  """

  outputs: Outputs
  places: jax.Array
  prompts: jax.Array


def empty(
  settings: loop.Settings,
  params: Any,
  *,
  num_places: int,
  num_rows: int,
  input_length: int,
  prompt_length: int,
) -> loop.State:
  """Returns a pool without inputs.

  Args:
    settings: of the programs; the same for all calls with this pool.
    params: of the network; only their shapes matter.
    num_places: G.
    num_rows: W.
    input_length: S, of the longest input.
    prompt_length: P, of the longest prompt.
  """
  spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  like = jax.eval_shape(
    lambda *args: loop.start(settings, *args),
    params,
    spec(num_places, input_length),
    spec(num_places, num_rows, prompt_length),
  )
  rows = num_places * num_rows
  keys = jax.random.split(jax.random.key(0), rows)
  like = like.replace(rows=like.rows.replace(keys=None))
  pool = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
  return pool.replace(
    rows=pool.rows.replace(
      index=jnp.arange(rows), done=jnp.ones(rows, bool), keys=keys
    )
  )


def admit(
  settings: loop.Settings,
  params: Any,
  pool: loop.State,
  encoder_input_tokens: jax.Array,
  prompt_tokens: jax.Array,
  *,
  min_new_tokens: int | jax.Array = 0,
  rng: jax.Array | None = None,
  sequence_ids: jax.Array | None = None,
  row_mask: jax.Array | None = None,
  roots: jax.Array | None = None,
) -> tuple[loop.State, Admitted]:
  """Starts a batch, and keeps what is not done soon in the pool.

  Args:
    settings: of the program.
    params: of the network.
    pool: must have B free places, or as many as there are inputs with rows.
    encoder_input_tokens: int32 [B, S], S at most the pool's.
    prompt_tokens: int32 [B, U, P], P at most the pool's; U may be any.
    min_new_tokens: as in `generation.generate`, like all that follow.
    rng: random key or None.
    sequence_ids: int32 [B] or None.
    row_mask: bool [B, U] or None.
    roots: int32 [B, U], where the pool has tries.

  Returns:
    The pool, and the batch's outputs so far.
  """
  num_inputs, num_prompts, prompt_length = prompt_tokens.shape
  num_places = pool.grid.encoder_mask.shape[0]
  num_rows = pool.rows.done.shape[0] // num_places
  state = loop.start(
    settings,
    params,
    encoder_input_tokens,
    prompt_tokens,
    min_new_tokens=min_new_tokens,
    rng=rng,
    sequence_ids=sequence_ids,
    row_mask=row_mask,
    tries=pool.tries,
    roots=roots,
  )
  if num_rows < num_prompts:
    state = loop.advance(
      settings, params, state, max_left=num_rows, min_new_tokens=min_new_tokens
    )
    state = loop.compact(state, num_rows)
  is_open = jnp.any(~state.rows.done.reshape(num_inputs, -1), axis=1)
  is_taken = jnp.any(~pool.rows.done.reshape(num_places, -1), axis=1)
  # The first input that needs a place gets the first free one, and so on.
  free_first = jnp.argsort(is_taken, stable=True)
  places = jnp.where(is_open, free_first[jnp.cumsum(is_open) - 1], num_places)
  index = state.rows.index.reshape(num_inputs, -1)
  index -= num_prompts * jnp.arange(num_inputs)[:, None]
  missing = num_rows - index.shape[1]
  admitted = Admitted(
    outputs=_outputs(state),
    places=places,
    prompts=jnp.pad(index, ((0, 0), (0, missing)), constant_values=num_prompts),
  )
  return _move(pool, _widen(state, num_inputs, num_rows), places), admitted


def advance(
  settings: loop.Settings,
  params: Any,
  pool: loop.State,
  *,
  max_open: int | jax.Array,
  min_new_tokens: int | jax.Array = 0,
) -> tuple[loop.State, jax.Array, Outputs]:
  """Takes steps until few inputs are left.

  Args:
    settings: of the program.
    params: of the network.
    pool: of any inputs.
    max_open: it stops when no more inputs than this have unfinished rows.
    min_new_tokens: see `generation.generate`.

  Returns:
    The pool; bool [G], whether a place has no unfinished rows, and its outputs,
    of [G, W].
  """
  pool = loop.advance(
    settings,
    params,
    pool,
    max_open=max_open,
    rows_alike=False,
    min_new_tokens=min_new_tokens,
  )
  num_places = pool.grid.encoder_mask.shape[0]
  has_ended = jnp.all(pool.rows.done.reshape(num_places, -1), axis=1)
  return pool, has_ended, _outputs(pool)


def _outputs(state: loop.State) -> Outputs:
  """Returns those of all rows, by input and row."""
  num_inputs = state.grid.encoder_mask.shape[0]
  by_input = lambda x: x.reshape(num_inputs, -1, *x.shape[1:])
  return Outputs(
    tokens=by_input(state.tokens),
    log_probs=by_input(state.log_probs),
    normalized_log_probs=by_input(state.log_probs - state.log_masses),
  )


def _widen(state: loop.State, num_inputs: int, num_rows: int) -> loop.State:
  """Adds rows to each input that are done; there are at most `num_rows`."""
  width = state.rows.done.size // num_inputs
  if width == num_rows:
    return state
  place = jnp.arange(num_rows)
  kept = jnp.minimum(place, width - 1)[None, :]
  kept = kept + width * jnp.arange(num_inputs)[:, None]
  done = state.rows.done[kept] | (place >= width)[None, :]
  state = loop.take_rows(state, kept.reshape(-1))
  return state.replace(rows=state.rows.replace(done=done.reshape(-1)))


def _move(pool: loop.State, state: loop.State, places: jax.Array) -> loop.State:
  """Writes the inputs of a batch, and their rows, to places of the pool.

  Args:
    pool: to write to.
    state: to read from; it has as many rows for an input.
    places: int32 [B]; inputs whose place is G are left out.

  Returns:
    The pool.
  """
  num_inputs, num_places = places.size, pool.grid.encoder_mask.shape[0]

  def put(into: jax.Array, new: jax.Array, axis: int = 0) -> jax.Array:
    """Writes inputs; on the axes behind theirs, new may be smaller."""
    behind = zip(into.shape[axis + 1 :], new.shape[axis + 1 :], strict=True)
    gaps = [wanted - size for wanted, size in behind]
    if any(gaps):
      new = jnp.pad(new, [(0, 0)] * (axis + 1) + [(0, gap) for gap in gaps])
    return into.at[(slice(None),) * axis + (places,)].set(new, mode='drop')

  def put_rows(into: jax.Array, new: jax.Array, axis: int = 0) -> jax.Array:
    """The same where the axis holds rows, as many for each input."""
    by_input = lambda x, n: x.reshape(
      *x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]
    )
    result = put(by_input(into, num_places), by_input(new, num_inputs), axis)
    return result.reshape(into.shape)

  # Prompts end together: a batch of shorter ones begins in a later slot.
  late = pool.grid.slot_mask.shape[1] - state.grid.slot_mask.shape[1]

  def put_cache(into: network.KeyValues, new: network.KeyValues):
    # Layers that are scanned are stacked on an axis before that of the rows.
    before = ((0, 0),) * (new.keys.ndim - 1)
    keys = jnp.pad(new.keys, (*before, (late, 0)))
    values = jnp.pad(new.values, (*before[1:], (late, 0), (0, 0)))
    axis = new.keys.ndim - 4
    return network.KeyValues(
      keys=put_rows(into.keys, keys, axis),
      values=put_rows(into.values, values, axis),
    )

  rows = jax.tree.map(put_rows, pool.rows, state.rows)
  index = state.rows.index
  return pool.replace(
    num_steps=pool.num_steps + state.num_steps,
    num_row_steps=pool.num_row_steps + state.num_row_steps,
    tokens=put_rows(pool.tokens, state.tokens[index]),
    log_probs=put_rows(pool.log_probs, state.log_probs[index]),
    log_masses=put_rows(pool.log_masses, state.log_masses[index]),
    rows=rows.replace(index=pool.rows.index),
    grid=grid_lib.Grid(
      cross=jax.tree.map(
        lambda into, new: put(into, new, new.ndim - 4),
        pool.grid.cross,
        state.grid.cross,
      ),
      encoder_mask=put(pool.grid.encoder_mask, state.grid.encoder_mask),
      slot_mask=put_rows(
        pool.grid.slot_mask, jnp.pad(state.grid.slot_mask, ((0, 0), (late, 0)))
      ),
    ),
    cache=jax.tree.map(
      put_cache,
      pool.cache,
      state.cache,
      is_leaf=lambda x: isinstance(x, network.KeyValues),
    ),
  )
