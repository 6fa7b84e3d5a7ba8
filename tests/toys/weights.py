# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Random parameters, whose outputs are worth comparing."""

import dataclasses
import functools

import jax
import numpy as np

from pid_jax import checkpoints
from pid_jax.config import T5Config

EOS_ID = 1


@functools.lru_cache(maxsize=64)
def random_params(
  config: T5Config,
  seed: int,
  eos_gain: float = 2.0,
  reads_input: bool = True,
  gain: float = 1.5,
):
  """Returns random parameters as NumPy arrays, not to be changed.

  Scanned layers have the values of layers apart.

  Args:
    config: of the network.
    seed: of the numbers.
    eos_gain: factor of the head's column for EOS; larger ends outputs early.
    reads_input: whether the outputs depend on the input.
    gain: of each kernel; attention gets sharper with it, and rounding errors
      larger.
  """
  if config.scan_layers:
    apart = dataclasses.replace(config, scan_layers=False)
    return stack_layers(random_params(apart, seed, eos_gain, reads_input, gain))
  rng = np.random.default_rng(seed)
  is_tied = config.logits_via_embedding

  def draw(path, shape):
    names = [key.key for key in path]
    x = rng.normal(size=shape.shape)
    if names[-1] == 'scale':
      # Else the newest token, in the residual stream of a tied head, is the
      # likeliest next one, for ever.
      is_last = is_tied and 'decoder_norm' in names
      return 4 * x if is_last else 1 + 0.2 * x
    if names[-1] == 'kernel':
      x *= gain / np.sqrt(shape.shape[0])
    if 'encoder_decoder_attention' in names:
      x *= reads_input
    if 'logits_dense' in names:
      x[:, EOS_ID] *= eos_gain
    if names[-1] == 'embedding' and is_tied:
      x[EOS_ID] *= eos_gain
    return x

  tree = jax.tree_util.tree_map_with_path(
    draw, checkpoints.abstract_params(config)
  )
  return jax.tree.map(np.float32, tree)


def stack_layers(params):
  """Returns the parameters of the same network with scanned layers."""
  stacked = dict(params)
  for stack in ('encoder', 'decoder'):
    tree = dict(params[stack])
    names = [name for name in tree if name.startswith('layers_')]
    layers = [tree.pop(f'layers_{i}') for i in range(len(names))]
    tree[stack] = jax.tree.map(lambda *x: np.stack(x, axis=1), *layers)
    stacked[stack] = tree
  return stacked
