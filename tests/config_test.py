# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests T5Config: known sizes, JSON, and what it refuses."""

import json
import math

import jax
import jax.numpy as jnp
import pytest

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import network

# Parameters of the released checkpoints in millions, embedding included.
MILLIONS = {
  't5_small': 60.5,
  't5_base': 222.9,
  't5_large': 737.7,
  't5_1_1_small': 77.0,
  't5_1_1_base': 247.6,
  't5_1_1_large': 783.2,
  't5_1_1_xl': 2849.8,
  't5_1_1_xxl': 11135.3,
  'flan_t5_base': 247.6,
  'mt5_small': 300.2,
  'mt5_base': 582.4,
  'byt5_small': 299.6,
  'byt5_base': 581.7,
}


@pytest.mark.parametrize('name', MILLIONS)
def test_named_size_has_the_published_number_of_parameters(name):
  config = config_lib.named(name, scan_layers=True)
  tokens = jax.ShapeDtypeStruct((1, 4), jnp.int32)
  module = network.Transformer(config)
  shapes = jax.eval_shape(
    lambda tokens: module.init(
      jax.random.key(0), tokens, tokens, enable_dropout=False
    )['params'],
    tokens,
  )
  count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
  assert count / 1e6 == pytest.approx(MILLIONS[name], rel=2e-3)


def test_json_round_trip():
  config = config_lib.named('flan_t5_xl', dtype='bfloat16')
  text = json.dumps(config.to_dict())
  assert config_lib.T5Config.from_dict(json.loads(text)) == config


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'dtype': 'float16'}, 'overflows in float16: use bfloat16'),
    ({'num_tokens': 200}, 'raise vocab_size'),
    ({'remat_policy': 'all'}, 'remat_policy'),
    ({'mlp_activations': ('gelu', 'liner')}, "mlp_activations.*'liner'"),
    ({'relpos_max_distance': 16}, 'must exceed half'),
  ],
)
def test_refuses_what_cannot_work(fields, words):
  with pytest.raises(errors.UserError, match=words):
    config_lib.T5Config(vocab_size=128, **fields)


def test_unknown_size_shows_the_nearest():
  with pytest.raises(errors.UserError, match='flan_t5_base'):
    config_lib.named('flan_t5_bsae')


def test_unknown_field_is_named():
  with pytest.raises(errors.UserError, match='d_model'):
    config_lib.T5Config.from_dict({'vocab_size': 128, 'd_model': 64})
