# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Prefill of packed prompts against that of padded ones.

`decoding_property_test` compares what is decoded from there with a loop without
a cache.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import configs
from toys import weights

from pid_jax import decoding
from pid_jax import network
from pid_jax.decoding import prefill
from pid_jax.decoding import tokens
from pid_jax.experiments import aot
from pid_jax.network import local_attention

_jit = functools.partial(jax.jit, static_argnums=0)
_encode = _jit(prefill.encode)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _prefill(module, params, cross, prompts, cache_length, packed_length):
  return prefill.prefill(
    module, params, cross, prompts, cache_length, packed_length
  )


def _random_prompts(rng, num_inputs, num_prompts, longest):
  """Prompts of 0 to `longest` tokens, int32 [B, U, P]."""
  shape = num_inputs, num_prompts, longest
  lengths = rng.integers(0, longest + 1, shape[:2])
  ids = rng.integers(2, 80, shape)
  is_token = np.arange(longest) < lengths[:, :, None]
  return np.where(is_token, ids, 0).astype(np.int32)


def _needed(prompts):
  """The least length that holds the prompts of each input."""
  return prompts.shape[1] + int(np.count_nonzero(prompts, axis=(1, 2)).max())


def test_prompts_are_packed_behind_start_tokens():
  prompts = np.array([[[5, 6, 7], [8, 0, 0]], [[0, 0, 0], [9, 0, 4]]], np.int32)
  packed, ids, starts, ends = tokens.pack(prompts, 7)
  np.testing.assert_array_equal(
    packed, [[0, 5, 6, 7, 0, 8, 0], [0, 0, 9, 0, 4, 0, 0]]
  )
  np.testing.assert_array_equal(
    ids, [[1, 1, 1, 1, 2, 2, 0], [1, 2, 2, 2, 2, 0, 0]]
  )
  np.testing.assert_array_equal(starts, [[0, 4], [0, 1]])
  np.testing.assert_array_equal(ends, [[3, 5], [0, 4]])


@pytest.mark.parametrize(
  'scan_layers, relpos_bias_per_layer, param_dtype, shape, block',
  [
    # One block; blocks, the last of which is padded; and short ones.
    (False, False, 'float32', (3, 4, 5), 99),
    (False, True, 'float32', (2, 9, 5), 7),
    (True, False, 'int8', (2, 9, 5), 5),
    (True, True, 'float32', (1, 6, 3), 1),
    (False, False, 'float32', (2, 5, 0), 1),
  ],
)
def test_logits_and_cache_are_those_of_padded_prompts(
  scan_layers, relpos_bias_per_layer, param_dtype, shape, block, monkeypatch
):
  monkeypatch.setattr(local_attention, '_SHORTEST', block)
  config = configs.odd(
    scan_layers=scan_layers, relpos_bias_per_layer=relpos_bias_per_layer
  )
  module = network.Transformer(config)
  params = weights.random_params(config, seed=3)
  if param_dtype != 'float32':
    params = network.quantize_params(
      params, network.param_axes(module), param_dtype
    )
  rng = np.random.default_rng(sum(shape))
  encoder = rng.integers(2, 90, (shape[0], 11)).astype(np.int32)
  encoder[0, 7:] = 0
  prompts = _random_prompts(rng, *shape)
  cross = _encode(module, params, encoder)
  cache_length = shape[2] + 4
  run = functools.partial(_prefill, module, params, cross, prompts)
  padded_logits, padded = run(cache_length, None)
  for length in (_needed(prompts), _needed(prompts) + 3):
    logits, cache = run(cache_length, length)
    np.testing.assert_allclose(logits, padded_logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(cache.mask, padded.mask)
    is_token = np.array(padded.mask)
    is_token[:, shape[2] + 1 :] = False
    blank = lambda cache, is_token=is_token: jax.tree.map(
      lambda layer: (
        np.where(is_token[:, None, None, :], layer.keys, 0),
        np.where(is_token[:, None, :, None], layer.values, 0),
      ),
      cache.layers,
      is_leaf=lambda x: isinstance(x, network.KVLayer),
    )
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
      blank(cache),
      blank(padded),
    )


