# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The parts of a T5 layer that are not attention.

Parameters are declared with logical axes (flax.linen.partitioning), which both
T5X's partitioner and `pid_jax.partitioning` map to a mesh.

Axis letters are those of `pid_jax.network`; L is the length of any sequence.
"""

from collections.abc import Callable
import math

from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from pid_jax import config as config_lib
from pid_jax import platforms
from pid_jax.network import quantization

param_with_axes = nn_partitioning.param_with_axes
with_sharding_constraint = nn_partitioning.with_sharding_constraint

# As in Mesh TensorFlow's T5: kernels keep the variance of their input.
kernel_init = nn.initializers.variance_scaling(
  1.0, 'fan_in', 'truncated_normal'
)
relpos_init = nn.initializers.variance_scaling(1.0, 'fan_avg', 'uniform')


def gathered(param: Array, axes: tuple[str, ...]) -> Array:
  """Gathers a parameter along 'embed' for the product that follows.

  With fully sharded parameters (the devices that share the batch also share
  each parameter), the compiler would otherwise exchange partial products or
  activations, at twice the cycles by the TPU compiler's estimate.

  Args:
    param: a kernel or the embedding.
    axes: its logical axes.

  Returns:
    The same values, with a sharding constraint on a mesh.
  """
  names = tuple(None if axis == 'embed' else axis for axis in axes)
  return with_sharding_constraint(param, names)


def _rows(x: Float[Array, '*B in']) -> Float[Array, '*rows in']:
  """Joins all axes but the last where products are faster so."""
  return x.reshape(-1, x.shape[-1]) if platforms.current().joins_rows else x


class Dense(nn.Module):
  """A matrix product over the last axis, without bias.

  Attributes:
    features: size of the output axis.
    kernel_axes: logical axes of the kernel.
    dtype: of the result; the kernel is float32, or of `quantize_params`.
    init: initializer of the kernel.
  """

  features: int
  kernel_axes: tuple[str, str]
  dtype: str = 'float32'
  init: Callable[..., jax.Array] = kernel_init

  @nn.compact
  def __call__(self, x: Float[Array, '*B in']) -> Float[Array, '*B out']:
    """Maps [..., in] to [..., features] in `dtype`."""
    shape = (x.shape[-1], self.features)
    kernel = param_with_axes(
      'kernel', self.init, shape, jnp.float32, axes=self.kernel_axes
    )
    is_trained = kernel.dtype == jnp.float32
    rows = _rows(x) if is_trained else x.reshape(-1, shape[0])
    if is_trained:
      # Before it is gathered: half as many bytes in bfloat16.
      kernel = kernel.astype(self.dtype)
    kernel = gathered(kernel, self.kernel_axes)
    if is_trained:
      y = jnp.dot(rows.astype(self.dtype), kernel)
    else:
      scale = self.get_variable('params', quantization.SCALE)
      y = quantization.quantized_dot(rows, kernel, scale, self.dtype)
    return y.reshape(*x.shape[:-1], self.features)


class LayerNorm(nn.Module):
  """T5's layer norm: root mean square in float32, a scale, no bias."""

  dtype: str = 'float32'
  epsilon: float = 1e-6

  @nn.compact
  def __call__(self, x: Float[Array, '*B E']) -> Float[Array, '*B E']:
    """Normalises [..., E] over its last axis; returns `dtype`."""
    scale = param_with_axes(
        'scale', nn.initializers.ones, (x.shape[-1],), jnp.float32,
        axes=('embed',),
    )  # fmt: skip
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    y = x * jax.lax.rsqrt(mean_square + self.epsilon)
    return (y * jnp.expand_dims(scale, range(y.ndim - 1))).astype(self.dtype)


class Embed(nn.Module):
  """Token embeddings, shared by both stacks and, when tied, by the head."""

  num_embeddings: int
  features: int
  dtype: str = 'float32'

  def setup(self):
    self.embedding = param_with_axes(
      'embedding',
      nn.initializers.normal(stddev=1.0),
      (self.num_embeddings, self.features),
      jnp.float32,
      axes=('vocab', 'embed'),
      module=self,
    )

  def __call__(self, tokens: Int32[Array, 'B L']) -> Float[Array, 'B L E']:
    """Looks up int32 [B, L] and returns [B, L, E] in `dtype`."""
    embedding = gathered(self.embedding, ('vocab', 'embed'))
    x = jnp.take(embedding, tokens, axis=0).astype(self.dtype)
    return with_sharding_constraint(x, ('batch', 'length', 'embed'))

  def attend(self, x: Float32[Array, 'B L E']) -> Float32[Array, 'B L V']:
    """Multiplies [B, L, E] by all embeddings, to float32 [B, L, V]."""
    if self.has_variable('params', 'kernel'):  # Of `quantize_params`.
      logits = quantization.quantized_dot(
        x.reshape(-1, x.shape[-1]),
        self.get_variable('params', 'kernel'),
        self.get_variable('params', quantization.SCALE),
        'float32',
      )
    else:
      embedding = gathered(self.embedding, ('vocab', 'embed'))
      logits = jnp.dot(_rows(x), embedding.T)
    return logits.reshape(*x.shape[:-1], self.num_embeddings)


