# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention whose keys and values can be computed once and kept.

Self-attention while training, self-attention over a cache while decoding, and
cross-attention of many prompts to one input are one function of (queries, keys,
values, bias). What differs is who made the keys and values, so making them
(`key_values`) is a method apart from attending to them (`__call__`).

Letters: B batch, Q query length, K key length, H heads, D head_dim, E emb_dim.
"""

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax.network import layers

# Added to logits that a mask excludes: exp() of it is exactly zero in float32
# beside any logit that is not, and a row that excludes everything stays finite.
MASKED = -1e10


def masked(mask: jax.Array, bias: jax.Array | None = None) -> jax.Array:
  """Folds a mask into a bias: once for a stack, not in each of its layers.

  Args:
    mask: bool [B, 1, Q, K]; True may be attended to.
    bias: float32 [1, H, Q, K] or [B, H, Q, K], or None for 0.

  Returns:
    float32 [B, H, Q, K] ([B, 1, Q, K] where there is no bias): the bias, or
    MASKED.
  """
  if bias is None:
    return jnp.where(mask, 0.0, MASKED)
  if bias.shape[0] < mask.shape[0]:
    # A product with ones, not a broadcast: its gradient is a matrix product,
    # not a sum over the batch, at which XLA is fifty times slower on CPUs.
    ones = jnp.ones((mask.shape[0], 1))
    bias = jnp.einsum('bi,ihqk->bhqk', ones, bias)
  return jnp.where(mask, bias, MASKED)


@flax.struct.dataclass
class KeyValues:
  """Keys and values of one attention, or stacked over layers on a new axis 0.

  They are laid out as the products read them: a decoding step reads keys and
  values many times that were computed once, and would transpose them each time.

  Attributes:
    keys: [B, H, D, K], in the activations' dtype.
    values: [B, H, K, D], in the activations' dtype.
  """

  keys: jax.Array
  values: jax.Array


class Attention(nn.Module):
  """T5's attention: no biases, no 1/sqrt(D); softmax in float32."""

  config: config_lib.T5Config

  def setup(self):
    cfg = self.config
    joined_kv = cfg.num_heads * cfg.head_dim
    # T5 folds the 1/sqrt(D) of scaled attention into the initial query kernel.
    query_init = lambda *args: layers.kernel_init(*args) * cfg.head_dim**-0.5
    in_axes = ('embed', 'joined_kv')
    self.query = layers.Dense(joined_kv, in_axes, cfg.dtype, query_init)
    self.key = layers.Dense(joined_kv, in_axes, cfg.dtype)
    self.value = layers.Dense(joined_kv, in_axes, cfg.dtype)
    self.out = layers.Dense(cfg.emb_dim, ('joined_kv', 'embed'), cfg.dtype)
    self.dropout = nn.Dropout(cfg.dropout_rate, broadcast_dims=(-2,))

  def key_values(self, x: jax.Array) -> KeyValues:
    """Projects [B, K, E] to the keys and values of K places."""
    return KeyValues(
      keys=self._split_heads(self.key(x)).transpose(0, 2, 3, 1),
      values=self._split_heads(self.value(x)).transpose(0, 2, 1, 3),
    )

  def __call__(
    self,
    x: jax.Array,
    key_values: KeyValues,
    bias: jax.Array,
    deterministic: bool,
  ) -> jax.Array:
    """Attends from every position of `x`.

    Args:
      x: [B, Q, E].
      key_values: of K places.
      bias: float32, broadcastable to [B, H, Q, K]; added to the logits. MASKED
        where a query must not attend; see `masked`.
      deterministic: whether dropout is off.

    Returns:
      [B, Q, E].
    """
    query = self._split_heads(self.query(x))
    # [B, Q, H, D] x [B, H, D, K] -> [B, H, Q, K]
    logits = jnp.einsum(
      'bqhd,bhdk->bhqk',
      query,
      key_values.keys,
      preferred_element_type=jnp.float32,
    )
    logits = logits + bias
    # A softmax whose division comes last, where there is D / K of the numbers.
    highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
    weights = jnp.exp(logits - highest)
    total = jnp.sum(weights, axis=-1)  # [B, H, Q]
    weights = weights.astype(x.dtype)
    weights = self.dropout(weights, deterministic=deterministic)
    # [B, H, Q, K] x [B, H, K, D] -> [B, H, Q, D]
    attended = jnp.einsum('bhqk,bhkd->bhqd', weights, key_values.values)
    attended = attended / total[..., None].astype(x.dtype)
    attended = attended.swapaxes(1, 2).reshape(*x.shape[:-1], -1)
    attended = layers.with_sharding_constraint(
      attended, ('batch', 'length', 'joined_kv')
    )
    return self.out(attended)

  def _split_heads(self, x: jax.Array) -> jax.Array:
    # [B, L, H * D] -> [B, L, H, D]
    cfg = self.config
    x = x.reshape(*x.shape[:-1], cfg.num_heads, cfg.head_dim)
    axes = ('batch', 'length', 'heads', 'kv')
    return layers.with_sharding_constraint(x, axes)
