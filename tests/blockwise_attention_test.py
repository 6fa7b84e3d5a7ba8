# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention block by block: what the matrix of all pairs gives, in less."""

import dataclasses
import re

import eight_devices
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import configs
from toys import weights
import xla_options

from pid_jax import network
from pid_jax.network import blockwise_attention
from pid_jax.network import masks
from pid_jax.network.kv_cache import KVLayer

H, D = 2, 4


def _mask(kind, rng, num_rows, num_queries, num_keys):
  ids = lambda length: jnp.asarray(
    np.sort(rng.integers(1, 4, (num_rows, length)), axis=1), jnp.int32
  )
  if kind == 'padded':
    keys = rng.integers(0, 2, (num_rows, num_keys)).astype(np.int32)
    keys[:, rng.integers(num_keys)] = 1
    return masks.Mask.of_keys(keys, num_queries)
  if kind == 'segments':
    return masks.Mask.of_same(ids(num_queries), ids(num_keys))
  if kind == 'causal':
    one = jnp.ones((1, num_queries), jnp.int32)
    return masks.Mask((one,), (one,), num_queries, causal=True)
  both = (
    ids(num_queries),
    jnp.asarray(rng.integers(0, 2, (num_rows, num_queries)), jnp.int32),
  )
  return masks.Mask(both, both, num_queries, causal=True)


def _dense(query, key_values, mask, by_distance):
  """Attention by all pairs, each bias looked up by its distance, from -M to M.

  Queries that see nothing see all, which keeps gradients finite.
  """
  num_queries, num_keys = query.shape[1], mask.num_keys
  distance = np.arange(num_keys)[None] - np.arange(num_queries)[:, None]
  most = by_distance.shape[1] // 2
  bias = by_distance[:, np.clip(distance, -most, most) + most]
  logits = jnp.einsum('bqhd,bhdk->bhqk', query, key_values.keys) + bias[None]
  seen = mask.dense()
  seen = seen | ~seen.any(axis=-1, keepdims=True)
  shares = jax.nn.softmax(jnp.where(seen, logits, -jnp.inf), axis=-1)
  return jnp.einsum('bhqk,bhkd->bqhd', shares, key_values.values)


@pytest.mark.parametrize('kind', ['padded', 'segments', 'causal', 'packed'])
@pytest.mark.parametrize('seed', range(3))
def test_outputs_and_gradients(kind, seed):
  """Over random lengths, masks and blocks that do not divide the lengths."""
  rng = np.random.default_rng(seed)
  num_rows, num_queries, num_keys, q, k = (
    int(x) for x in rng.integers([1, 2, 2, 1, 1], [4, 40, 40, 12, 12])
  )
  if kind in ('causal', 'packed'):
    num_keys = num_queries
  mask = _mask(kind, rng, num_rows, num_queries, num_keys)
  normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
  key_values = KVLayer(
    normal(num_rows, H, D, num_keys), normal(num_rows, H, num_keys, D)
  )
  query = normal(num_rows, num_queries, H, D)
  by_distance = normal(H, 2 * int(rng.integers(1, 40)) + 1)
  if kind == 'segments':  # As in cross-attention, whose blocks are not square.
    by_distance = jnp.zeros_like(by_distance)
  # What a query returns that may attend to nothing has no meaning.
  seeing = np.asarray(mask.dense()).any(axis=-1)[:, 0, :, None, None]
  weight = normal(num_rows, num_queries, H, D) * seeing

  def blockwise(query, key_values, by_distance):
    if kind == 'segments':
      return blockwise_attention.attend(
        query, key_values, mask, block_queries=q, block_keys=k
      )
    blocks = blockwise_attention.bias_blocks(
      by_distance, num_queries, num_keys, block=k
    )
    return blockwise_attention.attend(query, key_values, mask, blocks)

  def dense(query, key_values, by_distance):
    return _dense(query, key_values, mask, by_distance)

  arguments = query, key_values, by_distance
  argnums = (0, 1) if kind == 'segments' else (0, 1, 2)
  loss = lambda f: lambda *x: jnp.sum(f(*x) * weight)
  got, gradient = jax.jit(
    lambda *x: (blockwise(*x), jax.grad(loss(blockwise), argnums)(*x))
  )(*arguments)
  close = lambda x, y, atol: np.testing.assert_allclose(x, y, atol=atol, rtol=0)
  close(got * seeing, dense(*arguments) * seeing, 1e-5)
  expected = jax.grad(loss(dense), argnums)(*arguments)
  jax.tree.map(lambda x, y: close(x, y, 1e-4), gradient, expected)


