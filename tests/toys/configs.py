# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sizes of small models; where a test is about sizes, it has others itself."""

from pid_jax.config import T5Config

GATED = ('gelu', 'linear')


def tiny(**overrides) -> T5Config:
  """One layer to a stack, 16 wide: the fastest to compile."""
  fields = dict(
    vocab_size=32,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=32,
    mlp_activations=GATED,
  )
  return T5Config(**{**fields, **overrides})


def odd(**overrides) -> T5Config:
  """Several layers; no size divides another.

  Every relative position bucket is within reach of a short text.
  """
  fields = dict(
    vocab_size=97,
    emb_dim=22,
    num_heads=3,
    head_dim=5,
    num_encoder_layers=3,
    num_decoder_layers=2,
    mlp_dim=37,
    mlp_activations=GATED,
    relpos_num_buckets=10,
    relpos_max_distance=23,
  )
  return T5Config(**{**fields, **overrides})


_SMALL = dict(
  vocab_size=128, num_tokens=121, emb_dim=32, num_heads=4, mlp_dim=64
)
T5_1_0 = tiny(**_SMALL, mlp_activations=('relu',), logits_via_embedding=True)
T5_1_1 = tiny(**_SMALL)
CONFIGS = {'t5_1_0': T5_1_0, 't5_1_1': T5_1_1, 'odd': odd(num_tokens=89)}
