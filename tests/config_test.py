# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tests T5Config: published sizes, JSON, and what it refuses."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import pytest

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import network
from pid_jax.config import T5Config
from pid_jax.network import axes

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
  'ul2': 19459.6,
}


@pytest.mark.parametrize('name', MILLIONS)
def test_size_has_the_published_number_of_parameters(name):
  config = T5Config(size=name, scan_layers=True)
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
  assert config.num_parameters == count


@pytest.mark.parametrize('name', config_lib.SIZES)
def test_every_size_is_a_valid_config_with_an_embedding_for_tpus(name):
  config = T5Config(size=name)
  assert config.vocab_size % 128 == 0 and config.num_tokens > 0


def test_what_is_given_goes_before_the_size():
  config = T5Config(size='t5_1_1_base', num_heads=6, dtype='bfloat16')
  assert (config.num_heads, config.emb_dim) == (6, 768)
  assert (config.dtype, config.num_tokens) == ('bfloat16', 32100)
  # Of another vocabulary, the size says nothing.
  config = T5Config(size='t5_1_1_base', vocab_size=640)
  assert (config.vocab_size, config.num_tokens) == (640, 640)
  # None is as good as not given: gin files undo an override so.
  assert T5Config(size='tiny', emb_dim=None) == T5Config(size='tiny')
  # Without a size, the defaults are those of T5X's T5Config.
  config = T5Config(vocab_size=128)
  assert (config.emb_dim, config.mlp_activations) == (512, ('relu',))
  assert config.num_encoder_layers == 6 and not config.logits_via_embedding


def test_another_config_gives_its_shape_but_not_what_is_free():
  saved = T5Config(
    size='ul2', layer_norm_epsilon=1e-5, scan_layers=True, dropout_rate=0.0
  )
  config = T5Config(size=saved, dtype='bfloat16')
  assert not config.differences(saved)
  assert (config.scan_layers, config.dropout_rate) == (False, 0.1)
  assert config.differences(T5Config(size='ul2', num_tokens=7)) == {
    'layer_norm_epsilon': (1e-5, 1e-6)
  }


def test_json_round_trip():
  config = T5Config(size='flan_t5_xl', dtype='bfloat16')
  text = json.dumps(config.to_dict())
  assert T5Config.from_dict(json.loads(text)) == config
  # Written before there was such a field.
  fields = config.to_dict()
  del fields['matmul_precision']
  assert T5Config.from_dict(fields) == config
  assert dataclasses.replace(config, dtype='float32').num_heads == 32


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'dtype': 'float16'}, r"dtype .*use bfloat16.*got 'float16'"),
    ({'dtype': jnp.bfloat16}, 'dtype .*float32'),
    ({'num_tokens': 200}, 'raise vocab_size'),
    ({'remat_policy': 'all'}, 'remat_policy.*none.*minimal.*full'),
    ({'remat_policy': ['none']}, 'remat_policy.*none.*minimal.*full'),
    ({'initializer': 1}, "initializer.*'copy'.*got 1"),
    ({'mlp_activations': ('gelu', 'liner')}, "mlp_activations.*'liner'"),
    ({'mlp_activations': (['gelu'],)}, r"mlp_activations.*\['gelu'\]"),
    ({'mlp_activations': 'gelu'}, "mlp_activations .*list.*got 'gelu'"),
    ({'mlp_activations': ()}, 'mlp_activations .*at least 1'),
    ({'mlp_activations': ['relu'] * 10**6}, 'mlp_activations .*got 1000000'),
    ({'relpos_max_distance': 16}, 'relpos_max_distance.*at least 17; got 16'),
    ({'relpos_num_buckets': 3}, 'relpos_num_buckets .*at least 4.*got 3'),
    ({'vocab_size': '640'}, "vocab_size .*a whole number.*got '640'"),
    ({'vocab_size': 640.0}, r'vocab_size .*a whole number.*got 640\.0'),
    ({'vocab_size': [640]}, r'vocab_size .*a whole number.*got \[640\]'),
    ({'vocab_size': 10**8}, 'vocab_size .*at most 1,048,576'),
    ({'num_heads': 0}, 'num_heads .*at least 1.*got 0'),
    ({'num_decoder_layers': -1}, 'num_decoder_layers .*at least 1.*got -1'),
    ({'num_encoder_layers': 10**6}, 'num_encoder_layers .*at most 1,000'),
    ({'num_heads': True}, 'num_heads .*a whole number.*got True'),
    ({'emb_dim': 10**9}, 'emb_dim .*at most 1,048,576'),
    ({'emb_dim': 10**6, 'mlp_dim': 10**6}, 'parameters.*emb_dim=1000000'),
    ({'logits_via_embedding': 1}, 'logits_via_embedding .*True or False.*1'),
    ({'scan_layers': 'yes'}, "scan_layers .*True or False.*'yes'"),
    ({'dropout_rate': 1.0}, r'dropout_rate .*below 1; got 1\.0'),
    ({'dropout_rate': math.nan}, 'dropout_rate .*finite.*got nan'),
    ({'dropout_rate': None}, 'dropout_rate .*a finite number.*got None'),
    ({'layer_norm_epsilon': 0}, 'layer_norm_epsilon .*above 0.*got 0'),
    ({'layer_norm_epsilon': 10**400}, 'layer_norm_epsilon .*got 1000'),
    ({'size': 'flan_t5_bsae'}, 'flan_t5_base'),
    ({'size': 5}, 'size must be a string; got 5'),
    ({'vocab_size': None}, 'size.*or a vocab_size'),
  ],
)
def test_refuses_what_cannot_work(fields, words):
  with pytest.raises(errors.UserError, match=words) as caught:
    T5Config(**{'vocab_size': 128, **fields})
  assert '\n' not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
  'fields, words',
  [
    (None, 'configuration must be an object .*got None'),
    ([], 'must be an object'),
    ({'vocab_size': '640'}, "vocab_size .*a whole number.*got '640'"),
    ({'vocab_size': 640, 'num_heads': 0}, 'num_heads .*at least 1.*got 0'),
    ({'emb_dim': 8}, 'vocab_size'),
    ({'vocab_size': 128, 'd_model': 64}, 'd_model'),
    ({'vocab_size': 128, 'num_head': 2}, 'did you mean num_heads'),
    ({'vocab_size': 128, 'size': 'tiny'}, "unknown field.*'size'"),
  ],
)
def test_json_of_another_kind_is_one_line(fields, words):
  with pytest.raises(errors.UserError, match=words) as caught:
    T5Config.from_dict(fields)
  assert '\n' not in str(caught.value)


def test_rows_beyond_the_ids_of_a_known_size_are_padding():
  config = config_lib.T5Config(size='t5_1_1_base', vocab_size=32256)
  assert (config.vocab_size, config.num_tokens) == (32256, 32100)
  assert config_lib.T5Config(size='tiny', vocab_size=2048).num_tokens == 2048


def test_a_field_without_a_value_is_not_the_default():
  with pytest.raises(errors.UserError, match='num_heads'):
    config_lib.T5Config.from_dict({'vocab_size': 640, 'num_heads': None})


def test_the_number_of_parameters_with_a_bias_in_each_layer():
  config = T5Config(size='tiny', scan_layers=True, relpos_bias_per_layer=True)
  params = axes.abstract_params(network.Transformer(config))
  leaves = jax.tree.leaves(params)
  assert config.num_parameters == sum(math.prod(x.shape) for x in leaves)
