# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Narrow weights: products by hand, bounds of errors, every way to decode."""

import argparse
import dataclasses
import functools
import json
import re
import types

from flax import traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import animals
from toys import configs
from toys import decoding_batch
from toys import weights

from pid_jax import checkpoints
from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax import network
from pid_jax import platforms
from pid_jax import predict
from pid_jax.config import T5Config
from pid_jax.decoding import prefill as prefill_lib
from pid_jax.network import quantization

NARROW = ('bfloat16', 'int8')
# Root mean square of the error of logits, over their standard deviation: about
# twice what random networks of these sizes show.
LOGIT_ERROR = {'bfloat16': 0.02, 'int8': 0.045}

_generate = jax.jit(
  decoding.generate,
  static_argnums=0,
  static_argnames=('max_new_tokens', 'prompt_lookup'),
)
_quantized_dot = jax.jit(quantization.quantized_dot, static_argnums=3)


def _cast_kernel(kernel):
  """Casts one kernel [K, N] to int8; returns it and its scale [N]."""
  params = {
    'decoder': {'logits_dense': {'kernel': jnp.asarray(kernel, jnp.float32)}}
  }
  axes = {'decoder/logits_dense/kernel': ('embed', 'vocab')}
  cast = network.quantize_params(params, axes, 'int8')
  cast = cast['decoder']['logits_dense']
  return cast['kernel'], cast['kernel_scale']


# --- Products ---


def test_int8_product_by_hand():
  kernel, scale = _cast_kernel([[1.0, -4.0, 0.0], [0.25, 2.0, 0.0]])
  np.testing.assert_array_equal(kernel, [[127, -127, 0], [32, 64, 0]])
  np.testing.assert_allclose(scale[:2], [1 / 127, 4 / 127], rtol=1e-6)
  # The row's largest number is 2: 2 -> 127, -1 -> -63.5 -> -64 (to even).
  got = _quantized_dot(jnp.array([[2.0, -1.0]]), kernel, scale, 'float32')
  row, s = 2 / 127, np.array([1, 4]) / 127
  ints = np.array([127 * 127 - 64 * 32, -127 * 127 - 64 * 64])
  np.testing.assert_allclose(got[0, :2], ints * row * s, rtol=1e-6)
  assert got.shape == (1, 3) and got[0, 2] == 0


@pytest.mark.parametrize('num_rows', [1, 3, 4, 33])
def test_int8_product_is_that_of_numpy(num_rows):
  rng = np.random.default_rng(num_rows)
  original = rng.normal(size=(300, 70)).astype(np.float32)
  original[:, 5] *= 1000  # No channel may spoil another, nor any row.
  x = rng.normal(size=(num_rows, 300)).astype(np.float32)
  x *= 10.0 ** np.arange(num_rows)[:, None].clip(max=20)
  kernel, scale = _cast_kernel(original)

  scales = np.abs(original).max(axis=0) / np.float32(127)
  ints = np.rint(original / scales).astype(np.int64)
  np.testing.assert_array_equal(kernel, ints)
  np.testing.assert_allclose(scale, scales, rtol=1e-6)
  row_scales = np.abs(x).max(axis=1, keepdims=True) / np.float32(127)
  expected = np.rint(x / row_scales).astype(np.int64) @ ints
  got = _quantized_dot(jnp.asarray(x), kernel, scale, 'float32')
  np.testing.assert_allclose(got, expected * row_scales * scales, rtol=1e-6)

  # What rounding to the next of 127 steps can cost at most.
  bound = np.abs(x) @ np.broadcast_to(scales / 2, original.shape)
  bound += row_scales / 2 * np.abs(original).sum(axis=0)
  bound += 300 * row_scales * scales / 4
  error = np.abs(got - x.astype(np.float64) @ original)
  assert np.all(error <= 1.001 * bound)
  # Errors of many terms cancel out: far less is common.
  assert np.mean(error / bound) < 0.05


@pytest.mark.parametrize('num_rows', [1, 3, 5])
def test_bfloat16_product_is_summed_in_float32(num_rows):
  # In bfloat16 the sum would stay at 256, where adding 1 changes nothing.
  kernel = jnp.ones((1025, 2), jnp.bfloat16)
  x = jnp.ones((num_rows, 1025))
  got = _quantized_dot(x, kernel, None, 'float32')
  np.testing.assert_array_equal(got, np.full((num_rows, 2), 1025.0))
  assert _quantized_dot(x, kernel, None, 'bfloat16').dtype == jnp.bfloat16


