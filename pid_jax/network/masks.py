# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which keys a query may attend to, told without a matrix of all pairs.

A packed row is described by ids of its tokens: a query attends to the keys that
have its ids. From those any block of the [Q, K] matrix can be made when it is
needed, and blocks in which nothing may be attended to are known in advance.

Axis letters are those of `pid_jax.network`.
"""

from collections.abc import Sequence
from typing import Any

import flax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int32

# Added to the logits that a mask excludes. In float32 exp() of it is exactly
# zero next to any logit that is not masked, and the softmax of a query that may
# attend to nothing stays finite.
MASKED = -1e10


@flax.struct.dataclass
class Mask:
  """A mask of queries against keys, batch by batch.

  Attributes:
    query_ids: int32 [B, Q] arrays; () lets each query attend to all keys whose
      ids are not 0.
    key_ids: int32 [B, K] arrays. A query attends to keys that have the same id
      in all pairs of arrays. B may be 1.
    num_queries: Q.
    causal: whether query q attends only to the keys up to q.
    reach: a bound that the ids keep: no query may attend to a key further
      before it; None: unknown.
  """

  query_ids: tuple[Int32[Array, '_ Q'], ...]
  key_ids: tuple[Int32[Array, '_ K'], ...]
  num_queries: int = flax.struct.field(pytree_node=False)
  causal: bool = flax.struct.field(pytree_node=False, default=False)
  reach: int | None = flax.struct.field(pytree_node=False, default=None)

  @classmethod
  def of_keys(cls, key_ids: Any, num_queries: int) -> 'Mask':
    """Lets all of `num_queries` attend to the keys of int32 [B, K] not 0."""
    return cls((), (jnp.asarray(key_ids),), num_queries)

  @classmethod
  def of_same(cls, query_ids: Any, key_ids: Any) -> 'Mask':
    """Lets queries int32 [B, Q] attend to the keys [B, K] of the same id."""
    query_ids = jnp.asarray(query_ids)
    return cls((query_ids,), (jnp.asarray(key_ids),), query_ids.shape[1])

  @property
  def num_keys(self) -> int:
    """K."""
    return self.key_ids[0].shape[1]

  def dense(self) -> Bool[Array, '_ 1 _ K']:
    """Returns bool [B, 1, Q, K]; [B, 1, 1, K] if it is the same for all."""
    mask = allowed(self.query_ids, self.key_ids)
    if self.causal:
      positions = jnp.arange(self.num_keys)
      causal = positions[None, :] <= jnp.arange(self.num_queries)[:, None]
      mask = mask & causal[None]
    return mask[:, None]


def allowed(
  query_ids: Sequence[Int32[Array, '_ Q']],
  key_ids: Sequence[Int32[Array, '_ K']],
) -> Bool[Array, '_ _ K']:
  """Returns bool [B, Q, K] ([B, 1, K] without query ids), by ids alone."""
  if not query_ids:
    mask = key_ids[0] != 0
    for ids in key_ids[1:]:
      mask = mask & (ids != 0)
    return mask[:, None, :]
  mask = query_ids[0][:, :, None] == key_ids[0][:, None, :]
  for queries, keys in zip(query_ids[1:], key_ids[1:], strict=True):
    mask = mask & (queries[:, :, None] == keys[:, None, :])
  return mask


def masked_bias(
  mask: Bool[Array, '_ 1 #Q K'],
  bias: Float[Array, '#B H Q K'] | None = None,
) -> Float[Array, '_ _ #Q K']:
  """Folds a mask into a bias, once for all layers of a stack.

  Args:
    mask: bool [B, 1, Q, K], or [B, 1, 1, K] for all queries; True may be
      attended to.
    bias: [1, H, Q, K] or [B, H, Q, K], or None for 0.

  Returns:
    [B, H, Q, K] in the dtype of the bias, or without a bias float32 in the
    shape of the mask: the bias where the mask is True, else MASKED.
  """
  if bias is None:
    return jnp.where(mask, 0.0, MASKED)
  if bias.shape[0] < mask.shape[0]:
    # A product with ones, not a broadcast: its gradient is a matrix product,
    # not a sum over the batch, at which XLA is fifty times slower on CPUs.
    ones = jnp.ones((mask.shape[0], 1))
    bias = jnp.einsum('bi,ihqk->bhqk', ones, bias)
  return jnp.where(mask, bias, MASKED)
