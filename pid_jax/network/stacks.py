# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Layers of the encoder and the decoder, and the stacks that they make.

The decoder's layers run in two ways: over packed rows, where they project the
encoded input themselves, and over grid rows, against a memory of projected
inputs and of the row so far. transformer.py says what the rows are.

Letters: B inputs, S input tokens, L packed decoder tokens, R = B * U grid rows,
Q tokens of a row in one call, C slots of the self-attention cache, N layers,
H heads, D head_dim, E emb_dim.
"""

import functools

import flax
from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
import jax

from pid_jax import config as config_lib
from pid_jax.network import axes
from pid_jax.network import layers
from pid_jax.network.attention import Attention
from pid_jax.network.attention import KeyValues
from pid_jax.network.attention import masked

ACTIVATION_AXES = ('batch', 'length', 'embed')


@flax.struct.dataclass
class LayerContext:
  """What all layers of a stack share in one call.

  Attributes:
    self_bias: float32 [R, H, Q, K] (of the encoder [B, H, S, S]), relative
      position bias where a query may attend, else MASKED. Where each layer has
      a bias of its own, [R, 1, Q, K] with 0 in its place.
    cross_bias: float32 [B, 1, Q, S] (packed rows) or [B, 1, 1, S] (grid), 0
      where a query may attend, else MASKED.
    encoded: [B, S, E], or None where keys and values are given.
    slot: int32 scalar or [R], the first cache slot to write, or None without
      cache.
  The encoder uses the first alone.
  """

  self_bias: jax.Array
  cross_bias: jax.Array | None = None
  encoded: jax.Array | None = None
  slot: jax.Array | None = None


@flax.struct.dataclass
class LayerMemory:
  """What one decoder layer (or, stacked, all) remembers while decoding.

  Attributes:
    cross: KeyValues of the encoded input: B, S places.
    cache: KeyValues of the row so far: R, C places.
  """

  cross: KeyValues
  cache: KeyValues


def _layer_norm(cfg: config_lib.T5Config, **kwargs) -> layers.LayerNorm:
  return layers.LayerNorm(cfg.dtype, cfg.layer_norm_epsilon, **kwargs)


class EncoderLayer(nn.Module):
  """Self-attention and feed-forward, each on a normed residual branch."""

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

  def __call__(self, x, unused_memory, context, deterministic):
    """Maps [B, S, E] to ([B, S, E], None); see `DecoderLayer.__call__`."""
    bias = context.self_bias
    if self.config.relpos_bias_per_layer:
      bias += self.relpos_bias(x.shape[1], x.shape[1])
    y = self.pre_attention_layer_norm(x)
    y = self.attention(
      y,
      self.attention.key_values(y),
      bias,
      deterministic,
    )
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

  def cross_key_values(self, encoded, *unused_args):
    """Projects [B, S, E]; returns (encoded, KeyValues of S places)."""
    return encoded, self.encoder_decoder_attention.key_values(encoded)

  def __call__(
    self,
    x: jax.Array,
    memory: LayerMemory | None,
    context: LayerContext,
    deterministic: bool,
  ):
    """Runs the layer on packed rows, or on grid rows with their memory.

    Args:
      x: [B, L, E] packed rows, or [R, Q, E] grid rows.
      memory: this layer's, or None for packed rows.
      context: masks, biases, and the encoded input of packed rows.
      deterministic: whether dropout is off.

    Returns:
      x of the same shape, and the new cache (None for packed rows).
    """
    y = self.pre_self_attention_layer_norm(x)
    own = self.self_attention.key_values(y)
    if memory is not None:
      own = _write(memory.cache, own, context.slot)
    bias = context.self_bias
    if self.config.relpos_bias_per_layer:
      first = 0 if context.slot is None else context.slot
      bias += self.relpos_bias(x.shape[1], own.keys.shape[-1], first)
    y = self.self_attention(y, own, bias, deterministic)
    x = x + self.dropout(y, deterministic)

    y = self.pre_cross_attention_layer_norm(x)
    if memory is None:
      cross = self.encoder_decoder_attention.key_values(context.encoded)
    else:
      cross = memory.cross
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
    return x, (None if memory is None else own)


def _write(cache: KeyValues, new: KeyValues, slot: jax.Array) -> KeyValues:
  """Writes Q places into those from `slot` on, which may differ by row."""

  def write(old: jax.Array, new: jax.Array, axis: int) -> jax.Array:
    update = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=axis)
    if slot.ndim:
      update = jax.vmap(update)
    return update(old, new.astype(old.dtype), slot)

  return KeyValues(
    keys=write(cache.keys, new.keys, -1),
    values=write(cache.values, new.values, -2),
  )


def _stack(
  cfg: config_lib.T5Config, layer_class, num_layers: int, scan_name: str
):
  """Builds the layers of a stack, to be set in a module's setup().

  Args:
    cfg: the model's.
    layer_class: EncoderLayer or DecoderLayer.
    num_layers: N.
    scan_name: what T5X's scalable models call the scanned layer.

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

  def _self_bias(self, mask, *sizes):
    """Folds the mask into the bias that all layers share, if they do."""
    shared = not self.config.relpos_bias_per_layer
    return masked(mask, self.relpos_bias(*sizes) if shared else None)

  def _run(self, method, carry, memory, context, deterministic):
    """Calls a method of every layer in turn.

    Args:
      method: '__call__' or 'cross_key_values'.
      carry: [B, L, E], handed from layer to layer.
      memory: of all layers, a tuple (or stacked, when scanned), or None.
      context: LayerContext or None.
      deterministic: whether dropout is off.

    Returns:
      The last carry, and the layers' second results in the form of `memory`.
    """
    results = []
    for i, name in enumerate(self.layer_names):
      layer = getattr(self, name)
      own = memory
      if memory is not None and not self.config.scan_layers:
        own = memory[i]
      carry, result = getattr(layer, method)(carry, own, context, deterministic)
      results.append(result)
    return carry, results[0] if self.config.scan_layers else tuple(results)