@pytest.mark.parametrize(
  'platform, result', [('cpu', 'f32'), ('cuda', 'bf16'), ('tpu', 'bf16')]
)
def test_products_in_bfloat16_return_what_is_read_next(platform, result):
  """Sums are float32 everywhere; the CPU's compiler must be told so."""
  x, kernel = jnp.ones((8, 16), jnp.bfloat16), jnp.ones((16, 4), jnp.bfloat16)
  device = types.SimpleNamespace(platform=platform)
  with platforms.scope(device):
    product = functools.partial(quantization.quantized_dot, dtype='bfloat16')
    traced = jax.jit(product).trace(x, kernel, None)
  text = traced.lower(lowering_platforms=(platform,)).as_text()
  results = re.findall(r'dot_general.*-> tensor<[\dx]*x(\w+)>', text)
  assert results == [result]


def test_rows_and_channels_of_zeros():
  kernel, scale = _cast_kernel(np.zeros((4, 2)))
  got = _quantized_dot(jnp.zeros((2, 4)), kernel, scale, 'float32')
  np.testing.assert_array_equal(got, np.zeros((2, 2)))


# --- Forms of the parameters ---


@functools.cache
def _params(name, scan_layers=False):
  config = dataclasses.replace(configs.CONFIGS[name], scan_layers=scan_layers)
  return config, weights.random_params(config, seed=1, gain=1.0)


def _quantize(config, params, param_dtype):
  axes = network.param_axes(network.Transformer(config))
  return network.quantize_params(params, axes, param_dtype)


_flat = functools.partial(traverse_util.flatten_dict, sep='/')


@pytest.mark.parametrize('scan_layers', [False, True])
@pytest.mark.parametrize('name', configs.CONFIGS)
def test_what_becomes_of_each_parameter(name, scan_layers):
  config, params = _params(name, scan_layers)
  original = _flat(params)
  int8 = _flat(_quantize(config, params, 'int8'))
  added = set()
  for path, leaf in original.items():
    got = np.asarray(int8[path], np.float32)
    if path.endswith('kernel') and not path.endswith('wo/kernel'):
      assert int8[path].dtype == jnp.int8
      added.add(f'{path}_scale')
      scale = np.asarray(int8[f'{path}_scale'])
      assert scale.dtype == np.float32
      if scan_layers and path.startswith(('encoder', 'decoder/decoder')):
        scale = scale.T  # [N, layers]: axis 1 is that of the layers.
      assert np.all(np.abs(got * scale - leaf) <= 0.501 * scale), path
    elif path.endswith(('/kernel', '/embedding')):
      assert int8[path].dtype == jnp.bfloat16
      np.testing.assert_allclose(got, leaf, rtol=2**-8)
    else:
      assert int8[path].dtype == jnp.float32
      np.testing.assert_array_equal(got, leaf)
  if config.logits_via_embedding:
    added |= {'token_embedder/kernel', 'token_embedder/kernel_scale'}
    kernel = np.asarray(int8['token_embedder/kernel'], np.float32)
    head = kernel * np.asarray(int8['token_embedder/kernel_scale'])
    error = head.T - original['token_embedder/embedding']
    assert np.abs(error).max() < 0.02
  assert set(int8) - set(original) == added

  bfloat16 = _flat(_quantize(config, params, 'bfloat16'))
  assert {leaf.dtype.name for leaf in bfloat16.values()} == {'bfloat16'}
  same = _flat(_quantize(config, params, 'float32'))
  jax.tree.map(np.testing.assert_array_equal, same, original)


def test_what_cannot_be_cast():
  config, params = _params('t5_1_1')
  with pytest.raises(errors.UserError, match="'int8'; got 'int4'"):
    _quantize(config, params, 'int4')
  with pytest.raises(errors.UserError, match='T5 overflows in float16'):
    _quantize(config, params, 'float16')
  int8 = _quantize(config, params, 'int8')
  with pytest.raises(errors.UserError, match='int8 already'):
    _quantize(config, int8, 'bfloat16')


# --- Every way to decode ---


def _batch(config):
  return decoding_batch.random_batch(config, [12, 5], [[3, 1], [2]])


