# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Flax modules of the T5 family, for training and for shared-input decoding.

Axis letters, in comments and annotations of this package and of
`pid_jax.decoding`; each has one meaning:

  B  inputs of a batch
  S  input (encoder) tokens
  U  prompts of an input, its subtasks
  R  sequences that are decoded: U for each of B inputs, those of one input
     adjacent
  L  packed decoder tokens of a training row
  Q  query positions: the tokens that one call reads
  K  key positions: what an attention reads; S, L or C
  C  positions of the self-attention cache
  N  layers
  H  attention heads
  D  head_dim
  E  emb_dim
  F  mlp_dim
  V  vocab_size
"""

from pid_jax.config import T5Config
from pid_jax.network.axes import ParamAxes
from pid_jax.network.axes import param_axes
from pid_jax.network.initialization import initialize
from pid_jax.network.kv_cache import KVCache
from pid_jax.network.kv_cache import KVLayer
from pid_jax.network.quantization import quantize_params
from pid_jax.network.stacks import stack_layers
from pid_jax.network.transformer import Transformer
