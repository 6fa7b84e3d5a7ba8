# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The T5 encoder-decoder, arranged for many prompts per encoded input.

Training decodes packed rows: the subtasks of an input (and several inputs) are
concatenated in one row, and masks keep them apart. Inference decodes a batch of
R = B * U sequences, U prompts for each of B inputs. Both run the same layers.
The sequences of one input are adjacent, so that cross-attention reads them as
one sequence of U * Q queries against that input's keys and values, which are
computed once and never copied per prompt.

Axis letters are those of `pid_jax.network`.
"""

from flax import linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32

from pid_jax import config as config_lib
from pid_jax.network import layers
from pid_jax.network import masks
from pid_jax.network import precision
from pid_jax.network import stacks
from pid_jax.network.kv_cache import KVCache
from pid_jax.network.kv_cache import KVLayer


class Transformer(nn.Module):
  """An encoder-decoder of the T5 family.

  Parameters have T5X's names and shapes: T5X checkpoints load unchanged.
  """

  config: config_lib.T5Config

  def setup(self):
    cfg = self.config
    self.token_embedder = layers.Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype)
    self.encoder = stacks.Encoder(cfg)
    self.decoder = stacks.Decoder(cfg)

  @precision.as_configured
  def __call__(
    self,
    encoder_input_tokens: Int32[Array, 'B S'],
    decoder_input_tokens: Int32[Array, 'B L'],
    decoder_target_tokens: Int32[Array, 'B L'] | None = None,
    encoder_segment_ids: Int32[Array, 'B S'] | None = None,
    decoder_segment_ids: Int32[Array, 'B L'] | None = None,
    encoder_positions: Int32[Array, 'B S'] | None = None,
    decoder_positions: Int32[Array, 'B L'] | None = None,
    decoder_subtask_ids: Int32[Array, 'B L'] | None = None,
    *,
    enable_dropout: bool = True,
  ) -> Float32[Array, 'B L V']:
    """Returns float32 logits [B, L, V] of packed rows.

    Arguments are those of `encode` and `decode`. Positions are unused: a
    relative position bias depends on distances alone.
    """
    del encoder_positions
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

  @precision.as_configured
  def encode(
    self,
    encoder_input_tokens: Int32[Array, 'B S'],
    encoder_segment_ids: Int32[Array, 'B S'] | None = None,
    *,
    enable_dropout: bool = True,
  ) -> Float[Array, 'B S E']:
    """Encodes the inputs.

    Args:
      encoder_input_tokens: int32 [B, S], 0 where padded.
      encoder_segment_ids: int32 [B, S], which input of a packed row a token
        belongs to, from 1; 0 where padded. None: one input per row.
      enable_dropout: False in evaluation.

    Returns:
      [B, S, E] in the activations' dtype.
    """
    length = encoder_input_tokens.shape[1]
    if encoder_segment_ids is None:
      mask = masks.Mask.of_keys(encoder_input_tokens, length)
    else:
      mask = masks.Mask.of_same(encoder_segment_ids, encoder_segment_ids)
    x = self.token_embedder(encoder_input_tokens)
    return self.encoder(x, mask, not enable_dropout)

  @precision.as_configured
  def decode(
    self,
    encoded: Float[Array, 'B S E'],
    encoder_input_tokens: Int32[Array, 'B S'],
    decoder_input_tokens: Int32[Array, 'B L'],
    decoder_target_tokens: Int32[Array, 'B L'] | None = None,
    encoder_segment_ids: Int32[Array, 'B S'] | None = None,
    decoder_segment_ids: Int32[Array, 'B L'] | None = None,
    decoder_positions: Int32[Array, 'B L'] | None = None,
    decoder_subtask_ids: Int32[Array, 'B L'] | None = None,
    *,
    enable_dropout: bool = True,
  ) -> Float32[Array, 'B L V']:
    """Decodes packed rows with teacher forcing.

    Args:
      encoded: [B, S, E] from `encode`.
      encoder_input_tokens: int32 [B, S].
      decoder_input_tokens: int32 [B, L]; a subtask is `0 prompt target`.
      decoder_target_tokens: unused; part of T5X's protocol.
      encoder_segment_ids: int32 [B, S] or None, see `encode`.
      decoder_segment_ids: int32 [B, L], which input of the row a token reads,
        from 1; 0 where padded. None: one input per row.
      decoder_positions: unused; part of T5X's protocol.
      decoder_subtask_ids: int32 [B, L], from 1; 0 where padded. Tokens attend
        only to tokens of the same subtask. None: one subtask per segment.
      enable_dropout: False in evaluation.

    Returns:
      float32 logits [B, L, V].
    """
    del decoder_target_tokens, decoder_positions
    length = decoder_input_tokens.shape[1]
    ids = [
      jnp.asarray(ids)
      for ids in (decoder_segment_ids, decoder_subtask_ids)
      if ids is not None
    ]
    # Without ids, one sequence in each row.
    ids = tuple(ids) or (jnp.ones((1, length), jnp.int32),)
    self_mask = masks.Mask(ids, ids, length, causal=True)
    if encoder_segment_ids is None:
      cross_mask = masks.Mask.of_keys(encoder_input_tokens, length)
    else:
      cross_mask = masks.Mask.of_same(decoder_segment_ids, encoder_segment_ids)
    x = self.token_embedder(decoder_input_tokens)
    x = self.decoder(x, encoded, self_mask, cross_mask, not enable_dropout)
    return self._logits(x)

  @precision.as_configured
  def cross_key_values(
    self, encoded: Float[Array, 'B S E']
  ) -> tuple[KVLayer, ...] | KVLayer:
    """Projects the encoded inputs for the cross-attention of every layer.

    Args:
      encoded: [B, S, E], of `encode`.

    Returns:
      `KVCache.layers` of B inputs and S positions.
    """
    return self.decoder.cross_key_values(encoded)

  def init_cache(self, num_sequences: int, length: int) -> KVCache:
    """Returns an empty self-attention cache of R sequences and C positions.

    Args:
      num_sequences: R.
      length: C.

    Returns:
      The cache: keys and values zero, the mask True.
    """
    cfg = self.config
    stacked = (cfg.num_decoder_layers,) if cfg.scan_layers else ()
    zeros = lambda *shape: jnp.zeros(
      (*stacked, num_sequences, cfg.num_heads, *shape), cfg.dtype
    )
    layer = KVLayer(
      keys=zeros(cfg.head_dim, length), values=zeros(length, cfg.head_dim)
    )
    return KVCache(
      layers=layer if cfg.scan_layers else (layer,) * cfg.num_decoder_layers,
      mask=jnp.ones((num_sequences, length), bool),
    )

  @precision.as_configured
  def decode_chunk(
    self,
    tokens: Int32[Array, 'R Q'],
    cross: KVCache,
    cache: KVCache,
    cache_index: int | Int32[Array, ''] | Int32[Array, ' R'],
    *,
    all_logits: bool = False,
  ) -> tuple[Float32[Array, 'R V'] | Float32[Array, 'R Q V'], KVCache]:
    """Decodes the next Q tokens of each sequence: a prompt, or one token.

    The distance between two cache positions is the distance between their
    tokens. Sequences of unequal length are therefore aligned in the cache at
    their ends, not at their starts.

    Args:
      tokens: int32 [R, Q]; sequence r reads input r // U.
      cross: of the inputs, B and S positions.
      cache: of `init_cache`, or of the call before.
      cache_index: int32 scalar, the position of the first of the Q tokens in
        the cache; or [R], one for each sequence.
      all_logits: True returns logits after each of the Q tokens, False after
        the last only.

    Returns:
      float32 logits [R, V] (or [R, Q, V]), and the new cache.
    """
    cache_index = jnp.asarray(cache_index, jnp.int32)
    # [1, Q] or [R, Q]
    positions = jnp.atleast_1d(cache_index)[:, None]
    positions = positions + jnp.arange(tokens.shape[1])[None]
    causal = jnp.arange(cache.length)[None, None] <= positions[:, :, None]
    self_mask = cache.mask[:, None, None, :] & causal[:, None]
    x, cache = self.decoder.decode_chunk(
      self.token_embedder(tokens), cross, cache, self_mask, cache_index
    )
    if not all_logits:
      x = x[:, -1:]
    logits = self._logits(x)
    return (logits if all_logits else logits[:, 0]), cache

  @precision.as_configured
  def decode_packed(
    self,
    tokens: Int32[Array, 'B L'],
    subtask_ids: Int32[Array, 'B L'],
    cross: KVCache,
    logit_positions: Int32[Array, 'B U'],
    longest: int,
  ) -> tuple[Float32[Array, 'B U V'], KVCache]:
    """Decodes packed rows of one input each, and keeps their keys and values.

    Args:
      tokens: int32 [B, L].
      subtask_ids: int32 [B, L], see `decode`.
      cross: of the inputs, B and S positions.
      logit_positions: int32 [B, U], the tokens after which logits are wanted.
        Beyond L they are NaN.
      longest: tokens of a subtask, at most.

    Returns:
      float32 logits [B, U, V]; and a cache of B rows and L positions.
    """
    ids, length = (subtask_ids,), tokens.shape[1]
    mask = masks.Mask(ids, ids, length, causal=True, reach=longest - 1)
    x, key_values = self.decoder.decode_packed(
      self.token_embedder(tokens), cross, mask
    )
    x = jnp.take_along_axis(
      x, logit_positions[:, :, None], axis=1, mode='fill', fill_value=jnp.nan
    )
    return self._logits(x), KVCache(key_values, subtask_ids != 0)

  def _logits(self, x: Float[Array, 'R Q E']) -> Float32[Array, 'R Q V']:
    # float32 for a stable softmax.
    cfg = self.config
    x = x.astype(jnp.float32)
    if cfg.logits_via_embedding:
      return self.token_embedder.attend(x) * cfg.emb_dim**-0.5
    return self.decoder.logits(x)