@pytest.mark.parametrize(
  'name, param_dtype',
  [('t5_1_0', 'int8'), ('t5_1_1', 'bfloat16'), ('odd', 'int8')],
)
def test_logits_stay_near_and_scanned_layers_give_the_same(name, param_dtype):
  config, params = _params(name)
  _, _, encoder, grid = _batch(config)

  def prefill(config, params):
    module = network.Transformer(config)

    def run(params, encoder, grid):
      cross = prefill_lib.encode(module, params, encoder)
      return prefill_lib.prefill(module, params, cross, grid, 9)[0]

    return jax.jit(run)(params, encoder, grid)

  exact = prefill(config, params)
  got = prefill(config, _quantize(config, params, param_dtype))
  error = np.sqrt(np.mean(np.square(got - exact))) / np.std(exact)
  assert 0 < error < LOGIT_ERROR[param_dtype]
  scanned, stacked = _params(name, scan_layers=True)
  again = prefill(scanned, _quantize(scanned, stacked, param_dtype))
  np.testing.assert_allclose(again, got, atol=1e-4 * np.std(exact), rtol=0)


@pytest.mark.parametrize(
  'name, param_dtype',
  [
    ('t5_1_0', 'int8'),
    pytest.param('t5_1_1', 'bfloat16', marks=pytest.mark.slow),
  ],
)
def test_all_ways_to_decode_agree(name, param_dtype):
  config, params = _params(name)
  module = network.Transformer(config)
  params = _quantize(config, params, param_dtype)
  _, prompts, encoder, grid = _batch(config)
  greedy = _generate(module, params, encoder, grid, max_new_tokens=6)

  # One row alone (its products are padded) writes what it does in a batch.
  for b, own in enumerate(prompts):
    for u in range(len(own)):
      alone = _generate(
        module, params, encoder[b : b + 1], grid[b : b + 1, u : u + 1],
        max_new_tokens=6,
      )  # fmt: skip
      np.testing.assert_array_equal(alone.tokens[0, 0], greedy.tokens[b, u])
      # Sums in another order may round a value of int8 the other way.
      np.testing.assert_allclose(
        alone.log_probs[0, 0], greedy.log_probs[b, u], atol=0.05
      )
  drafted = _generate(
    module,
    params,
    encoder,
    grid,
    max_new_tokens=6,
    prompt_lookup=decoding.PromptLookup(),
  )
  np.testing.assert_array_equal(drafted.tokens, greedy.tokens)
  score = jax.jit(decoding.score, static_argnums=0)
  beams = jax.jit(
    functools.partial(decoding.beam_search, max_new_tokens=6, beam_size=2),
    static_argnums=0,
  )(module, params, encoder, grid, length_penalty=0.0).best()
  for found in (greedy, beams):
    scored = score(module, params, encoder, grid, found.tokens)
    np.testing.assert_allclose(scored.log_probs, found.log_probs, atol=0.05)


@pytest.mark.parametrize('name', ['t5_1_0', 't5_1_1'])
def test_kernels_are_multiplied_as_they_are_kept(name):
  """No program turns int8 kernels into anything wider."""
  config, params = _params(name)
  params = _quantize(config, params, 'int8')
  generate = jax.jit(
    functools.partial(
      decoding.generate, network.Transformer(config), max_new_tokens=2
    )
  )
  _, _, encoder, grid = _batch(config)
  text = generate.lower(params, encoder, grid).as_text()
  converted = re.findall(r'convert .*: \(tensor<([0-9x]+)xi8>\)', text)
  assert not converted
  products = re.findall(r'dot_general .*xi8>, tensor<([0-9x]+)xi8>\)', text)
  shapes = {
    'x'.join(map(str, leaf.shape))
    for leaf in jax.tree.leaves(params)
    if leaf.dtype == jnp.int8
  }
  assert shapes and set(products) == shapes


# --- A model that has learnt something ---

TOY = T5Config(
  vocab_size=32,
  emb_dim=48,
  num_heads=2,
  head_dim=24,
  num_encoder_layers=1,
  num_decoder_layers=2,
  mlp_dim=96,
  mlp_activations=('gelu', 'linear'),
  dropout_rate=0.0,
  initializer='copy',
)


def _toy_batch(rng, size):
  """Prompts are a token of the input; answers are the two that follow it."""
  ids = np.arange(2, TOY.vocab_size, dtype=np.int32)
  inputs = np.stack([rng.permutation(ids)[:12] for _ in range(size)])
  rows, place = np.arange(size), rng.integers(0, 10, size)
  end = np.ones(size, np.int32)
  targets = [inputs[rows, place + 1], inputs[rows, place + 2], end]
  return inputs, inputs[rows, place][:, None], np.stack(targets, axis=1)


