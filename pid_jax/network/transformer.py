# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The T5 encoder-decoder, arranged for many prompts to one encoded input.

Training decodes packed rows: every subtask of an input (and several inputs)
stand one after another in one row, and masks keep them apart. Inference decodes
a grid: R = B * U rows of U prompts for each of B inputs. Both run the same
layers. In the grid, the rows of one input are adjacent, so cross-attention
reads them as one row of U * Q queries against that input's keys and values:
those are computed once and never copied per prompt.

Letters: B inputs, S input tokens, L packed decoder tokens, R = B * U grid rows,
Q tokens of a row in one call, C slots of the self-attention cache, N layers,
H heads, D head_dim, E emb_dim, V vocab_size.
"""

import flax
from flax import linen as nn
from flax.linen import partitioning as nn_partitioning
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax.network import layers
from pid_jax.network.attention import Attention
from pid_jax.network.attention import KeyValues

ACTIVATION_AXES = ('batch', 'length', 'embed')


@flax.struct.dataclass
class LayerContext:
  """What all layers of a stack share in one call.

  Attributes:
    self_bias: float32 [1, H, Q, K], relative position bias.
    self_mask: bool, broadcastable to [R, 1, Q, K].
    cross_mask: bool, broadcastable to [B, 1, Q, S] (packed rows) or
      [B, 1, 1, S] (grid).
    encoded: [B, S, E], or None where keys and values are given.
    slot: int32 scalar, the first cache slot to write, or None without cache.
  The encoder uses the first two alone.
  """

  self_bias: jax.Array
  self_mask: jax.Array
  cross_mask: jax.Array | None = None
  encoded: jax.Array | None = None
  slot: jax.Array | None = None


@flax.struct.dataclass
class LayerMemory:
  """What one decoder layer (or, stacked, all) remembers while decoding.

  Attributes:
    cross: KeyValues [B, S, H, D] of the encoded input.
    cache: KeyValues [R, C, H, D] of the row so far.
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
    self.pre_attention_layer_norm = _layer_norm(cfg)
    self.attention = Attention(cfg)
    self.pre_mlp_layer_norm = _layer_norm(cfg)
    self.mlp = layers.Mlp(cfg)
    self.dropout = layers.Dropout(cfg.dropout_rate)

  def __call__(self, x, unused_memory, context, deterministic):
    """Maps [B, S, E] to ([B, S, E], None); see `DecoderLayer.__call__`."""
    y = self.pre_attention_layer_norm(x)
    y = self.attention(
      y,
      self.attention.key_values(y),
      context.self_bias,
      context.self_mask,
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
    self.pre_self_attention_layer_norm = _layer_norm(cfg)
    self.self_attention = Attention(cfg)
    self.pre_cross_attention_layer_norm = _layer_norm(cfg)
    self.encoder_decoder_attention = Attention(cfg)
    self.pre_mlp_layer_norm = _layer_norm(cfg)
    self.mlp = layers.Mlp(cfg)
    self.dropout = layers.Dropout(cfg.dropout_rate)

  def cross_key_values(self, encoded, *unused_args):
    """Projects [B, S, E]; returns (encoded, KeyValues [B, S, H, D])."""
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
    y = self.self_attention(
      y, own, context.self_bias, context.self_mask, deterministic
    )
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
      None,
      context.cross_mask,
      deterministic,
    )
    x = x + self.dropout(y.reshape(x.shape), deterministic)

    y = self.mlp(self.pre_mlp_layer_norm(x), deterministic)
    x = x + self.dropout(y, deterministic)
    x = layers.with_sharding_constraint(x, ACTIVATION_AXES)
    return x, (None if memory is None else own)


def _write(cache: KeyValues, new: KeyValues, slot: jax.Array) -> KeyValues:
  """Writes [R, Q, H, D] into the slots from `slot` on of [R, C, H, D]."""
  write = lambda old, new: jax.lax.dynamic_update_slice_in_dim(
    old, new.astype(old.dtype), slot, axis=1
  )
  return jax.tree.map(write, cache, new)


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
    variable_axes={'params': 1},
    split_rngs={'params': True, 'dropout': True},
    in_axes=(0, nn.broadcast, nn.broadcast),
    length=num_layers,
    axis_name='layers',
    methods=methods,
  )
  return {scan_name: scanned(cfg)}


