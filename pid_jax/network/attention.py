# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Multi-head attention whose keys and values can be computed once and kept.

Self-attention in training, self-attention over a cache in decoding, and
cross-attention of many prompts to one input are one function of queries, keys,
values and bias. They differ in where keys and values come from, so projecting
those (`key_values`) and attending to them (`__call__`) are two methods.

Axis letters are those of `pid_jax.network`.
"""

import functools

import flax
from flax import linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from pid_jax import config as config_lib
from pid_jax.network import blockwise_attention
from pid_jax.network import layers
from pid_jax.network import local_attention
from pid_jax.network import masks
from pid_jax.network.kv_cache import KVLayer


@flax.struct.dataclass
class AttentionBias:
  """What is added to the logits: relative position biases and a mask.

  One array for all layers where that is small; else its parts, of which
  `blockwise_attention` makes a block at a time.

  Attributes:
    dense: broadcastable to [B, H, Q, K], MASKED where a query must not attend;
      or None.
    mask: of Q queries and K keys, where `dense` is None.
    relpos_blocks: of biases where `dense` is None, or None for 0; see
      `blockwise_attention.bias_blocks`.
    local_length: k where `dense` is [B * n, H, k, 2 * k] of `local_attention`.
  """

  dense: Float[Array, '#B #H #Q K'] | None
  mask: masks.Mask | None = None
  relpos_blocks: Float[Array, 'offsets H k k'] | None = None
  local_length: int | None = flax.struct.field(pytree_node=False, default=None)

  @classmethod
  def make(
    cls,
    mask: masks.Mask,
    relpos_bias: layers.RelativePositionBias | None = None,
  ) -> 'AttentionBias':
    """Returns the bias in the form that suits its size.

    Args:
      mask: of Q queries and K keys; both start at position 0.
      relpos_bias: the biases of relative positions, or None.
    """
    num_queries, num_keys = mask.num_queries, mask.num_keys
    length = local_attention.block_length(mask)
    if length is not None:
      local = masks.masked_bias(local_attention.block_mask(mask, length))
      return cls(local, local_length=length).plus(
        relpos_bias, num_queries, num_keys
      )
    if blockwise_attention.pays(num_queries, num_keys):
      return cls(None, mask).plus(relpos_bias, num_queries, num_keys)
    bias = relpos_bias and relpos_bias(num_queries, num_keys)
    return cls(masks.masked_bias(mask.dense(), bias))

  def plus(
    self,
    relpos_bias: layers.RelativePositionBias | None,
    num_queries: int,
    num_keys: int,
    first_query: int | Int32[Array, ''] | Int32[Array, ' R'] = 0,
  ) -> 'AttentionBias':
    """Adds the biases of relative positions, if any."""
    if relpos_bias is None:
      return self
    if self.local_length is not None:
      more = relpos_bias(
        self.local_length, 2 * self.local_length, self.local_length
      )
      return self.replace(dense=self.dense + more)
    if self.dense is not None:
      more = relpos_bias(num_queries, num_keys, first_query)
      return self.replace(dense=self.dense + more)
    # Distances from -most to most.
    most = min(relpos_bias.longest_distance, max(num_queries, num_keys))
    by_distance = relpos_bias.by_distance(most + 1, most + 1)[:, 0, :-1]
    blocks = blockwise_attention.bias_blocks(by_distance, num_queries, num_keys)
    return self.replace(relpos_blocks=blocks)


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
    bias: AttentionBias,
    deterministic: bool,
  ) -> Float[Array, 'B Q E']:
    """Attends from every position of `x`.

    Args:
      x: [B, Q, E].
      key_values: of one layer, K positions.
      bias: added to the float32 logits.
      deterministic: whether dropout is off.

    Returns:
      [B, Q, E], in the dtype of `x`.
    """
    query = self._split_heads(self.query(x))
    key_values = self._drop_keys(key_values, deterministic)
    if bias.dense is None:
      attended = blockwise_attention.attend(
        query, key_values, bias.mask, bias.relpos_blocks
      )
    elif bias.local_length is not None:
      attended = _attend_near(query, key_values, bias)
    else:
      attended = _attend(query, key_values, bias.dense)
    attended = attended.reshape(*x.shape[:-1], -1)
    attended = layers.with_sharding_constraint(
      attended, ('batch', 'length', 'joined_kv')
    )
    return self.out(attended)

  def _drop_keys(self, key_values: KVLayer, deterministic: bool) -> KVLayer:
    """Drops attention weights, those of a key for all queries or for none.

    As in T5. The weight of a key times 0 or 1 / (1 - rate), the sum of the
    weights staying as it is, is its value times that.
    """
    if deterministic or not self.config.dropout_rate:
      return key_values
    values = key_values.values
    kept = self.dropout(
      jnp.ones((*values.shape[:2], 1, values.shape[2]), values.dtype),
      deterministic=False,
    )
    return key_values.replace(values=values * kept.swapaxes(2, 3))

  def _split_heads(self, x: Float[Array, 'B Q HD']) -> Float[Array, 'B Q H D']:
    # [B, Q, H * D] -> [B, Q, H, D]
    cfg = self.config
    x = x.reshape(*x.shape[:-1], cfg.num_heads, cfg.head_dim)
    axes = ('batch', 'length', 'heads', 'kv')
    return layers.with_sharding_constraint(x, axes)


def _attend(
  query: Float[Array, 'B Q H D'],
  key_values: KVLayer,
  bias: Float[Array, '#B #H #Q K'],
) -> Float[Array, 'B Q H D']:
  """Returns softmax(query keys + bias) values, by [B, H, Q, K] logits."""
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
  # [B, H, Q, K] x [B, H, K, D] -> [B, H, Q, D]
  attended = jnp.einsum(
    'bhqk,bhkd->bhqd', weights.astype(query.dtype), key_values.values
  )
  attended = attended / total[..., None].astype(query.dtype)
  return attended.swapaxes(1, 2)


def _attend_near(
  query: Float[Array, 'B Q H D'], key_values: KVLayer, bias: AttentionBias
) -> Float[Array, 'B Q H D']:
  """The same for a bias of `local_attention`: all blocks are one batch."""
  split = functools.partial(local_attention.split, length=bias.local_length)
  near = KVLayer(
    keys=split(key_values.keys, 3, num_before=1),
    values=split(key_values.values, 2, num_before=1),
  )
  attended = _attend(split(query, 1), near, bias.dense)
  attended = attended.reshape(query.shape[0], -1, *query.shape[2:])
  return attended[:, : query.shape[1]]