@functools.cache
def _toy_params():
  """Trains for some seconds."""
  module, rng = network.Transformer(TOY), np.random.default_rng(0)
  tokens = jnp.ones((1, 4), jnp.int32)
  initialize = jax.jit(network.initialize, static_argnums=0)
  params = initialize(module, jax.random.key(0), tokens, tokens)
  params, optimizer = params['params'], optax.adam(3e-3)

  @jax.jit
  def update(params, state, inputs, prompts, targets):
    rows = jnp.concatenate([0 * prompts, prompts, targets[:, :-1]], axis=1)

    def loss(params):
      logits = module.apply(
        {'params': params}, inputs, rows, enable_dropout=False
      )
      return optax.softmax_cross_entropy_with_integer_labels(
        logits[:, 1:], targets
      ).mean()

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  state = jax.jit(optimizer.init)(params)
  for _ in range(300):
    params, state = update(params, state, *_toy_batch(rng, 32))
  return params


@pytest.mark.slow
@pytest.mark.parametrize('param_dtype', NARROW)
def test_a_trained_model_answers_as_before(param_dtype):
  inputs, prompts, targets = _toy_batch(np.random.default_rng(1), 300)
  params = _toy_params()

  def answers(params):
    return _generate(
      network.Transformer(TOY), params, inputs, prompts[:, None],
      max_new_tokens=3,
    ).tokens[:, 0]  # fmt: skip

  before = answers(params)
  after = answers(_quantize(TOY, params, param_dtype))
  right = lambda tokens: np.mean(np.all(tokens == targets, axis=-1))
  assert right(before) > 0.95  # It has learnt.
  assert np.mean(np.all(before == after, axis=-1)) >= 0.99
  assert right(after) >= right(before) - 0.01


# --- Models on disk ---

TEXTS = (['ant bee cat', 'dog eel ant bee'], [['fox'], ['ant', 'bee cat']])


@pytest.fixture(
  scope='module', params=['pid', pytest.param('pie', marks=pytest.mark.slow)]
)
def model_dir(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp('model')
  vocabulary = animals.vocabulary()
  config, params = _params('t5_1_1')
  config = dataclasses.replace(config, num_tokens=vocabulary.size)
  task = {'name': 'animals', 'layout': request.param}
  checkpoints.save(
    folder / 'model',
    checkpoints.Pretrained(config, params, vocabulary, task, 7),
  )
  return folder / 'model'


def test_from_pretrained_is_casting_what_was_trained(model_dir):
  load = inference.PromptInDecoder.from_pretrained
  narrow, exact = load(model_dir, param_dtype='int8'), load(model_dir)
  by_hand = inference.PromptInDecoder(
    exact.config,
    _quantize(exact.config, exact.engine.params, 'int8'),
    exact.vocabulary,
    exact.task,
  )
  call = lambda model: model.generate(
    *TEXTS, max_new_tokens=4, return_scores=True
  )
  assert call(narrow) == call(by_hand)
  targets = [['cat'], ['dog', 'bee']]
  scores, expected = narrow.score(*TEXTS, targets), exact.score(*TEXTS, targets)
  for own, theirs in zip(scores, expected, strict=True):
    np.testing.assert_allclose(own, theirs, atol=0.5)
  assert scores != expected
  searched = narrow.generate(*TEXTS, max_new_tokens=4, beam_size=3)
  assert [len(texts) for texts in searched] == [1, 2]


def test_the_command_takes_them(model_dir, tmp_path, capsys):
  questions, answers = tmp_path / 'questions.jsonl', tmp_path / 'answers.jsonl'
  lines = [
    {'inputs': text, 'subtasks': [{'name': p, 'prompt': p} for p in own]}
    for text, own in zip(*TEXTS, strict=True)
  ]
  questions.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  parser = argparse.ArgumentParser()
  predict.add_flags(parser)
  command = [
    f'--model_dir={model_dir}', f'--input={questions}', f'--output={answers}',
    '--max_new_tokens=4',
  ]  # fmt: skip
  with pytest.raises(SystemExit):
    parser.parse_args([*command, '--param_dtype=int9'])
  assert "'int9' (choose from" in capsys.readouterr().err
  assert not answers.exists()
  predict.main(parser.parse_args([*command, '--param_dtype=int8']))
  written = [json.loads(line) for line in answers.read_text().splitlines()]
  model = inference.PromptInDecoder.from_pretrained(
    model_dir, param_dtype='int8'
  )
  assert [
    [s['prediction'] for s in line['subtasks']] for line in written
  ] == model.generate(*TEXTS, max_new_tokens=4)
