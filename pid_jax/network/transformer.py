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

from flax import linen as nn
import jax
import jax.numpy as jnp

from pid_jax import config as config_lib
from pid_jax.network import layers
from pid_jax.network import stacks
from pid_jax.network.attention import KeyValues


class Transformer(nn.Module):
  """An encoder-decoder of the T5 family.

  Parameters carry T5X's names and shapes, so T5X checkpoints load as they are.
  """

  config: config_lib.T5Config

  def setup(self):
    cfg = self.config
    self.token_embedder = layers.Embed(cfg.vocab_size, cfg.emb_dim, cfg.dtype)
    self.encoder = stacks.Encoder(cfg)
    self.decoder = stacks.Decoder(cfg)

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
      A tuple of N KeyValues of B inputs and S places, or with `scan_layers` one
      KeyValues with N as its first axis.
    """
    return self.decoder.cross_key_values(encoded)

  def empty_cache(self, num_rows: int, num_slots: int):
    """Returns zeros for the self-attention of R rows, C slots, N layers.

    Returns:
      A tuple of N KeyValues of R rows and C places, or with `scan_layers` one
      KeyValues with N as its first axis.
    """
    cfg = self.config
    num_layers = cfg.num_decoder_layers
    stacked = (num_layers,) if cfg.scan_layers else ()
    zeros = lambda *shape: jnp.zeros(
      (*stacked, num_rows, cfg.num_heads, *shape), cfg.dtype
    )
    empty = KeyValues(
      keys=zeros(cfg.head_dim, num_slots), values=zeros(num_slots, cfg.head_dim)
    )
    return empty if cfg.scan_layers else (empty,) * num_layers

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
      slot: int32 scalar, where the first of the Q tokens is written; or [R],
        where rows have got differently far.
      slot_mask: bool [R, C], slots that hold (or will hold) a row's tokens.
      all_logits: whether to return the logits of all Q tokens, not the last's.

    Returns:
      float32 logits [R, V] (or [R, Q, V]), and the new cache.
    """
    num_queries, num_slots = tokens.shape[1], slot_mask.shape[1]
    slot = jnp.asarray(slot, jnp.int32)
    # [1, Q] or [R, Q]
    query_slots = jnp.atleast_1d(slot)[:, None] + jnp.arange(num_queries)[None]
    causal = jnp.arange(num_slots)[None, None] <= query_slots[:, :, None]
    self_mask = slot_mask[:, None, None, :] & causal[:, None]
    if self.config.scan_layers:
      memory = stacks.LayerMemory(cross, cache)
    else:
      memory = tuple(
        stacks.LayerMemory(*pair) for pair in zip(cross, cache, strict=True)
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
    return self.decoder.logits(x)


def _same(query_ids: jax.Array, key_ids: jax.Array) -> jax.Array:
  # int32 [B, Q] and [B, K] -> bool [B, 1, Q, K]
  return query_ids[:, None, :, None] == key_ids[:, None, None, :]