def _batch(rng, config, num_rows=2, num_inputs=70, num_targets=50):
  """Packed rows of two inputs, two subtasks each, and padding."""
  segments = lambda length: np.repeat(
    [1, 2, 0], [length // 2, length // 3, 99]
  )[None, :length].repeat(num_rows, 0)
  decoder_segments = segments(num_targets)
  subtasks = decoder_segments * 2 - np.arange(num_targets) // 9 % 2
  tokens = lambda segments: np.where(
    segments, rng.integers(2, config.num_tokens, segments.shape), 0
  ).astype(np.int32)
  return {
    'encoder_input_tokens': tokens(segments(num_inputs)),
    'decoder_input_tokens': tokens(decoder_segments),
    'encoder_segment_ids': segments(num_inputs).astype(np.int32),
    'decoder_segment_ids': decoder_segments.astype(np.int32),
    'decoder_subtask_ids': np.sort(
      np.where(decoder_segments, subtasks, 99), axis=1
    ).astype(np.int32),
  }


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'scan_layers': True, 'remat_policy': 'full'},
    {'relpos_bias_per_layer': True},
    {'dropout_rate': 0.3},
  ],
  ids=str,
)
def test_the_network_does_not_notice(monkeypatch, fields):
  """Logits and all gradients, in training, dropout included."""
  config = dataclasses.replace(configs.CONFIGS['t5_1_1'], **fields)
  params = weights.random_params(config, seed=1, gain=0.5)
  batch = _batch(np.random.default_rng(0), config)
  real = batch['decoder_segment_ids'] != 0

  def loss(params):
    logits = network.Transformer(config).apply(
      {'params': params},
      **batch,
      enable_dropout='dropout_rate' in fields,
      rngs={'dropout': jax.random.key(3)},
    )
    return jnp.sum(jnp.sin(logits) * real[..., None]), logits

  run = lambda: jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
  (_, expected), expected_gradient = run()
  monkeypatch.setattr(blockwise_attention, '_MIN_LOGITS', 1)
  monkeypatch.setattr(blockwise_attention, 'BLOCK', 16)
  (_, logits), gradient = run()

  np.testing.assert_allclose(logits[real], expected[real], atol=1e-5, rtol=0)
  scale = max(np.abs(x).max() for x in jax.tree.leaves(expected_gradient))
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, atol=1e-4 * scale, rtol=0),
    gradient,
    expected_gradient,
  )


def test_a_mesh_gives_what_one_device_gives():
  """Rows over 4 devices and heads over 2; nothing of all pairs is gathered."""
  found = eight_devices.run('blockwise_attention_child.py')
  assert found['difference'] < 1e-5
  assert found['gradient_difference'] < 1e-4
  assert found['largest'] <= found['allowed']


@pytest.mark.parametrize('causal', [True, False], ids=['packed', 'cross'])
def test_blocks_that_no_query_may_see_are_skipped(causal):
  """A weight of 0 would not keep NaNs among the values out of the sums."""
  ids = jnp.repeat(jnp.array([[1, 2]], jnp.int32), 16, axis=1)
  ones = jnp.ones((1, H, 32, D))
  values = ones.at[:, :, 16:].set(jnp.nan)

  def attend(query):
    attended = blockwise_attention.attend(
      query,
      KVLayer(ones.swapaxes(2, 3), values),
      masks.Mask((ids,), (ids,), 32, causal=causal),
      blockwise_attention.bias_blocks(jnp.zeros((H, 9)), 32, 32, block=8),
    )
    return jnp.sum(attended[:, :16])

  value, gradient = jax.jit(jax.value_and_grad(attend))(ones.swapaxes(1, 2))
  assert value == 16 * H * D
  assert np.isfinite(gradient[:, :16]).all()


def test_no_array_in_training_has_two_axes_of_the_length():
  """Forward, backward and recomputed, before the compiler changes anything."""
  length = 2048
  config = dataclasses.replace(
    configs.CONFIGS['t5_1_1'], scan_layers=True, remat_policy='full'
  )
  params = weights.random_params(config, seed=1, gain=0.5)
  tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
  loss = lambda params, inputs, targets: jnp.sum(
    network.Transformer(config).apply(
      {'params': params}, inputs, targets, enable_dropout=False
    )
  )
  text = jax.jit(jax.grad(loss)).lower(params, tokens, tokens).as_text()
  shapes = [x.split('x') for x in re.findall(r'tensor<([\dx]+)x\w', text)]
  assert any(str(length) in shape for shape in shapes)
  assert max(sum(int(n) >= length for n in shape) for shape in shapes) == 1


def test_memory_grows_with_the_length():
  """By the compiler: four times the length, four times the temporaries."""
  config = dataclasses.replace(
    configs.CONFIGS['t5_1_1'], num_encoder_layers=2, num_decoder_layers=1
  )
  params = weights.random_params(config, seed=1, gain=0.5)

  def temporaries(length):
    encode = lambda params, tokens: network.Transformer(config).apply(
      {'params': params}, tokens, method='encode', enable_dropout=False
    )
    tokens = jax.ShapeDtypeStruct((1, length), jnp.int32)
    compiled = jax.jit(encode).lower(params, tokens)
    compiled = compiled.compile(xla_options.as_users())
    return compiled.memory_analysis().temp_size_in_bytes

  short, long = temporaries(4096), temporaries(16384)
  assert long < 4.5 * short
  assert long < 16384**2  # A quarter of one head's float32 logits.
