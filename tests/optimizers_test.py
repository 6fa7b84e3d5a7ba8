# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Optimizers and schedules against their formulas in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pid_jax import errors
from pid_jax.trainer import optimizers
from pid_jax.trainer import schedules


def rms(x):
  return np.sqrt(np.mean(np.square(x)))


def adafactor_in_numpy(param, grads, learning_rate):
  """Algorithms 4 and 8 of arXiv 1804.04235, as T5 uses them."""
  param = param.astype(np.float64)
  factored = min(param.shape) >= 128
  rows, columns = np.zeros(param.shape[0]), np.zeros(param.shape[1])
  full = np.zeros(param.shape)
  for step, grad in enumerate(grads):
    decay = 1 - (step + 1.0) ** -0.8
    squares = np.square(grad.astype(np.float64)) + 1e-30
    if factored:
      rows = decay * rows + (1 - decay) * squares.mean(axis=1)
      columns = decay * columns + (1 - decay) * squares.mean(axis=0)
      second_moment = np.outer(rows, columns) / rows.mean()
    else:
      full = decay * full + (1 - decay) * squares
      second_moment = full
    update = grad / np.sqrt(second_moment)
    update /= max(1.0, rms(update))
    param = param - learning_rate * max(1e-3, rms(param)) * update
  return param


@pytest.mark.parametrize('shape', [(128, 160), (16, 160)])
def test_adafactor(shape):
  rng = np.random.default_rng(0)
  param = rng.normal(size=shape).astype(np.float32)
  grads = rng.normal(size=(4, *shape)).astype(np.float32)
  transformation = optimizers.adafactor(0.1).make({'w': ('embed', 'mlp')})
  params = {'w': jnp.asarray(param)}
  state = jax.jit(transformation.init)(params)
  update = jax.jit(transformation.update)
  for grad in grads:
    updates, state = update({'w': grad}, state, params)
    params = optax.apply_updates(params, updates)
  expected = adafactor_in_numpy(param, grads, 0.1)
  np.testing.assert_allclose(params['w'], expected, rtol=1e-4, atol=1e-5)
  if shape[0] == 128:  # Factored: no moment is as large as the parameter.
    sizes = [leaf.size for leaf in jax.tree.leaves(state)]
    assert max(sizes) == 160


@pytest.mark.parametrize('name', ['adafactor', 'adamw', 'muon'])
def test_each_optimizer_lowers_a_loss_and_clips(name):
  axes = {'layer/kernel': ('embed', 'mlp'), 'layer/scale': ('mlp',)}
  optimizer = getattr(optimizers, name)(3e-2, max_grad_norm=1.0).make(axes)
  target = jax.random.normal(jax.random.key(0), (8, 8))
  params = {'layer': {'kernel': jnp.ones((8, 8)), 'scale': jnp.ones(8)}}

  def loss(params):
    out = params['layer']['kernel'] * params['layer']['scale'][None, :]
    return jnp.mean(jnp.square(out - target))

  @jax.jit
  def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  init = state = jax.jit(optimizer.init)(params)
  grads = jax.tree.map(jnp.ones_like, params)
  before = loss(params)
  for _ in range(100):
    params, state = step(params, state)
  assert loss(params) < 0.7 * before

  # A gradient a thousand times as large is the same after clipping.
  update = jax.jit(
    lambda scale: optimizer.update(
      jax.tree.map(lambda g: scale * g, grads), init, params
    )[0]
  )
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4),
    update(1.0),
    update(1000.0),
  )


@pytest.mark.parametrize(
  'schedule, values',
  [
    (schedules.constant(2.0), {0: 2, 1000: 2}),
    (schedules.constant(2.0, 4), {0: 0.5, 1: 1, 3: 2, 9: 2}),
    (schedules.rsqrt(1.0, 100), {0: 0.1, 100: 0.1, 400: 0.05}),
    (schedules.linear(2.0, 10), {0: 2, 5: 1, 10: 0, 20: 0}),
    (schedules.linear(2.0, 12, 2, 0.5), {0: 1, 1: 2, 7: 1.5, 12: 1}),
    (schedules.cosine(2.0, 8), {0: 2, 2: 1 + np.sqrt(0.5), 4: 1, 8: 0}),
  ],
)
def test_schedules(schedule, values):
  for step, value in values.items():
    np.testing.assert_allclose(schedule(jnp.int32(step)), value, atol=1e-6)


def test_schedule_that_cannot_be():
  with pytest.raises(errors.UserError, match='total_steps=5, before'):
    schedules.linear(1.0, 5, 10)(0)
  with pytest.raises(
    errors.UserError, match='warmup_steps must be .* at least 1 .* got 0'
  ):
    schedules.rsqrt(1.0, 0)


def test_multipliers_scale_the_updates_of_matching_parameters():
  params = {
    'encoder': {'relpos_bias': {'rel_embedding': jnp.ones((2, 4))}},
    'kernel': jnp.ones((2, 4)),
  }
  grads = jax.tree.map(lambda p: 0.3 * p, params)
  axes = {
    'encoder/relpos_bias/rel_embedding': ('heads', 'relpos_buckets'),
    'kernel': ('embed', 'mlp'),
  }
  plain = optimizers.adamw(0.1, max_grad_norm=None).make(axes)
  scaled = optimizers.adamw(
    0.1, max_grad_norm=None, multipliers={'relpos_bias': 10.0}
  ).make(axes)
  want, got = (
    jax.jit(lambda o=o: o.update(grads, o.init(params), params)[0])()
    for o in (plain, scaled)
  )
  np.testing.assert_allclose(got['kernel'], want['kernel'])
  np.testing.assert_allclose(
    got['encoder']['relpos_bias']['rel_embedding'],
    10 * want['encoder']['relpos_bias']['rel_embedding'],
    rtol=1e-6,
  )
