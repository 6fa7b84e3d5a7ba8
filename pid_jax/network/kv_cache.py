# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keys and values that are computed once and read in many decoding steps.

A decoder has two caches of one form: the cross-attention cache holds the
encoded inputs, [B, ...] and S positions, computed once per input whatever the
number of its prompts; the self-attention cache holds the tokens decoded so far,
[R, ...] and C positions. Axis letters are those of `pid_jax.network`.
"""

from collections.abc import Callable
import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32


@flax.struct.dataclass
class KVLayer:
  """Keys and values of one attention layer, or of all layers stacked.

  They are laid out as the products read them: a decoding step reads keys and
  values many times that were computed once, and would transpose them each time.

  Attributes:
    keys: [B, H, D, K] in the activations' dtype; [N, B, H, D, K] if stacked.
    values: [B, H, K, D] in the activations' dtype; [N, B, H, K, D] if stacked.
  """

  keys: Float[Array, '*layers B H D K']
  values: Float[Array, '*layers B H K D']


@flax.struct.dataclass
class KVCache:
  """Keys and values of all decoder layers, and which positions hold tokens.

  Attributes:
    layers: a tuple of N KVLayer, or with `scan_layers` one KVLayer with N as
      its first axis.
    mask: bool [B, K] ([R, C] for self-attention), False at padding. Positions
      of the self-attention cache that are not written yet are True: the causal
      mask hides them.
  """

  layers: tuple[KVLayer, ...] | KVLayer
  mask: Bool[Array, 'B K']

  @property
  def length(self) -> int:
    """Number of positions, K."""
    return self.mask.shape[1]

  @property
  def batch_axis(self) -> int:
    """Axis of B in keys and values: behind that of stacked layers, if any."""
    return 1 if isinstance(self.layers, KVLayer) else 0

  def take(self, indices: Int32[Array, ' taken']) -> 'KVCache':
    """Returns the cache of the given batch entries, in their order."""
    take = lambda x: jnp.take(x, indices, axis=self.batch_axis)
    return KVCache(jax.tree.map(take, self.layers), self.mask[indices])

  def repeat(self, times: int) -> 'KVCache':
    """Repeats every batch entry; copies of one entry are adjacent."""
    return self.take(jnp.repeat(jnp.arange(self.mask.shape[0]), times))

  def windows(
    self,
    starts: Int32[Array, 'B U'],
    ends: Int32[Array, 'B U'],
    length: int,
  ) -> 'KVCache':
    """Cuts U sequences out of each batch entry, aligned to the right.

    Args:
      starts: int32 [B, U], the first position of each sequence.
      ends: int32 [B, U], its last position.
      length: of all windows, at least that of the longest sequence.

    Returns:
      The cache of R = B * U sequences, masked before their first positions.
    """
    axis = self.batch_axis

    def cut(x: Array, of_position: int) -> Array:
      # Slices, which devices copy faster than they gather single positions.
      one = lambda x, start: jax.lax.dynamic_slice_in_dim(
        x, start, length, of_position
      )
      each = jax.vmap(one, (None, 0), axis)
      x = jax.vmap(each, (axis, 0), axis)(x, ends)
      return x.reshape(*x.shape[:axis], -1, *x.shape[axis + 2 :])

    before = length - 1 - (ends - starts)  # Masked positions.
    return KVCache(
      jax.tree.map(
        lambda layer: KVLayer(cut(layer.keys, -1), cut(layer.values, -2)),
        self.pad(left=length - 1).layers,
        is_leaf=lambda x: isinstance(x, KVLayer),
      ),
      jnp.arange(length)[None, :] >= before.reshape(-1, 1),
    )

  def pad(
    self, left: int = 0, right: int = 0, *, to_come: bool = False
  ) -> 'KVCache':
    """Returns the cache with positions before and after all others.

    Args:
      left: number of masked positions before them.
      right: number of positions after them, masked unless `to_come`.
      to_come: whether those after them are still to be written.
    """

    def pad(x: Array, axis: int, values: tuple[Any, Any] = (0, 0)) -> Array:
      widths = [(0, 0)] * x.ndim
      widths[axis] = (left, right)
      return jnp.pad(x, widths, constant_values=values)

    return KVCache(
      jax.tree.map(
        lambda layer: KVLayer(pad(layer.keys, -1), pad(layer.values, -2)),
        self.layers,
        is_leaf=lambda x: isinstance(x, KVLayer),
      ),
      pad(self.mask, -1, (False, to_come)),
    )

  def map_with_axes(
    self, function: Callable[[Any, tuple[str, ...]], Any]
  ) -> 'KVCache':
    """Applies a function of an array and its logical axes to all arrays."""
    stacked = ('layers',) if isinstance(self.layers, KVLayer) else ()
    keys = (*stacked, 'batch', 'heads', 'kv', 'length')
    values = (*stacked, 'batch', 'heads', 'length', 'kv')
    return KVCache(
      jax.tree.map(
        lambda x: KVLayer(function(x.keys, keys), function(x.values, values)),
        self.layers,
        is_leaf=lambda x: isinstance(x, KVLayer),
      ),
      function(self.mask, ('batch', 'length')),
    )


def write(
  cache: KVLayer,
  new: KVLayer,
  cache_index: Int32[Array, ''] | Int32[Array, ' R'],
) -> KVLayer:
  """Writes the keys and values of Q tokens into a layer's cache.

  Args:
    cache: of one layer, R sequences and C positions.
    new: of R sequences and Q positions.
    cache_index: the position of the first of the Q tokens, one for all
      sequences or one for each. It must be at most C - Q: XLA moves a write
      that would reach beyond the end.

  Returns:
    The new cache, in the dtype of the old.
  """

  def write_array(old: Array, new: Array, axis: int) -> Array:
    update = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=axis)
    if cache_index.ndim:
      update = jax.vmap(update)
    return update(old, new.astype(old.dtype), cache_index)

  return KVLayer(
    keys=write_array(cache.keys, new.keys, -1),
    values=write_array(cache.values, new.values, -2),
  )
