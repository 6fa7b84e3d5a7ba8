# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Optimizers treat layers that are stacked as they treat layers apart."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import weights

from pid_jax import model as model_lib
from pid_jax import network
from pid_jax.config import T5Config
from pid_jax.network import axes as axes_lib
from pid_jax.trainer import optimizers

MODELS = {
  'gated_untied': dict(mlp_activations=('gelu', 'linear')),
  'plain_tied': dict(mlp_activations=('relu',), logits_via_embedding=True),
}
OPTIMIZERS = {
  'adafactor': functools.partial(
    optimizers.adafactor, min_dim_size_to_factor=16, weight_decay=1e-3
  ),
  'adamw': functools.partial(optimizers.adamw, weight_decay=0.1),
  'muon': functools.partial(optimizers.muon, weight_decay=0.1),
}
NUM_LAYERS = 2


def make_config(name, scan_layers, **fields):
  return T5Config(
    vocab_size=64,
    emb_dim=16,
    num_heads=2,
    head_dim=12,
    mlp_dim=20,
    num_encoder_layers=NUM_LAYERS,
    num_decoder_layers=NUM_LAYERS,
    dropout_rate=0.0,
    scan_layers=scan_layers,
    **MODELS[name],
    **fields,
  )


@functools.cache
def start(name):
  """Parameters of layers apart, the first layer's 100 times the second's."""
  model = model_lib.EncoderDecoderModel(
    network.Transformer(make_config(name, False))
  )
  params = jax.jit(model.get_initial_variables)(jax.random.key(0))['params']
  params = jax.tree.map(np.asarray, params)
  for stack in ('encoder', 'decoder'):
    for i in range(NUM_LAYERS):
      params[stack][f'layers_{i}'] = jax.tree.map(
        lambda p, i=i: p * np.float32(100.0**-i), params[stack][f'layers_{i}']
      )
  return params


@functools.cache
def gradients(name, scan_layers):
  """Returns params -> gradients of the loss of one batch, compiled once."""
  model = model_lib.EncoderDecoderModel(
    network.Transformer(make_config(name, scan_layers))
  )
  rng = np.random.default_rng(0)
  ids = lambda *shape: rng.integers(2, 64, shape).astype(np.int32)
  batch = {
    'encoder_input_tokens': ids(4, 12),
    'decoder_input_tokens': ids(4, 6),
    'decoder_target_tokens': ids(4, 6),
  }
  grad = jax.jit(jax.grad(lambda params: model.loss_fn(params, batch, None)[0]))
  return model, grad


def train(name, scan_layers, optimizer, params, num_steps=3):
  """The network computes in float32, and the optimizer in float64.

  Muon makes all singular values of a gradient one: also those that are
  rounding errors in float32.
  """
  model, grad = gradients(name, scan_layers)
  transformation = optimizer.make(model.param_axes)
  cast = lambda dtype, tree: jax.tree.map(lambda x: np.asarray(x, dtype), tree)
  params = cast(np.float64, params)
  with jax.enable_x64(True):
    update = jax.jit(transformation.update)
    state = jax.jit(transformation.init)(params)
  for _ in range(num_steps):
    grads = cast(np.float64, grad(cast(np.float32, params)))
    with jax.enable_x64(True):
      updates, state = update(grads, state, params)
      params = jax.tree.map(np.add, params, updates)
  return params


@pytest.mark.parametrize('optimizer', OPTIMIZERS)
@pytest.mark.parametrize('name', ['gated_untied', 'plain_tied'])
def test_three_steps_of_scanned_layers_are_those_of_layers_apart(
  name, optimizer
):
  make, before = OPTIMIZERS[optimizer], start(name)
  apart = train(name, False, make(1e-2), before)
  scanned = train(name, True, make(1e-2), weights.stack_layers(before))
  expected = weights.stack_layers(apart)
  assert jax.tree.structure(scanned) == jax.tree.structure(expected)

  def check(path, got, expected, old):
    layers = [slice(None)]
    if [key.key for key in path[:2]] in (['encoder'] * 2, ['decoder'] * 2):
      layers = [(slice(None), i) for i in range(NUM_LAYERS)]
    for layer in layers:
      assert np.any(expected[layer] != old[layer]), path  # It was trained.
      scale = np.abs(expected[layer]).max()
      error = np.abs(got[layer] - expected[layer]).max()
      assert error < 1e-6 * scale, (path, error / scale)

  jax.tree_util.tree_map_with_path(
    check, scanned, expected, weights.stack_layers(before)
  )