class _Stack(nn.Module):
  """Layers, final norm and relative position bias of one stack."""

  config: config_lib.T5Config

  def _build(self, layer_class, num_layers, name, bidirectional):
    cfg = self.config
    self.relpos_bias = layers.RelativePositionBias(cfg, bidirectional)
    self.dropout = layers.Dropout(cfg.dropout_rate)
    stack = _stack(cfg, layer_class, num_layers, name)
    for layer_name, layer in stack.items():
      setattr(self, layer_name, layer)
    self.layer_names = tuple(stack)
    setattr(self, f'{name}_norm', _layer_norm(cfg))

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
    context = LayerContext(self.relpos_bias(length, length), mask)
    x = self.dropout(x, deterministic)
    x, _ = self._run('__call__', x, None, context, deterministic)
    return self.dropout(self.encoder_norm(x), deterministic)


class Decoder(_Stack):
  """Writes the outputs, over packed rows or over a grid with a cache."""

  def setup(self):
    self._build(DecoderLayer, self.config.num_decoder_layers, 'decoder', False)

  def __call__(self, x, encoded, self_mask, cross_mask, deterministic):
    """Decodes packed rows: embedded [B, L, E] to hidden [B, L, E]."""
    length = x.shape[1]
    context = LayerContext(
      self.relpos_bias(length, length), self_mask, cross_mask, encoded
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
      slot: int32 scalar.

    Returns:
      hidden [R, Q, E], and the new caches of all layers.
    """
    num_queries, num_slots = self_mask.shape[-2:]
    bias = self.relpos_bias(num_queries, num_slots, slot)
    context = LayerContext(bias, self_mask, cross_mask, slot=slot)
    x, cache = self._run('__call__', x, memory, context, True)
    return self.decoder_norm(x), cache


class Transformer(nn.Module):
  """An encoder-decoder of the T5 family.

  Parameters carry T5X's names and shapes, so T5X checkpoints load as they are.
  """

  config: config_lib.T5Config

  def setup(self):
    cfg = self.config
    self.token_embedder = layers.Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype)
    self.encoder = Encoder(cfg)
    self.decoder = Decoder(cfg)
    if not cfg.logits_via_embedding:
      self.logits_dense = layers.Dense(
        cfg.vocab_size, ('embed', 'vocab'), 'float32'
      )

  def __call__(
    self,
    encoder_input_tokens: jax.Array,
    decoder_input_tokens: jax.Array,
    decoder_target_tokens: jax.Array | None = None,
    encoder_segment_ids: jax.Array | None = None,
    decoder_segment_ids: jax.Array | None = None,
    encoder_positions: jax.Array | None = None,
    decoder_positions: jax.Array | None = None,
    decoder_subtask_ids: jax.Array | None = None,
    *,
    enable_dropout: bool = True,
  ) -> jax.Array:
    """Returns the logits of packed rows; see `encode` and `decode`."""
    del encoder_positions  # Biases need distances alone; see RelativePosition.
    encoded = self.encode(
      encoder_input_tokens, encoder_segment_ids, enable_dropout=enable_dropout
    )
    return self.decode(
      encoded,
      encoder_input_tokens,
      decoder_input_tokens,
      decoder_target_tokens,
      encoder_segment_ids,
      decoder_segment_ids,
      decoder_positions,
      decoder_subtask_ids,
      enable_dropout=enable_dropout,
    )

  def encode(
    self,
    encoder_input_tokens: jax.Array,
    encoder_segment_ids: jax.Array | None = None,
    *,
    enable_dropout: bool = True,
  ) -> jax.Array:
    """Encodes the inputs.

    Args:
      encoder_input_tokens: int32 [B, S], 0 where padded.
      encoder_segment_ids: int32 [B, S], which input of a packed row a token
        belongs to, from 1; 0 where padded. None: one input a row.
      enable_dropout: False in evaluation.

    Returns:
      [B, S, E] in the activations' dtype.
    """
    if encoder_segment_ids is None:
      mask = (encoder_input_tokens > 0)[:, None, None, :]
    else:
      mask = _same(encoder_segment_ids, encoder_segment_ids)
    x = self.token_embedder(encoder_input_tokens)
    return self.encoder(x, mask, not enable_dropout)

  def decode(
    self,
    encoded: jax.Array,
    encoder_input_tokens: jax.Array,
    decoder_input_tokens: jax.Array,
    decoder_target_tokens: jax.Array | None = None,
    encoder_segment_ids: jax.Array | None = None,
    decoder_segment_ids: jax.Array | None = None,
    decoder_positions: jax.Array | None = None,
    decoder_subtask_ids: jax.Array | None = None,
    *,
    enable_dropout: bool = True,
  ) -> jax.Array:
    """Decodes packed rows with teacher forcing.

    Args:
      encoded: [B, S, E] from `encode`.
      encoder_input_tokens: int32 [B, S].
      decoder_input_tokens: int32 [B, L]; a subtask is `0 prompt target`.
      decoder_target_tokens: unused; part of T5X's protocol.
      encoder_segment_ids: int32 [B, S] or None.
      decoder_segment_ids: int32 [B, L], which input of the row a token reads,
        from 1; 0 where padded. None: one input a row.
      decoder_positions: unused; part of T5X's protocol.
      decoder_subtask_ids: int32 [B, L], from 1; 0 where padded. Tokens see
        those of their own subtask alone. None: one subtask per segment.
      enable_dropout: False in evaluation.

    Returns:
      float32 logits [B, L, V].
    """
    del decoder_target_tokens, decoder_positions
    length = decoder_input_tokens.shape[1]
    self_mask = jnp.tril(jnp.ones((1, 1, length, length), bool))
    for ids in (decoder_segment_ids, decoder_subtask_ids):
      if ids is not None:
        self_mask = self_mask & _same(ids, ids)
    if encoder_segment_ids is None:
      cross_mask = (encoder_input_tokens > 0)[:, None, None, :]
    else:
      cross_mask = _same(decoder_segment_ids, encoder_segment_ids)
    x = self.token_embedder(decoder_input_tokens)
    x = self.decoder(x, encoded, self_mask, cross_mask, not enable_dropout)
    return self._logits(x)

  def cross_key_values(self, encoded: jax.Array):
    """Projects the encoded inputs for every decoder layer, once.

    Args:
      encoded: [B, S, E].

    Returns:
      A tuple of N KeyValues [B, S, H, D], or with `scan_layers` one KeyValues
      [N, B, S, H, D].
    """
    return self.decoder.cross_key_values(encoded)

  def empty_cache(self, num_rows: int, num_slots: int):
    """Returns zeros for the self-attention of R rows, C slots, N layers.

    Returns:
      A tuple of N KeyValues [R, C, H, D], or with `scan_layers` one KeyValues
      [N, R, C, H, D].
    """
    cfg = self.config
    shape = (num_rows, num_slots, cfg.num_heads, cfg.head_dim)
    if cfg.scan_layers:
      zeros = jnp.zeros((cfg.num_decoder_layers, *shape), cfg.dtype)
      return KeyValues(zeros, zeros)
    zeros = jnp.zeros(shape, cfg.dtype)
    return (KeyValues(zeros, zeros),) * cfg.num_decoder_layers

  def decode_cached(
    self,
    tokens: jax.Array,
    cross,
    encoder_mask: jax.Array,
    cache,
    slot: jax.Array,
    slot_mask: jax.Array,
    *,
    all_logits: bool = False,
  ):
    """Decodes the next tokens of grid rows: a prompt at once, or one step.

    The distance of two slots is the distance of their tokens: rows of unequal
    length stand in the cache with their ends, not their starts, aligned.

    Args:
      tokens: int32 [R, Q]; row r reads input r // U.
      cross: what `cross_key_values` returned.
      encoder_mask: bool [B, S], True at input tokens.
      cache: of `empty_cache`, or of the call before.
      slot: int32 scalar, where the first of the Q tokens is written.
      slot_mask: bool [R, C], slots that hold (or will hold) a row's tokens.
      all_logits: whether to return the logits of all Q tokens, not the last's.

    Returns:
      float32 logits [R, V] (or [R, Q, V]), and the new cache.
    """
    num_queries, num_slots = tokens.shape[1], slot_mask.shape[1]
    query_slots = slot + jnp.arange(num_queries)
    causal = jnp.arange(num_slots)[None, :] <= query_slots[:, None]
    self_mask = slot_mask[:, None, None, :] & causal[None, None, :, :]
    if self.config.scan_layers:
      memory = LayerMemory(cross, cache)
    else:
      memory = tuple(
        LayerMemory(*pair) for pair in zip(cross, cache, strict=True)
      )
    x, cache = self.decoder.extend(
      self.token_embedder(tokens),
      memory,
      self_mask,
      encoder_mask[:, None, None, :],
      slot,
    )
    if not all_logits:
      x = x[:, -1:]
    logits = self._logits(x)
    return (logits if all_logits else logits[:, 0]), cache

  def _logits(self, x: jax.Array) -> jax.Array:
    # [B, L, E] -> [B, L, V], float32 for a stable softmax.
    cfg = self.config
    x = x.astype(jnp.float32)
    if cfg.logits_via_embedding:
      return self.token_embedder.attend(x) * cfg.emb_dim**-0.5
    return self.logits_dense(x)


def _same(query_ids: jax.Array, key_ids: jax.Array) -> jax.Array:
  # int32 [B, Q] and [B, K] -> bool [B, 1, Q, K]
  return query_ids[:, None, :, None] == key_ids[:, None, None, :]