def test_prompts_that_do_not_fit_are_not_answered():
  config = configs.T5_1_1
  params = weights.random_params(config, seed=1)
  module = network.Transformer(config)
  prompts = np.array([[[5, 6], [7, 8], [9, 0]]] * 2, np.int32)
  prompts[1, 1:] = 0
  cross = _encode(module, params, np.full((2, 4), 3, np.int32))
  run = functools.partial(_prefill, module, params, cross, prompts, 6)
  logits, padded = run(5)[0], run(None)[0]
  # The first input has 3 + 3 + 2 tokens, the other 3 + 1 + 1.
  fits = np.array([True, False, False, True, True, True])
  np.testing.assert_allclose(logits[fits], padded[fits], rtol=1e-5, atol=1e-5)
  assert np.all(np.isnan(logits[~fits]))


def test_scores_and_samples_are_those_of_padded_prompts():
  config = configs.odd(num_tokens=89)
  params = weights.random_params(config, seed=2, eos_gain=1.4)
  module = network.Transformer(config)
  rng = np.random.default_rng(5)
  encoder = rng.integers(2, 80, (2, 9)).astype(np.int32)
  prompts = _random_prompts(rng, 2, 6, 6)
  row_mask = rng.random((2, 6)) < 0.8
  results = []
  for length in (None, _needed(prompts)):
    sampled = _jit(
      decoding.generate,
      static_argnames=('max_new_tokens', 'sampler', 'packed_prompt_length'),
    )(
      module,
      params,
      encoder,
      prompts,
      max_new_tokens=6,
      sampler=decoding.Sample(),
      row_mask=row_mask,
      packed_prompt_length=length,
    )
    scored = _jit(decoding.score, static_argnames='packed_prompt_length')(
      module,
      params,
      encoder,
      prompts,
      sampled.tokens,
      row_mask=row_mask,
      packed_prompt_length=length,
    )
    results.append((sampled, scored))
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5),
    *results,
  )


def test_work_falls_as_tokens_do():
  """By the products in the program: the head reads a token of each prompt."""
  config = configs.tiny(emb_dim=128, mlp_dim=256, num_decoder_layers=3)
  module = network.Transformer(config)
  spec = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.int32)
  params = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype),
    weights.random_params(config, seed=0),
  )
  cross = jax.eval_shape(
    functools.partial(prefill.encode, module), params, spec(2, 64)
  )

  def flops(packed_length):
    traced = _prefill.trace(
      module, params, cross, spec(2, 30, 40), 48, packed_length
    )
    return aot.count_flops(traced.jaxpr.jaxpr)

  head = 2 * 2 * 30 * config.emb_dim * config.vocab_size
  padded = flops(None) - head
  for packed_length in (30 * 41 // 2, 30 * 41 // 4):
    share = packed_length / (30 * 41)
    assert flops(packed_length) - head < 1.1 * share * padded


def test_lengths_are_chosen_that_hold_the_prompts():
  rng = np.random.default_rng(0)
  for _ in range(50):
    prompts = _random_prompts(rng, *rng.integers(1, 9, 2), rng.integers(0, 9))
    prompts[rng.random(prompts.shape[:2]) < 0.5] = 0
    padded = prompts.shape[1] * (prompts.shape[2] + 1)
    length = prefill.choose_packed_length(prompts)
    if length is None:
      assert _needed(prompts) > 0.75 * padded
    else:
      assert _needed(prompts) <= length <= -(-3 * padded // 4)
  # Start tokens alone leave nothing to pack.
  assert prefill.choose_packed_length(np.zeros((2, 1, 0), np.int32)) is None
  # A few lengths for all prompts of a shape; 0 within a prompt is part of it.
  prompts = np.zeros((1, 2, 15), np.int32)
  prompts[0, 0, 11] = 5
  assert prefill.choose_packed_length(prompts) == 16
