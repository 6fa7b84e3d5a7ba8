# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Flax modules of the T5 family, for training and for shared-input decoding."""

from pid_jax.config import T5Config
from pid_jax.network.attention import KeyValues
from pid_jax.network.axes import ParamAxes
from pid_jax.network.axes import param_axes
from pid_jax.network.initialization import initialize
from pid_jax.network.quantization import quantize_params
from pid_jax.network.transformer import Transformer

__all__ = [
  'KeyValues',
  'ParamAxes',
  'T5Config',
  'Transformer',
  'initialize',
  'param_axes',
  'quantize_params',
]