@pytest.mark.parametrize('scan_layers', [False, True])
@pytest.mark.parametrize('optimizer', OPTIMIZERS)
def test_kernels_and_embeddings_alone_decay(optimizer, scan_layers):
  config = make_config(
    'gated_untied', scan_layers, relpos_bias_per_layer=scan_layers
  )
  module = network.Transformer(config)
  params = jax.tree.map(
    lambda p: jnp.ones(p.shape, p.dtype), axes_lib.abstract_params(module)
  )
  transformation = OPTIMIZERS[optimizer](1e-2).make(network.param_axes(module))
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates = jax.jit(
    lambda p: transformation.update(zeros, transformation.init(p), p)[0]
  )(params)
  for path, update in jax.tree_util.tree_leaves_with_path(updates):
    decays = path[-1].key in ('kernel', 'embedding')
    np.testing.assert_allclose(
      update, -1e-3 if decays else 0.0, rtol=1e-6, err_msg=str(path)
    )


def test_muon_is_for_kernels_of_layers():
  for scan_layers in (False, True):
    module = network.Transformer(make_config('gated_untied', scan_layers))
    params = axes_lib.abstract_params(module)
    transformation = optimizers.muon(1e-2).make(network.param_axes(module))
    state = jax.eval_shape(transformation.init, params)
    size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    num_kernels = sum(
      leaf.size
      for path, leaf in jax.tree_util.tree_leaves_with_path(params)
      if path[-1].key == 'kernel' and path[-2].key != 'logits_dense'
    )
    # One moment for Muon's, two for Adam's, and a few counters.
    moments = num_kernels + 2 * (size(params) - num_kernels)
    assert moments < size(state) < moments + 20


def test_moments_of_scanned_kernels_are_factored_by_layer():
  config = T5Config(vocab_size=256, scan_layers=True)
  module = network.Transformer(config)
  params = axes_lib.abstract_params(module)
  transformation = optimizers.adafactor(1e-3).make(network.param_axes(module))
  state = jax.eval_shape(transformation.init, params)
  size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
  assert size(state) < 0.01 * size(params)


@pytest.mark.t5x
@pytest.mark.filterwarnings('default')
@pytest.mark.parametrize('relpos_bias_per_layer', [False, True])
@jax.numpy_rank_promotion('allow')  # T5X relies on it.
def test_adafactor_of_scanned_layers_is_t5xs(relpos_bias_per_layer):
  from t5x import adafactor as t5x_adafactor

  # Large enough that T5X's rule by size factors what its rule by axes does.
  config = T5Config(
    vocab_size=160,
    emb_dim=130,
    num_heads=3,
    head_dim=45,
    mlp_dim=137,
    num_encoder_layers=2,
    num_decoder_layers=3,
    mlp_activations=('gelu', 'linear'),
    scan_layers=True,
    relpos_bias_per_layer=relpos_bias_per_layer,
  )
  module = network.Transformer(config)
  axes = network.param_axes(module)
  rng = np.random.default_rng(0)

  def draw(axes, leaf):
    x = rng.normal(size=leaf.shape)
    if 'layers' in axes:  # Of very different sizes.
      i = axes.index('layers')
      sizes = 100.0 ** -np.arange(leaf.shape[i])
      x *= sizes.reshape([-1 if a == 'layers' else 1 for a in axes])
    return x.astype(np.float32)

  shapes = axes_lib.abstract_params(module)
  params = axes_lib.tree_map(draw, axes, shapes)
  grads = [axes_lib.tree_map(draw, axes, shapes) for _ in range(3)]

  theirs = t5x_adafactor.Adafactor(
    1e-2,
    decay_rate=0.8,
    step_offset=0,
    logical_factor_rules=t5x_adafactor.standard_logical_factor_rules(),
  )
  theirs.set_param_axes(
    axes_lib.tree_map(lambda a, _: jax.sharding.PartitionSpec(*a), axes, shapes)
  )
  expected, state = params, theirs.init_state(params)
  apply = jax.jit(functools.partial(theirs.apply_gradient, theirs.hyper_params))
  for grad in grads:
    expected, state = apply(expected, state, grad)

  ours = optimizers.adafactor(1e-2).make(axes)
  update, got, state = jax.jit(ours.update), params, jax.jit(ours.init)(params)
  for grad in grads:
    updates, state = update(grad, state, got)
    got = optax.apply_updates(got, updates)

  def check(axes, a, b):
    dims = tuple(i for i, axis in enumerate(axes) if axis != 'layers')
    error = np.abs(a - b).max(axis=dims) / np.abs(b).max(axis=dims)
    assert np.all(error < 1e-6), (axes, error)

  axes_lib.tree_map(check, axes, got, expected)
