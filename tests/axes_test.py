# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of logical axes against the shapes of real parameters."""

import functools
import itertools

from flax import linen as nn
from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pid_jax import config as config_lib
from pid_jax import network
from pid_jax.checkpoints import names
from pid_jax.config import T5Config
from pid_jax.network import axes as axes_lib
from pid_jax.network import quantization

# All different, so that the size of a dimension tells which axis it is.
SIZES = {
  'vocab': 160,
  'embed': 24,
  'heads': 3,
  'joined_kv': 15,
  'mlp': 37,
  'relpos_buckets': 10,
}
LAYERS = {'encoder': 2, 'decoder': 4}
AXIS_OF_SIZE = {size: axis for axis, size in SIZES.items()}
AXIS_OF_SIZE |= dict.fromkeys(LAYERS.values(), 'layers')


flat = functools.partial(traverse_util.flatten_dict, sep='/')


def make_config(is_gated, is_tied, scan_layers, relpos_bias_per_layer):
  return T5Config(
    vocab_size=SIZES['vocab'],
    emb_dim=SIZES['embed'],
    num_heads=SIZES['heads'],
    head_dim=SIZES['joined_kv'] // SIZES['heads'],
    mlp_dim=SIZES['mlp'],
    mlp_activations=('gelu', 'linear') if is_gated else ('relu',),
    num_encoder_layers=LAYERS['encoder'],
    num_decoder_layers=LAYERS['decoder'],
    logits_via_embedding=is_tied,
    relpos_num_buckets=SIZES['relpos_buckets'],
    scan_layers=scan_layers,
    relpos_bias_per_layer=relpos_bias_per_layer,
  )


@pytest.mark.parametrize(
  'is_gated, is_tied', [(True, False), (False, True)], ids=['gated', 'tied']
)
@pytest.mark.parametrize(
  'scan_layers, relpos_bias_per_layer',
  [*itertools.product([False, True], repeat=2)],
)
def test_every_parameter_has_the_axes_that_its_shape_shows(
  is_gated, is_tied, scan_layers, relpos_bias_per_layer
):
  config = make_config(is_gated, is_tied, scan_layers, relpos_bias_per_layer)
  module = network.Transformer(config)
  tokens = jnp.ones((1, 2), jnp.int32)
  params = jax.eval_shape(
    lambda rng: module.init(rng, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']
  shapes = {name: leaf.shape for name, leaf in flat(params).items()}
  axes = network.param_axes(module)
  assert axes == {
    name: tuple(AXIS_OF_SIZE[size] for size in shape)
    for name, shape in shapes.items()
  }
  # Layers are an axis where one name stands for all of them.
  for name in axes:
    is_stacked = name.startswith(('encoder/encoder/', 'decoder/decoder/'))
    assert ('layers' in axes[name]) == is_stacked
  assert scan_layers == any('layers' in a for a in axes.values())
  assert flat(axes_lib.abstract_params(module)) == flat(params)

  roles = {
    'embedding': axes_lib.Role.EMBEDDING,
    'kernel': axes_lib.Role.KERNEL,
    'scale': axes_lib.Role.SCALE,
    'rel_embedding': axes_lib.Role.POSITION_BIAS,
  }
  for name in axes:
    expected = roles[name.rsplit('/', 1)[-1]]
    if name == 'decoder/logits_dense/kernel':
      expected = axes_lib.Role.HEAD
    assert axes_lib.role(axes[name]) is expected, name


@pytest.mark.parametrize('is_tied', [False, True])
@pytest.mark.parametrize('param_dtype', config_lib.PARAM_DTYPES)
def test_quantized_parameters_have_axes_too(param_dtype, is_tied):
  config = make_config(True, is_tied, True, False)
  module = network.Transformer(config)
  axes = network.param_axes(module)
  params = jax.tree.map(
    lambda p: jnp.ones(p.shape, p.dtype), axes_lib.abstract_params(module)
  )
  quantized = network.quantize_params(params, axes, param_dtype)
  assert quantization.quantized_axes(axes, param_dtype) == {
    name: tuple(AXIS_OF_SIZE[size] for size in leaf.shape)
    for name, leaf in flat(quantized).items()
  }


def test_parameters_without_axes_are_refused():
  class Module(nn.Module):
    @nn.compact
    def __call__(self, inputs, unused_targets, *, enable_dropout):
      return nn.Dense(3)(inputs.astype(np.float32))

  with pytest.raises(ValueError, match='Dense_0/bias.*param_with_axes'):
    network.param_axes(Module())


@pytest.mark.parametrize(
  'scan_layers, relpos_bias_per_layer',
  [*itertools.product([False, True], repeat=2)],
)
def test_checkpoints_know_the_parameters_without_tracing_each_layer(
  scan_layers, relpos_bias_per_layer
):
  config = make_config(True, False, scan_layers, relpos_bias_per_layer)
  module = network.Transformer(config)
  assert names.abstract_params(config) == axes_lib.abstract_params(module)
  assert names.param_axes(config) == network.param_axes(module)
