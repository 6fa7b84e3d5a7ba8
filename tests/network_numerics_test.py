# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The network computes what PyTorch transformers' T5 computes."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import torch_reference
from transformers.models.t5 import modeling_t5

from pid_jax import network
from pid_jax.config import T5Config
from pid_jax.network import layers

TOLERANCE = 1e-4


def _ragged(rng, lengths, num_tokens):
  """Returns int32 [len(lengths), max(lengths)] of random ids, padded with 0."""
  tokens = rng.integers(1, num_tokens, (len(lengths), max(lengths)))
  tokens[np.arange(max(lengths)) >= np.array(lengths)[:, None]] = 0
  return tokens.astype(np.int32)


@pytest.mark.parametrize('scan_layers', [False, True])
@pytest.mark.parametrize('name', torch_reference.CONFIGS)
def test_encoder_and_logits(name, scan_layers):
  config = dataclasses.replace(
    torch_reference.CONFIGS[name], scan_layers=scan_layers
  )
  model = torch_reference.random_model(config, seed=1)
  variables = {'params': torch_reference.params_of(model, config)}
  module = network.Transformer(config)
  rng = np.random.default_rng(0)
  # Beyond relpos_max_distance, and with padding.
  inputs = _ragged(rng, [150, 3, 61], config.num_tokens)
  targets = _ragged(rng, [40, 33, 1], config.num_tokens)
  targets[:, 0] = 0
  with torch.no_grad():
    expected = model(
      input_ids=torch.tensor(inputs),
      attention_mask=torch.tensor(inputs != 0).long(),
      decoder_input_ids=torch.tensor(targets),
      decoder_attention_mask=torch.ones(targets.shape, dtype=torch.long),
    )

  encoded = module.apply(
    variables, inputs, method='encode', enable_dropout=False
  )
  logits = jax.jit(module.apply, static_argnames='enable_dropout')(
    variables, inputs, targets, enable_dropout=False
  )

  assert logits.dtype == jnp.float32
  real = inputs != 0
  np.testing.assert_allclose(
    np.asarray(encoded)[real],
    expected.encoder_last_hidden_state.numpy()[real],
    atol=TOLERANCE,
    rtol=0,
  )
  np.testing.assert_allclose(
    logits, expected.logits.numpy(), atol=TOLERANCE, rtol=0
  )
  # The comparison means something: logits vary by more than the tolerance.
  assert np.std(np.asarray(logits)[0], axis=0).min() > 1000 * TOLERANCE


@pytest.mark.parametrize('scan_layers', [False, True])
@pytest.mark.parametrize('name', torch_reference.CONFIGS)
def test_parameters_have_the_shapes_of_init(name, scan_layers):
  config = dataclasses.replace(
    torch_reference.CONFIGS[name], scan_layers=scan_layers
  )
  module = network.Transformer(config)
  tokens = jnp.ones((1, 2), jnp.int32)
  ours = jax.eval_shape(
    lambda rng: module.init(rng, tokens, tokens, enable_dropout=False),
    jax.random.key(0),
  )['params']
  theirs = torch_reference.params_of(
    torch_reference.random_model(config, seed=1), config
  )
  assert jax.tree.map(np.shape, ours) == jax.tree.map(np.shape, theirs)


@pytest.mark.parametrize('bidirectional', [True, False])
@pytest.mark.parametrize('num_buckets, max_distance', [(32, 128), (10, 23)])
def test_relative_position_buckets(bidirectional, num_buckets, max_distance):
  distances = np.arange(-3000, 3000, dtype=np.int32)
  ours = jax.jit(layers.relative_position_bucket, static_argnums=(1, 2, 3))(
    distances, bidirectional, num_buckets, max_distance
  )
  theirs = modeling_t5.T5Attention._relative_position_bucket(
    torch.tensor(distances), bidirectional, num_buckets, max_distance
  )
  np.testing.assert_array_equal(ours, theirs.numpy())


def test_a_named_size_matches_at_real_widths():
  """T5 1.1 small's widths, with fewer layers: sums long enough to round."""
  config = T5Config(
    vocab_size=4096,
    emb_dim=512,
    num_heads=6,
    head_dim=64,
    num_encoder_layers=1,
    num_decoder_layers=1,
    mlp_dim=1024,
    mlp_activations=('gelu', 'linear'),
  )
  model = torch_reference.random_model(config, seed=2)
  with torch.no_grad():
    model.lm_head.weight.mul_(config.emb_dim**-0.5)
  params = torch_reference.params_of(model, config)
  rng = np.random.default_rng(0)
  inputs = _ragged(rng, [24], 4096)
  targets = _ragged(rng, [6], 4096)
  with torch.no_grad():
    expected = model(
      input_ids=torch.tensor(inputs), decoder_input_ids=torch.tensor(targets)
    ).logits.numpy()
  logits = network.Transformer(config).apply(
    {'params': params}, inputs, targets, enable_dropout=False
  )
  np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
