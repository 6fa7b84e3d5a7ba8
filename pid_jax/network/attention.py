# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention whose keys and values can be computed once and kept.

Self-attention in training, self-attention over a cache in decoding, and
cross-attention of many prompts to one input are one function of queries, keys,
values and bias. They differ in where keys and values come from, so projecting
those (`key_values`) and attending to them (`__call__`) are two methods.

Axis letters are those of `pid_jax.network`.
"""

from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from pid_jax import config as config_lib
from pid_jax.network import layers
from pid_jax.network.kv_cache import KVLayer

# Added to the logits that a mask excludes. In float32 exp() of it is exactly
# zero next to any logit that is not masked, and the softmax of a query that may
# attend to nothing stays finite.
MASKED = -1e10


def masked_bias(
  mask: Bool[Array, 'B 1 #Q K'],
  bias: Float[Array, '#B H Q K'] | None = None,
) -> Float[Array, 'B _ #Q K']:
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

  def key_values(self, x: Float[Array, 'B K E']) -> KVLayer:
    """Projects [B, K, E] to keys [B, H, D, K] and values [B, H, K, D]."""
    return KVLayer(
      keys=self._split_heads(self.key(x)).transpose(0, 2, 3, 1),
      values=self._split_heads(self.value(x)).transpose(0, 2, 1, 3),
    )

  def __call__(
    self,
    x: Float[Array, 'B Q E'],
    key_values: KVLayer,
    bias: Float[Array, '#B #H #Q K'],
    deterministic: bool,
  ) -> Float[Array, 'B Q E']:
    """Attends from every position of `x`.

    Args:
      x: [B, Q, E].
      key_values: of one layer, K positions.
      bias: broadcastable to [B, H, Q, K]; added to the float32 logits. MASKED
        where a query must not attend; see `masked_bias`.
      deterministic: whether dropout is off.

    Returns:
      [B, Q, E], in the dtype of `x`.
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
    # A softmax that divides last: D numbers for each query, not K.
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

  def _split_heads(self, x: Float[Array, 'B Q HD']) -> Float[Array, 'B Q H D']:
    # [B, Q, H * D] -> [B, Q, H, D]
    cfg = self.config
    x = x.reshape(*x.shape[:-1], cfg.num_heads, cfg.head_dim)
    axes = ('batch', 'length', 'heads', 'kv')
    return layers.with_sharding_constraint(x, axes)
