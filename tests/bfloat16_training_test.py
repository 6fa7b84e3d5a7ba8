# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Training in bfloat16 stays finite where trained T5s go, beyond float16.

The residual streams of released T5 1.1 models pass 65504, float16's largest
number: the last products of their feed-forward blocks overflow there. Random
weights are scaled here until they do.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pid_jax import config as config_lib
from pid_jax import model as model_lib
from pid_jax import network
from pid_jax.trainer import optimizers

FLOAT16_MAX = 65504
SMALL = dict(
  vocab_size=512,
  emb_dim=64,
  num_heads=4,
  head_dim=16,
  num_encoder_layers=2,
  num_decoder_layers=2,
  mlp_dim=256,
  dropout_rate=0.0,
)


def batch_of(config, rows=2, length=24):
  """Packed rows: two inputs in each, and two subtasks of each."""
  ids = np.random.default_rng(0).integers(
    2, config.num_tokens, (3, rows, length), np.int32
  )
  halves = np.repeat([1, 2], length // 2)[None].repeat(rows, axis=0)
  quarters = np.repeat([1, 2, 3, 4], length // 4)[None].repeat(rows, axis=0)
  return {
    'encoder_input_tokens': jnp.asarray(ids[0]),
    'encoder_segment_ids': jnp.asarray(halves, jnp.int32),
    'decoder_input_tokens': jnp.asarray(ids[1]),
    'decoder_target_tokens': jnp.asarray(ids[2]),
    'decoder_segment_ids': jnp.asarray(halves, jnp.int32),
    'decoder_subtask_ids': jnp.asarray(quarters, jnp.int32),
  }


def model_of(config):
  return model_lib.EncoderDecoderModel(network.Transformer(config), z_loss=1e-4)


def like_trained(params, scale=1e5):
  """Scales the last products of feed-forward blocks."""

  def one(path, leaf):
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    return leaf * scale if name.endswith('mlp/wo/kernel') else leaf

  return jax.tree_util.tree_map_with_path(one, params)


def loss_and_gradients(config, params, batch):
  """Returns the loss, and gradients as a tree."""
  loss_fn = lambda params: model_of(config).loss_fn(params, batch, None)[0]
  return jax.jit(jax.value_and_grad(loss_fn))(params)


def largest_hidden(config, params, batch):
  """The largest number in the residual stream behind the encoder's layers."""
  config = dataclasses.replace(config, scan_layers=False, remat_policy='none')
  encode = lambda params, tokens: network.Transformer(config).apply(
    {'params': params},
    tokens,
    method='encode',
    enable_dropout=False,
    capture_intermediates=True,
    mutable='intermediates',
  )
  _, state = jax.jit(encode)(params, batch['encoder_input_tokens'])
  layers = state['intermediates']['encoder']
  names = [name for name in layers if name.startswith('layers_')]
  outputs = [jnp.max(jnp.abs(layers[n]['__call__'][0][0])) for n in names]
  return float(max(outputs))


def check_finite(loss, grads):
  assert np.isfinite(loss)
  for path, grad in jax.tree_util.tree_leaves_with_path(grads):
    name = jax.tree_util.keystr(path)
    assert grad.dtype == jnp.float32, name
    assert bool(jnp.all(jnp.isfinite(grad))), name


@pytest.mark.parametrize(
  'gated', [True, pytest.param(False, marks=pytest.mark.slow)]
)
def test_loss_and_update_where_float16_overflows(gated):
  activations = ('gelu', 'linear') if gated else ('relu',)
  fields = {**SMALL, 'mlp_activations': activations}
  fields['logits_via_embedding'] = not gated
  config = config_lib.T5Config(**fields, dtype='bfloat16')
  exact = config_lib.T5Config(**fields)
  init = lambda rng: model_of(config).get_initial_variables(rng)['params']
  params = like_trained(jax.jit(init)(jax.random.key(0)))
  batch = batch_of(config)
  assert largest_hidden(exact, params, batch) > FLOAT16_MAX

  loss, grads = loss_and_gradients(config, params, batch)
  check_finite(loss, grads)
  exact_loss, exact_grads = loss_and_gradients(exact, params, batch)
  np.testing.assert_allclose(loss, exact_loss, rtol=0.02)
  flat = lambda tree: np.concatenate(
    [
      np.ravel(x) / (np.linalg.norm(y) + 1e-30)
      for x, y in zip(
        jax.tree.leaves(tree), jax.tree.leaves(exact_grads), strict=True
      )
    ]
  )
  ours, theirs = flat(grads), flat(exact_grads)
  cosine = ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs)
  assert cosine > 0.95

  axes = network.param_axes(model_of(config).module)
  optimizer = optimizers.adafactor(1e-3).make(axes)
  update = lambda grads: optimizer.update(grads, optimizer.init(params), params)
  check_finite(loss, jax.jit(update)(grads)[0])


def equations(jaxpr):
  """All equations, those of inner functions too."""
  for eqn in jaxpr.eqns:
    yield eqn
    for value in jax.tree.leaves(list(eqn.params.values())):
      inner = getattr(value, 'jaxpr', value)
      if hasattr(inner, 'eqns'):
        yield from equations(inner)


def test_float32_is_used_where_t5_needs_it():
  """Norms, softmax, position bias and logits, forward and backward."""
  fields = {**SMALL, 'mlp_activations': ('gelu', 'linear')}
  config = config_lib.T5Config(**fields, dtype='bfloat16')
  batch = batch_of(config, rows=2)
  params = jax.eval_shape(
    lambda: model_of(config).get_initial_variables(jax.random.key(0))['params']
  )
  loss_fn = lambda params: model_of(config).loss_fn(params, batch, None)[0]
  eqns = [*equations(jax.make_jaxpr(jax.grad(loss_fn))(params).jaxpr)]
  dtypes = lambda eqn: {v.aval.dtype.name for v in (*eqn.invars, *eqn.outvars)}
  by_name = {}
  for eqn in eqns:
    by_name.setdefault(eqn.primitive.name, []).append(eqn)
  # Softmax (six attentions, and the loss), and norms (12 of 2 + 2 layers).
  for name, at_least in (('exp', 7), ('rsqrt', 12), ('log', 1)):
    assert len(by_name[name]) >= at_least
    assert all(dtypes(eqn) == {'float32'} for eqn in by_name[name]), name
  products = by_name['dot_general']
  vocabulary = [e for e in products if e.outvars[0].aval.shape[-1:] == (512,)]
  assert vocabulary
  assert all(dtypes(eqn) == {'float32'} for eqn in vocabulary)
  # Logits of attention leave the product in float32: [B, H, Q, K].
  scores = [e for e in products if e.outvars[0].aval.shape == (2, 4, 24, 24)]
  scores = [e for e in scores if e.invars[0].aval.dtype == jnp.bfloat16]
  forward = [e for e in scores if e.outvars[0].aval.dtype == jnp.float32]
  assert len(forward) == 6
  # And most of the work is in bfloat16.
  narrow = [e for e in products if e.invars[0].aval.dtype == jnp.bfloat16]
  assert len(narrow) > 0.8 * len(products)


@pytest.mark.slow
@pytest.mark.parametrize(
  'size, num_layers',
  [('small', 8), ('base', 12), ('large', 24), ('xl', 3), ('xxl', 1)],
)
def test_every_size_at_its_real_widths(size, num_layers):
  """The whole of small, base and large; of XL and XXL what memory allows."""
  config = config_lib.T5Config(
    size=f't5_1_1_{size}',
    dtype='bfloat16',
    num_encoder_layers=num_layers,
    num_decoder_layers=num_layers,
    dropout_rate=0.0,
    scan_layers=True,
    remat_policy='full',
  )
  init = jax.jit(
    lambda rng: model_of(config).get_initial_variables(rng)['params']
  )
  params = like_trained(init(jax.random.key(0)))
  loss, grads = loss_and_gradients(config, params, batch_of(config, rows=1))
  check_finite(loss, grads)
  # A model that knows nothing of its targets.
  assert float(loss) > 0.5 * np.log(config.num_tokens)
