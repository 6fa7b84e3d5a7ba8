# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Causal attention to keys that are near, in rows of many short sequences.

A row is cut into blocks, and the queries of a block attend to its keys and to
those of the block before it: as many products as tokens, whatever the length of
the row.

Axis letters are those of `pid_jax.network`; n is the number of blocks of a row,
k their length.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool

from pid_jax.network import masks

# Shorter blocks are products too small to be fast.
_SHORTEST = 32


def block_length(mask: masks.Mask) -> int | None:
  """Returns k, or None where blocks do not pay."""
  if mask.reach is None or not mask.causal:
    return None
  length = max(mask.reach, _SHORTEST)
  return length if 2 * length < mask.num_keys else None


def block_mask(mask: masks.Mask, length: int) -> Bool[Array, '_ 1 k 2*k']:
  """Returns bool [B * n, 1, k, 2 * k], the dense form of a causal mask."""
  positions = jnp.arange(2 * length)
  causal = positions[None, :] <= length + positions[:length, None]
  ids = masks.allowed(
    [split(ids, 1, length) for ids in mask.query_ids],
    [split(ids, 1, length, 1) for ids in mask.key_ids],
  )
  return (ids & causal[None])[:, None]


def split(x: Array, axis: int, length: int, num_before: int = 0) -> Array:
  """Cuts an axis into blocks, each behind those before it.

  Args:
    x: [B, ...].
    axis: to cut, at least 1; padded with 0.
    length: k.
    num_before: blocks to repeat before each block.

  Returns:
    [B * n, ...], with (1 + num_before) * k entries of the axis.
  """
  x = jnp.moveaxis(x, axis, 1)
  widths = [(0, 0)] * x.ndim
  widths[1] = (num_before * length, -x.shape[1] % length)
  x = jnp.pad(x, widths)
  x = x.reshape(x.shape[0], -1, length, *x.shape[2:])
  num_blocks = x.shape[1] - num_before
  x = jnp.concatenate(
    [x[:, i : i + num_blocks] for i in range(1 + num_before)], axis=2
  )
  return jnp.moveaxis(x.reshape(-1, *x.shape[2:]), 1, axis)