class Encoder(_Stack):
  """Reads the input."""

  def setup(self):
    self._build(EncoderLayer, self.config.num_encoder_layers, 'encoder', True)

  def __call__(self, x, mask, deterministic):
    """Maps embedded [B, S, E] and a mask to the encoded input [B, S, E]."""
    length = x.shape[1]
    context = LayerContext(self._self_bias(mask, length, length))
    x = self.dropout(x, deterministic)
    x, _ = self._run('__call__', x, None, context, deterministic)
    return self.dropout(self.encoder_norm(x), deterministic)


class Decoder(_Stack):
  """Writes the outputs, over packed rows or over a grid with a cache."""

  def setup(self):
    cfg = self.config
    self._build(DecoderLayer, cfg.num_decoder_layers, 'decoder', False)
    if not cfg.logits_via_embedding:
      self.logits_dense = layers.Dense(
        cfg.vocab_size, ('embed', 'vocab'), 'float32'
      )

  def __call__(self, x, encoded, self_mask, cross_mask, deterministic):
    """Decodes packed rows: embedded [B, L, E] to hidden [B, L, E]."""
    length = x.shape[1]
    context = LayerContext(
      self._self_bias(self_mask, length, length),
      masked(cross_mask),
      encoded,
    )
    x = self.dropout(x, deterministic)
    x, _ = self._run('__call__', x, None, context, deterministic)
    return self.dropout(self.decoder_norm(x), deterministic)

  def cross_key_values(self, encoded):
    """Returns all layers' keys and values of [B, S, E]."""
    return self._run('cross_key_values', encoded, None, None, True)[1]

  def extend(self, x, memory, self_mask, cross_mask, slot):
    """Decodes grid rows against their memory.

    Args:
      x: [R, Q, E], embedded tokens of slots `slot`, `slot` + 1, ...
      memory: LayerMemory of all layers.
      self_mask: bool [R, 1, Q, C].
      cross_mask: bool [B, 1, 1, S].
      slot: int32 scalar or [R].

    Returns:
      hidden [R, Q, E], and the new caches of all layers.
    """
    num_queries, num_slots = self_mask.shape[-2:]
    context = LayerContext(
      self._self_bias(self_mask, num_queries, num_slots, slot),
      masked(cross_mask),
      slot=slot,
    )
    x, cache = self._run('__call__', x, memory, context, True)
    return self.decoder_norm(x), cache

  def logits(self, x):
    """Maps hidden float32 [..., E] to [..., V], by a head that is not tied."""
    return self.logits_dense(x)