class Mlp(nn.Module):
  """The feed-forward block: `wi` (ReLU) or `wi_0 * wi_1` (gated), then `wo`."""

  config: config_lib.T5Config

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B L E'], deterministic: bool
  ) -> Float[Array, 'B L E']:
    """Maps [B, L, E] to [B, L, E]."""
    cfg = self.config
    gated = len(cfg.mlp_activations) > 1
    # [B, L, E] -> [B, L, F]
    hidden = None
    for i, activation in enumerate(cfg.mlp_activations):
      name = f'wi_{i}' if gated else 'wi'
      h = Dense(cfg.mlp_dim, ('embed', 'mlp'), cfg.dtype, name=name)(x)
      h = _activation(activation)(h)
      hidden = h if hidden is None else hidden * h
    hidden = Dropout(cfg.dropout_rate)(hidden, deterministic)
    hidden = with_sharding_constraint(hidden, ('batch', 'length', 'mlp'))
    # [B, L, F] -> [B, L, E]
    return Dense(cfg.emb_dim, ('mlp', 'embed'), cfg.dtype, name='wo')(hidden)


def _activation(name: str) -> Callable[[Array], Array]:
  if name == 'linear':
    return lambda x: x
  return getattr(nn, name)


class Dropout(nn.Module):
  """Dropout with one mask for all positions of a sequence, as in T5."""

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, 'B L features'], deterministic: bool
  ) -> Float[Array, 'B L features']:
    """Drops features of [B, L, features]."""
    return nn.Dropout(self.rate, broadcast_dims=(-2,))(
      x, deterministic=deterministic
    )


class RelativePositionBias(nn.Module):
  """T5's relative position bias: one learned scalar per bucket and head.

  A bias depends only on the distance between key and query, and the tokens of a
  packed subtask or input are contiguous: one [H, Q, K] bias serves a whole
  batch, packed or not.
  """

  config: config_lib.T5Config
  bidirectional: bool

  def setup(self):
    cfg = self.config
    self.rel_embedding = param_with_axes(
      'rel_embedding',
      relpos_init,
      (cfg.num_heads, cfg.relpos_num_buckets),
      jnp.float32,
      axes=('heads', 'relpos_buckets'),
      module=self,
    )

  @property
  def longest_distance(self) -> int:
    """The distance from which on, on either side, all have the same bias."""
    return self.config.relpos_max_distance

  def by_distance(
    self,
    num_queries: int,
    num_keys: int,
    first_query: int | Int32[Array, ''] | Int32[Array, ' R'] = 0,
  ) -> Float[Array, 'H _ distances']:
    """Returns the bias of each distance of queries and keys.

    Arguments are those of `__call__`.

    Returns:
      [H, R, Q + K]: of key position minus query position from -(Q - 1) to K -
      1 (counted from `first_query`), in rising order, and one more.
    """
    cfg = self.config
    first_query = jnp.atleast_1d(first_query)
    distance = jnp.arange(num_queries + num_keys) - (num_queries - 1)
    distance = distance[None, :] - first_query[:, None]  # [R, Q + K]
    bucket = relative_position_bucket(
      distance,
      self.bidirectional,
      cfg.relpos_num_buckets,
      cfg.relpos_max_distance,
    )
    return jnp.take(self.rel_embedding, bucket, axis=1)

  def __call__(
    self,
    num_queries: int,
    num_keys: int,
    first_query: int | Int32[Array, ''] | Int32[Array, ' R'] = 0,
  ) -> Float[Array, '_ H Q K']:
    """Returns the bias of queries against keys.

    Args:
      num_queries: Q, queries at positions `first_query`, `first_query` + 1, ...
      num_keys: K, keys at positions 0, 1, ...
      first_query: int or int32 scalar; or int32 [R], one for each sequence.

    Returns:
      [1, H, Q, K], or [R, H, Q, K] if `first_query` is [R], in the dtype of the
      parameters.
    """
    by_distance = self.by_distance(num_queries, num_keys, first_query)
    num_heads, _, num_distances = by_distance.shape
    # A Toeplitz matrix by reshaping: row q starts one distance further left
    # than row q - 1. Its gradient is a sum; that of a gather is a slow scatter.
    rows = jnp.tile(by_distance.swapaxes(0, 1), (1, 1, num_queries))
    rows = rows[:, :, num_queries - 1 : num_queries * num_distances - 1]
    rows = rows.reshape(-1, num_heads, num_queries, num_distances - 1)
    return rows[..., :num_keys]


def relative_position_bucket(
  relative_position: Int32[Array, '*shape'],
  bidirectional: bool,
  num_buckets: int,
  max_distance: int,
) -> Int32[Array, '*shape']:
  """Maps distances to buckets: exact when near, logarithmic when far.

  Follows T5 (arXiv 1910.10683, section 2.1, as coded in Mesh TensorFlow).

  Args:
    relative_position: int32, key position minus query position, any shape.
    bidirectional: True gives keys after the query separate buckets (the
      encoder); False puts them all in bucket 0 (the decoder, which masks them).
    num_buckets: of both directions together.
    max_distance: distances from this one on share the last bucket.

  Returns:
    int32 in [0, num_buckets), of the same shape.
  """
  first = jnp.zeros_like(relative_position)
  if bidirectional:
    num_buckets //= 2
    first = jnp.where(relative_position > 0, num_buckets, 0)
    distance = jnp.abs(relative_position)
  else:
    distance = jnp.maximum(-relative_position, 0)
  num_exact = num_buckets // 2
  ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / num_exact)
  ratio = ratio / math.log(max_distance / num_exact)
  far = num_exact + (ratio * (num_buckets - num_exact)).astype(jnp.int32)
  far = jnp.minimum(far, num_buckets - 1)
  return first + jnp.where(distance < num_exact, distance, far)
