# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The network computes what PyTorch transformers' T5 computes."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from toys import configs
from toys import torch_reference
from toys import weights
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
@pytest.mark.parametrize('name', configs.CONFIGS)
def test_encoder_and_logits(name, scan_layers):
  config = dataclasses.replace(configs.CONFIGS[name], scan_layers=scan_layers)
  params = weights.random_params(config, seed=1, gain=1.0)
  model = torch_reference.from_params(config, params)
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

  @jax.jit
  def run(params):
    apply = functools.partial(
      module.apply, {'params': params}, enable_dropout=False
    )
    return apply(inputs, method='encode'), apply(inputs, targets)

  encoded, logits = run(params)

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
  params = weights.random_params(config, seed=2, gain=1.0)
  model = torch_reference.from_params(config, params)
  rng = np.random.default_rng(0)
  inputs = _ragged(rng, [24], 4096)
  targets = _ragged(rng, [6], 4096)
  with torch.no_grad():
    expected = model(
      input_ids=torch.tensor(inputs), decoder_input_ids=torch.tensor(targets)
    ).logits.numpy()
  logits = jax.jit(
    network.Transformer(config).apply, static_argnames='enable_dropout'
  )({'params': params}, inputs, targets, enable_dropout=False)
  np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
