# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers of the encoder and the decoder, and their stacks.

The decoder's layers run in two ways: in training over packed rows, where they
project the encoded input themselves, and in decoding over a batch of sequences,
against the KV caches of the inputs and of the sequences so far.

Axis letters are those of `pid_jax.network`. Training has B packed rows where
decoding has R sequences.
"""

from typing import Any

import flax
from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float32, Int32

from pid_jax import config as config_lib
from pid_jax.network import axes
from pid_jax.network import kv_cache
from pid_jax.network import layers
from pid_jax.network import masks
from pid_jax.network.attention import Attention
from pid_jax.network.attention import AttentionBias
from pid_jax.network.kv_cache import KVCache
from pid_jax.network.kv_cache import KVLayer

PyTree = Any

ACTIVATION_AXES = ('batch', 'length', 'embed')


@flax.struct.dataclass
class LayerContext:
  """Inputs that all layers of a stack share in one call.

  The encoder uses the first alone.

  Attributes:
    self_bias: of Q queries and K keys (in the encoder S and S): a mask, and the
      relative position bias unless `relpos_bias_per_layer`.
    cross_bias: a mask of L queries (in decoding of all U * Q of an input) and S
      keys.
    encoded: [B, S, E] in training; None in decoding, which has a cache.
    cache_index: int32 scalar or [R], the first position of the self-attention
      cache to write; None for packed rows.
  """

  self_bias: AttentionBias
  cross_bias: AttentionBias | None = None
  encoded: Float[Array, 'B S E'] | None = None
  cache_index: Int32[Array, ''] | Int32[Array, ' R'] | None = None


@flax.struct.dataclass
class LayerCache:
  """The KV caches of one decoder layer; of all, stacked, with `scan_layers`.

  Attributes:
    cross: keys and values of the encoded inputs, B and S positions.
    self_attention: of the sequences so far, R and C positions; None: packed
      rows attend to themselves alone.
  """

  cross: KVLayer
  self_attention: KVLayer | None


def _layer_norm(cfg: config_lib.T5Config, **kwargs) -> layers.LayerNorm:
  return layers.LayerNorm(cfg.dtype, cfg.layer_norm_epsilon, **kwargs)


class EncoderLayer(nn.Module):
  """Self-attention and feed-forward, each on a normalized residual branch."""

  config: config_lib.T5Config

  def setup(self):
    cfg = self.config
    if cfg.relpos_bias_per_layer:
      self.relpos_bias = layers.RelativePositionBias(cfg, bidirectional=True)
    self.pre_attention_layer_norm = _layer_norm(cfg)
    self.attention = Attention(cfg)
    self.pre_mlp_layer_norm = _layer_norm(cfg)
    self.mlp = layers.Mlp(cfg)
    self.dropout = layers.Dropout(cfg.dropout_rate)

  def __call__(
    self,
    x: Float[Array, 'B S E'],
    unused_cache: None,
    context: LayerContext,
    deterministic: bool,
  ) -> tuple[Float[Array, 'B S E'], None]:
    """Maps [B, S, E] to ([B, S, E], None); see `DecoderLayer.__call__`."""
    bias = context.self_bias
    if self.config.relpos_bias_per_layer:
      bias = bias.plus(self.relpos_bias, x.shape[1], x.shape[1])
    y = self.pre_attention_layer_norm(x)
    y = self.attention(y, self.attention.key_values(y), bias, deterministic)
    x = x + self.dropout(y, deterministic)
    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    x = x + self.dropout(y, deterministic)
    return layers.with_sharding_constraint(x, ACTIVATION_AXES), None


class DecoderLayer(nn.Module):
  """Self-attention, cross-attention and feed-forward."""

  config: config_lib.T5Config

  def setup(self):
    cfg = self.config
    if cfg.relpos_bias_per_layer:
      self.relpos_bias = layers.RelativePositionBias(cfg, bidirectional=False)
    self.pre_self_attention_layer_norm = _layer_norm(cfg)
    self.self_attention = Attention(cfg)
    self.pre_cross_attention_layer_norm = _layer_norm(cfg)
    self.encoder_decoder_attention = Attention(cfg)
    self.pre_mlp_layer_norm = _layer_norm(cfg)
    self.mlp = layers.Mlp(cfg)
    self.dropout = layers.Dropout(cfg.dropout_rate)

  def cross_key_values(
    self, encoded: Float[Array, 'B S E'], *unused_args
  ) -> tuple[Float[Array, 'B S E'], KVLayer]:
    """Projects [B, S, E]; returns (encoded, keys and values of S positions)."""
    return encoded, self.encoder_decoder_attention.key_values(encoded)

  def __call__(
    self,
    x: Float[Array, 'R Q E'],
    cache: LayerCache | None,
    context: LayerContext,
    deterministic: bool,
  ) -> tuple[Float[Array, 'R Q E'], KVLayer | None]:
    """Runs the layer on packed rows, or on sequences with their caches.

    Args:
      x: [R, Q, E], or packed rows [B, L, E].
      cache: of this layer, or None in training.
      context: masks, biases, and in training the encoded input.
      deterministic: whether dropout is off.

    Returns:
      x of the same shape, and the keys and values that self-attention read: the
      new cache, or those of the packed rows (None in training).
    """
    y = self.pre_self_attention_layer_norm(x)
    key_values = self.self_attention.key_values(y)
    if cache is not None and cache.self_attention is not None:
      key_values = kv_cache.write(
        cache.self_attention, key_values, context.cache_index
      )
    bias = context.self_bias
    if self.config.relpos_bias_per_layer:
      first = 0 if context.cache_index is None else context.cache_index
      num_keys = key_values.keys.shape[-1]
      bias = bias.plus(self.relpos_bias, x.shape[1], num_keys, first)
    y = self.self_attention(y, key_values, bias, deterministic)
    x = x + self.dropout(y, deterministic)

    y = self.pre_cross_attention_layer_norm(x)
    if cache is None:
      cross = self.encoder_decoder_attention.key_values(context.encoded)
    else:
      cross = cache.cross
    # [R, Q, E] -> [B, U * Q, E]: the prompts of an input share its keys.
    num_inputs = cross.keys.shape[0]
    y = self.encoder_decoder_attention(
      y.reshape(num_inputs, -1, y.shape[-1]),
      cross,
      context.cross_bias,
      deterministic,
    )
    x = x + self.dropout(y.reshape(x.shape), deterministic)

    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    x = x + self.dropout(y, deterministic)
    x = layers.with_sharding_constraint(x, ACTIVATION_AXES)
    return x, (None if cache is None else key_values)


def _stack(
  cfg: config_lib.T5Config, layer_class, num_layers: int, scan_name: str
):
  """Builds the layers of a stack, to be assigned in a module's setup().

  Args:
    cfg: of the model.
    layer_class: EncoderLayer or DecoderLayer.
    num_layers: N.
    scan_name: the name of the scanned layer in T5X's scalable models.

  Returns:
    A dict from name to layer: `layers_0`, `layers_1`, ..., or the one scanned
    layer, whose parameters are those of all layers stacked on axis 1.
  """
  if cfg.remat_policy != 'none':
    policy = None
    if cfg.remat_policy == 'minimal':
      policy = jax.checkpoint_policies.checkpoint_dots_with_no_batch_dims
    layer_class = nn.remat(
      layer_class,
      prevent_cse=not cfg.scan_layers,
      policy=policy,
      static_argnums=(4,),  # deterministic; 0 is self
    )
  if not cfg.scan_layers:
    return {f'layers_{i}': layer_class(cfg) for i in range(num_layers)}
  methods = ['__call__']
  if hasattr(layer_class, 'cross_key_values'):
    methods.append('cross_key_values')
  scanned = nn_partitioning.scan_with_axes(
    layer_class,
    variable_axes={'params': axes.STACK_AXIS},
    split_rngs={'params': True, 'dropout': True},
    in_axes=(0, nn.broadcast, nn.broadcast),
    length=num_layers,
    axis_name=axes.LAYERS,
    methods=methods,
  )
  return {scan_name: scanned(cfg)}


def stack_layers(params: PyTree) -> PyTree:
  """Returns the parameters as the same network has them with `scan_layers`.

  Args:
    params: of a network without; in any form of `quantize_params`.
  """
  stacked = dict(params)
  for name in ('encoder', 'decoder'):
    parts = dict(params[name])
    num_layers = sum(part.startswith('layers_') for part in parts)
    layers = [parts.pop(f'layers_{i}') for i in range(num_layers)]
    stack = lambda *leaves: jnp.stack(leaves, axis=axes.STACK_AXIS)
    stacked[name] = {**parts, name: jax.tree.map(stack, *layers)}
  return stacked


class _Stack(nn.Module):
  """Layers, final norm and relative position bias of one stack."""

  config: config_lib.T5Config

  def _build(self, layer_class, num_layers, name, bidirectional):
    cfg = self.config
    if not cfg.relpos_bias_per_layer:
      self.relpos_bias = layers.RelativePositionBias(cfg, bidirectional)
    self.dropout = layers.Dropout(cfg.dropout_rate)
    stack = _stack(cfg, layer_class, num_layers, name)
    for layer_name, layer in stack.items():
      setattr(self, layer_name, layer)
    self.layer_names = tuple(stack)
    setattr(self, f'{name}_norm', _layer_norm(cfg))

  @property
  def _shared_relpos_bias(self) -> layers.RelativePositionBias | None:
    """The relative position bias of all layers, if they share one."""
    return None if self.config.relpos_bias_per_layer else self.relpos_bias

  def _run(self, method, x, caches, context, deterministic):
    """Calls a method of every layer in turn.

    Args:
      method: '__call__' or 'cross_key_values'.
      x: [R, Q, E], passed from layer to layer.
      caches: LayerCache of all layers, a tuple (stacked with `scan_layers`), or
        None.
      context: LayerContext or None.
      deterministic: whether dropout is off.

    Returns:
      The last x, and the second results of the layers in the form of `caches`.
    """
    results = []
    for i, name in enumerate(self.layer_names):
      layer = getattr(self, name)
      cache = caches
      if caches is not None and not self.config.scan_layers:
        cache = caches[i]
      x, result = getattr(layer, method)(x, cache, context, deterministic)
      results.append(result)
    return x, results[0] if self.config.scan_layers else tuple(results)


class Encoder(_Stack):
  """Encodes the inputs."""

  def setup(self):
    self._build(EncoderLayer, self.config.num_encoder_layers, 'encoder', True)

  def __call__(
    self,
    x: Float[Array, 'B S E'],
    mask: masks.Mask,
    deterministic: bool,
  ) -> Float[Array, 'B S E']:
    """Maps embedded inputs [B, S, E] to encoded ones of the same shape.

    Args:
      x: [B, S, E], embedded tokens.
      mask: of S queries and S keys.
      deterministic: whether dropout is off.
    """
    context = LayerContext(AttentionBias.make(mask, self._shared_relpos_bias))
    x = self.dropout(x, deterministic)
    x, _ = self._run('__call__', x, None, context, deterministic)
    return self.dropout(self.encoder_norm(x), deterministic)


class Decoder(_Stack):
  """Decodes packed rows, or a batch of sequences with KV caches."""

  def setup(self):
    cfg = self.config
    self._build(DecoderLayer, cfg.num_decoder_layers, 'decoder', False)
    if not cfg.logits_via_embedding:
      self.logits_dense = layers.Dense(
        cfg.vocab_size, ('embed', 'vocab'), 'float32'
      )

  def __call__(
    self,
    x: Float[Array, 'B L E'],
    encoded: Float[Array, 'B S E'],
    self_mask: masks.Mask,
    cross_mask: masks.Mask,
    deterministic: bool,
  ) -> Float[Array, 'B L E']:
    """Maps embedded packed rows [B, L, E] to hidden states [B, L, E].

    Args:
      x: [B, L, E], embedded tokens.
      encoded: [B, S, E], of the encoder.
      self_mask: of L queries and L keys.
      cross_mask: of L queries and S keys.
      deterministic: whether dropout is off.
    """
    context = LayerContext(
      AttentionBias.make(self_mask, self._shared_relpos_bias),
      AttentionBias.make(cross_mask),
      encoded,
    )
    x = self.dropout(x, deterministic)
    x, _ = self._run('__call__', x, None, context, deterministic)
    return self.dropout(self.decoder_norm(x), deterministic)

  def cross_key_values(
    self, encoded: Float[Array, 'B S E']
  ) -> tuple[KVLayer, ...] | KVLayer:
    """Returns the keys and values of encoded inputs, `KVCache.layers`."""
    return self._run('cross_key_values', encoded, None, None, True)[1]

  def decode_chunk(
    self,
    x: Float[Array, 'R Q E'],
    cross: KVCache,
    cache: KVCache,
    self_mask: Bool[Array, 'R 1 Q C'],
    cache_index: Int32[Array, ''] | Int32[Array, ' R'],
  ) -> tuple[Float[Array, 'R Q E'], KVCache]:
    """Decodes the next tokens of a batch of sequences.

    Args:
      x: [R, Q, E], embedded tokens.
      cross: of the inputs, B and S positions.
      cache: of the sequences, R and C positions.
      self_mask: bool [R, 1, Q, C], True where to attend.
      cache_index: int32 scalar or [R], the position of the first of the Q
        tokens in the cache.

    Returns:
      Hidden states [R, Q, E], and the new cache.
    """
    shared = self._shared_relpos_bias
    self_bias = shared and shared(x.shape[1], self_mask.shape[-1], cache_index)
    x, new_layers = self._run_cached(
      x,
      cross,
      cache.layers,
      AttentionBias(masks.masked_bias(self_mask, self_bias)),
      cache_index,
    )
    return x, cache.replace(layers=new_layers)

  def decode_packed(
    self, x: Float[Array, 'B L E'], cross: KVCache, self_mask: masks.Mask
  ) -> tuple[Float[Array, 'B L E'], tuple[KVLayer, ...] | KVLayer]:
    """Decodes packed rows, and keeps their keys and values.

    Args:
      x: [B, L, E], embedded tokens.
      cross: of the inputs, B and S positions.
      self_mask: of L queries and L keys.

    Returns:
      Hidden states [B, L, E]; and `KVCache.layers` of B rows and L positions.
    """
    self_bias = AttentionBias.make(self_mask, self._shared_relpos_bias)
    return self._run_cached(x, cross, None, self_bias)

  def _run_cached(self, x, cross, cache_layers, self_bias, cache_index=None):
    """Runs all layers against the encoded inputs; see `LayerCache`."""
    num_queries = x.shape[0] // cross.mask.shape[0] * x.shape[1]
    cross_mask = masks.Mask.of_keys(cross.mask.astype(jnp.int32), num_queries)
    context = LayerContext(
      self_bias, AttentionBias.make(cross_mask), cache_index=cache_index
    )
    if self.config.scan_layers:
      caches = LayerCache(cross.layers, cache_layers)
    else:
      cache_layers = cache_layers or (None,) * len(cross.layers)
      pairs = zip(cross.layers, cache_layers, strict=True)
      caches = tuple(LayerCache(*pair) for pair in pairs)
    x, key_values = self._run('__call__', x, caches, context, True)
    return self.decoder_norm(x), key_values

  def logits(self, x: Float32[Array, '*R E']) -> Float32[Array, '*R V']:
    """Maps hidden states float32 [..., E] to [..., V] by an untied head."""
    return self.logits_dense(x)
