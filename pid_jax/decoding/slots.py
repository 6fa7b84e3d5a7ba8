# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Slots for continuous batching: inputs are decoded while others come and go.

`generate` decodes a batch to its end: all wait for the longest output. Here the
state of `loop` is a fixed number of slots, each for the unfinished sequences of
one input. `insert` decodes a new batch until few sequences of each input are
left, and moves those to free slots together with the keys and values of their
inputs; `generate_step` takes steps until an input has ended, which frees its
slot. Both update the state in place if it is donated.

Sequences of different slots have different numbers of tokens, and are of
batches of different shapes: shorter inputs and prompts are padded to the
lengths of the slots. Prompts are aligned to the right (see `prefill`), so they
are padded on the left.

Axis letters are those of `pid_jax.decoding`. A state of slots has G inputs and
A = R = G * J sequences.
"""

from collections.abc import Callable
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int32, PRNGKeyArray

from pid_jax import network
from pid_jax.decoding import loop
from pid_jax.decoding import prefill


@flax.struct.dataclass
class Inserted:
  """Where the inputs of an inserted batch are now.

  Attributes:
    output: of all sequences of the batch so far, [B, U].
    slots: int32 [B], the slot of the input's unfinished sequences; G if all
      have ended.
    prompts: int32 [B, J], which prompt of the input each sequence of the slot
      answers; U if none.
  """

  output: loop.Output
  slots: Int32[Array, ' B']
  prompts: Int32[Array, 'B J']


def init(
  settings: loop.Settings,
  params: Any,
  *,
  num_slots: int,
  num_rows: int,
  input_length: int,
  prompt_length: int,
) -> loop.State:
  """Returns empty slots.

  Args:
    settings: of the programs; the same for all calls with these slots.
    params: of the network; only their shapes matter.
    num_slots: G.
    num_rows: J.
    input_length: S, of the longest input.
    prompt_length: P, of the longest prompt.

  Returns:
    The state, all sequences done.
  """
  spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  like = jax.eval_shape(
    lambda params, inputs, prompts: loop.start(
      settings,
      params,
      prefill.encode(settings.module, params, inputs),
      inputs,
      prompts,
    ),
    params,
    spec(num_slots, input_length),
    spec(num_slots, num_rows, prompt_length),
  )
  num_sequences = num_slots * num_rows
  state = like.replace(
    sequences=like.sequences.replace(
      index=jnp.arange(num_sequences),
      done=jnp.ones(num_sequences, bool),
      keys=jax.random.split(jax.random.key(0), num_sequences),
    )
  )
  return jax.tree.map(
    lambda x: x if isinstance(x, jax.Array) else jnp.zeros(x.shape, x.dtype),
    state,
  )


def insert(
  settings: loop.Settings,
  params: Any,
  state: loop.State,
  encoder_input_tokens: Int32[Array, 'B S'],
  prompt_tokens: Int32[Array, 'B U P'],
  *,
  min_new_tokens: int | Int32[Array, ''] = 0,
  token_limit: int | Int32[Array, ''] | None = None,
  rng: PRNGKeyArray | None = None,
  sequence_ids: Int32[Array, ' B'] | None = None,
  row_mask: Bool[Array, 'B U'] | None = None,
  roots: Int32[Array, 'B U'] | None = None,
) -> tuple[loop.State, Inserted]:
  """Starts a batch, and moves what does not end soon to free slots.

  Args:
    settings: of the program.
    params: of the network.
    state: must have B free slots, or one for each input with unmasked rows.
    encoder_input_tokens: int32 [B, S], S at most that of the slots.
    prompt_tokens: int32 [B, U, P], P at most that of the slots; any U.
    min_new_tokens: see `generation.generate`, also for the arguments below.
    token_limit: at most T, or None: T.
    rng: random key or None.
    sequence_ids: int32 [B] or None.
    row_mask: bool [B, U] or None.
    roots: int32 [B, U], required if the state has tries.

  Returns:
    The state, and the outputs of the batch so far.
  """
  num_inputs, num_prompts, _ = prompt_tokens.shape
  num_slots = state.num_inputs
  num_rows = state.sequences.done.shape[0] // num_slots
  batch = loop.start(
    settings,
    params,
    prefill.encode(settings.module, params, encoder_input_tokens),
    encoder_input_tokens,
    prompt_tokens,
    min_new_tokens=min_new_tokens,
    token_limit=token_limit,
    rng=rng,
    sequence_ids=sequence_ids,
    row_mask=row_mask,
    tries=state.tries,
    roots=roots,
  )
  if num_rows < num_prompts:
    batch = loop.advance(
      settings,
      params,
      batch,
      max_unfinished=num_rows,
      min_new_tokens=min_new_tokens,
      token_limit=token_limit,
    )
    batch = loop.compact(batch, num_rows)
  is_active = jnp.any(~batch.sequences.done.reshape(num_inputs, -1), axis=1)
  is_taken = jnp.any(~state.sequences.done.reshape(num_slots, -1), axis=1)
  # The first input that needs a slot gets the first free one, and so on.
  free_first = jnp.argsort(is_taken, stable=True)
  slots = jnp.where(is_active, free_first[jnp.cumsum(is_active) - 1], num_slots)
  index = batch.sequences.index.reshape(num_inputs, -1)
  index -= num_prompts * jnp.arange(num_inputs)[:, None]
  missing = num_rows - index.shape[1]
  inserted = Inserted(
    output=batch.output(),
    slots=slots,
    prompts=jnp.pad(index, ((0, 0), (0, missing)), constant_values=num_prompts),
  )
  return _write(state, _widen(batch, num_rows), slots), inserted


def generate_step(
  settings: loop.Settings,
  params: Any,
  state: loop.State,
  *,
  max_active: int | Int32[Array, ''],
  min_new_tokens: int | Int32[Array, ''] = 0,
  token_limit: int | Int32[Array, ''] | None = None,
) -> tuple[loop.State, Bool[Array, ' G'], loop.Output]:
  """Takes steps until few slots are active.

  Args:
    settings: of the program.
    params: of the network.
    state: of the slots.
    max_active: the loop stops when no more slots than this have unfinished
      sequences. It may be traced.
    min_new_tokens: see `generation.generate`.
    token_limit: see `generation.generate`.

  Returns:
    The state; bool [G], whether a slot has no unfinished sequences; and the
    outputs of all slots, [G, J].
  """
  state = loop.advance(
    settings,
    params,
    state,
    max_active=max_active,
    lockstep=False,
    min_new_tokens=min_new_tokens,
    token_limit=token_limit,
  )
  has_ended = jnp.all(
    state.sequences.done.reshape(state.num_inputs, -1), axis=1
  )
  return state, has_ended, state.output()


def _widen(batch: loop.State, num_rows: int) -> loop.State:
  """Adds finished sequences to each input, up to `num_rows` of them."""
  num_inputs = batch.num_inputs
  width = batch.sequences.done.size // num_inputs
  if width == num_rows:
    return batch
  row = jnp.arange(num_rows)
  kept = jnp.minimum(row, width - 1)[None, :]
  kept = kept + width * jnp.arange(num_inputs)[:, None]
  done = batch.sequences.done[kept] | (row >= width)[None, :]
  batch = loop.take_sequences(batch, kept.reshape(-1))
  return batch.replace(sequences=batch.sequences.replace(done=done.reshape(-1)))


def _write(
  state: loop.State, batch: loop.State, slots: Int32[Array, ' B']
) -> loop.State:
  """Writes the inputs and sequences of a batch to slots.

  Args:
    state: of the slots, to write to.
    batch: to read from, with J sequences per input.
    slots: int32 [B]; inputs whose slot is G are left out.

  Returns:
    The new state of the slots.
  """
  num_inputs, num_slots = batch.num_inputs, state.num_inputs

  def write_inputs(into: Array, new: Array, axis: int = 0) -> Array:
    """Writes entries of an axis of inputs; later axes of `new` are padded."""
    later = zip(into.shape[axis + 1 :], new.shape[axis + 1 :], strict=True)
    gaps = [wanted - size for wanted, size in later]
    if any(gaps):
      new = jnp.pad(new, [(0, 0)] * (axis + 1) + [(0, gap) for gap in gaps])
    return into.at[(slice(None),) * axis + (slots,)].set(new, mode='drop')

  def write_sequences(into: Array, new: Array, axis: int = 0) -> Array:
    """The same for an axis of sequences, J for each input."""
    by_input = lambda x, n: x.reshape(
      *x.shape[:axis], n, x.shape[axis] // n, *x.shape[axis + 1 :]
    )
    result = write_inputs(
      by_input(into, num_slots), by_input(new, num_inputs), axis
    )
    return result.reshape(into.shape)

  axis = state.cache.batch_axis

  def write_cache(
    into: network.KVCache, new: network.KVCache, write: Callable[..., Array]
  ) -> network.KVCache:
    return network.KVCache(
      layers=jax.tree.map(
        lambda x, y: write(x, y, axis), into.layers, new.layers
      ),
      mask=write(into.mask, new.mask),
    )

  # Prompts end at one position: shorter ones begin at a later one.
  missing = state.cache.length - batch.cache.length
  sequences = jax.tree.map(write_sequences, state.sequences, batch.sequences)
  index = batch.sequences.index
  return state.replace(
    num_steps=state.num_steps + batch.num_steps,
    num_row_steps=state.num_row_steps + batch.num_row_steps,
    tokens=write_sequences(state.tokens, batch.tokens[index]),
    log_probs=write_sequences(state.log_probs, batch.log_probs[index]),
    log_normalizers=write_sequences(
      state.log_normalizers, batch.log_normalizers[index]
    ),
    sequences=sequences.replace(index=state.sequences.index),
    cross=write_cache(state.cross, batch.cross, write_inputs),
    cache=write_cache(
      state.cache, batch.cache.pad(left=missing), write_sequences
    ),
  )
