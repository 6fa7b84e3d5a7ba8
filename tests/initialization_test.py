# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests the initial parameters: T5's scales, and the copying arrangement."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pid_jax import config as config_lib
from pid_jax import network


@functools.cache
def _initialize(**overrides):
  config = config_lib.T5Config(
    vocab_size=64,
    emb_dim=48,
    num_heads=3,
    head_dim=16,
    mlp_dim=96,
    num_encoder_layers=2,
    num_decoder_layers=2,
    **overrides,
  )
  tokens = jnp.ones((1, 4), jnp.int32)
  module = network.Transformer(config)
  initialize = jax.jit(network.initialize, static_argnums=0)
  params = initialize(module, jax.random.key(0), tokens, tokens)
  return module, jax.tree.map(np.asarray, params['params'])


def test_t5_initialization_has_t5s_scales():
  _, params = _initialize()
  attention = params['encoder']['layers_0']['attention']
  # Mesh TensorFlow: queries (E * D)^-0.5, keys and values E^-0.5, embeddings 1.
  np.testing.assert_allclose(
    attention['query']['kernel'].std(), (48 * 16) ** -0.5, rtol=0.1
  )
  np.testing.assert_allclose(
    attention['key']['kernel'].std(), 48**-0.5, rtol=0.1
  )
  embedding = params['token_embedder']['embedding']
  np.testing.assert_allclose(embedding.std(), 1.0, rtol=0.1)


@pytest.mark.parametrize('scan_layers', [False, True])
def test_copying_values_arrive_as_they_are(scan_layers):
  _, params = _initialize(initializer='copy', scan_layers=scan_layers)
  if scan_layers:
    attention = params['decoder']['decoder']['encoder_decoder_attention']
    attention = jax.tree.map(lambda x: x[:, 1], attention)
  else:
    attention = params['decoder']['layers_1']['encoder_decoder_attention']
  through = attention['value']['kernel'] @ attention['out']['kernel']
  np.testing.assert_allclose(through, np.eye(48), atol=1e-5)
  np.testing.assert_allclose(
    attention['key']['kernel'], 4 * attention['query']['kernel'], rtol=1e-6
  )


def test_copying_keeps_structure_and_other_parameters():
  _, t5 = _initialize()
  _, copying = _initialize(initializer='copy')
  assert jax.tree.map(np.shape, t5) == jax.tree.map(np.shape, copying)
  for stack in ('encoder', 'decoder'):
    for layer in ('layers_0', 'layers_1'):
      np.testing.assert_array_equal(
        t5[stack][layer]['mlp']['wo']['kernel'],
        copying[stack][layer]['mlp']['wo']['kernel'],
      )


def test_copying_heads_look_at_their_neighbours():
  module, params = _initialize(initializer='copy')
  variables = {'params': params}
  relpos_bias = jax.jit(
    lambda v: module.apply(v, method=lambda m: m.encoder.relpos_bias(5, 5))
  )
  bias = relpos_bias(variables)[0]
  # Head 0 looks from position 3 to 2, head 1 to 4, head 2 nowhere above all.
  assert bias[0, 3].argmax() == 2 and bias[0, 3, 2] > 2
  assert bias[1, 3].argmax() == 4 and bias[1, 3, 4] > 2
  assert np.abs(bias[2]).max() < 2
