# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Samplers against their definitions, written out in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pid_jax import decoding


def _logits(seed, size=23, ties=False):
  logits = 3 * np.random.default_rng(seed).normal(size=size)
  if ties:
    logits = np.round(logits)
  logits[[0, size - 1]] = -np.inf  # Padding is masked before a filter.
  return logits.astype(np.float32)


def _kept(filtered):
  return set(np.flatnonzero(np.asarray(filtered) > -np.inf).tolist())


@pytest.mark.parametrize('k', [1, 2, 5, 21, 23, 100])
@pytest.mark.parametrize('seed', range(3))
def test_top_k(seed, k):
  logits = _logits(seed)
  best = sorted(range(logits.size), key=lambda i: -logits[i])[:k]
  expected = {i for i in best if logits[i] > -np.inf}
  filtered = decoding.TopK(k)(jnp.array(logits))
  assert _kept(filtered) == expected
  for i in expected:
    assert filtered[i] == logits[i]


@pytest.mark.parametrize('p', [1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize('seed', range(3))
def test_top_p(seed, p):
  logits = _logits(seed)
  probabilities = np.exp(logits.astype(np.float64))
  probabilities /= probabilities.sum()
  expected, mass = set(), 0.0
  for i in sorted(range(logits.size), key=lambda i: -logits[i]):
    if mass >= p or logits[i] == -np.inf:
      break
    expected.add(i)
    mass += probabilities[i]
  filtered = decoding.TopP(p)(jnp.array(logits))
  if p < 1:  # At 1, the last tokens may vanish in float32's rounding.
    assert _kept(filtered) == expected
  else:
    assert _kept(filtered) <= expected
    assert sum(probabilities[list(_kept(filtered))]) > 1 - 1e-5


def test_equals_are_kept_together():
  logits = jnp.array([-jnp.inf, 2.0, 1.0, 1.0, 0.0])
  assert _kept(decoding.TopK(2)(logits)) == {1, 2, 3}
  assert _kept(decoding.TopP(0.6)(logits)) == {1, 2, 3}
  assert _kept(decoding.TopP(1e-300)(logits)) == {1}  # 0 in float32.


def test_greedy_takes_the_first_of_equals():
  logits = jnp.array([-jnp.inf, 1.0, 2.0, 2.0])
  token = decoding.Greedy()(logits, jax.random.key(0))
  assert token == 2 and token.dtype == jnp.int32


def test_samples_follow_the_filtered_distribution():
  """Chi-squared at a thousand times the expected deviation would be a bug."""
  logits = _logits(1, size=8)
  sampler = decoding.Sample(
    decoding.Temperature(1.7), decoding.TopK(5), decoding.TopP(0.9)
  )
  num_draws = 4000
  keys = jax.random.split(jax.random.key(0), num_draws)
  draws = jax.vmap(sampler, (None, 0))(jnp.array(logits), keys)
  found = np.bincount(draws, minlength=8) / num_draws

  order = np.argsort(-logits)[:5]
  expected = np.zeros(8)
  expected[order] = np.exp(logits[order] / 1.7)
  expected /= expected.sum()
  kept = np.cumsum(expected[order]) - expected[order] < 0.9
  expected[order[~kept]] = 0
  expected /= expected.sum()
  assert 1 < kept.sum() < 5, 'a case where every filter matters'
  np.testing.assert_allclose(found, expected, atol=0.03)
  assert not np.any(found[expected == 0])


def test_the_order_of_filters_is_theirs():
  """A flat distribution needs more tokens to hold the same probability."""
  logits = jnp.array([3.0, 2.0, 1.0, 0.0])
  p, flat = decoding.TopP(0.8), decoding.Temperature(100.0)
  assert _kept(flat(p(logits))) == {0, 1}
  assert _kept(p(flat(logits))) == {0, 1, 2, 3}


def test_temperature_towards_zero_is_greedy():
  logits = jnp.array(_logits(4))
  sampler = decoding.Sample(decoding.Temperature(1e-4))
  for seed in range(5):
    assert sampler(logits, jax.random.key(seed)) == jnp.argmax(logits)


def test_samplers_are_values():
  """So jit compiles once for equal ones."""
  make = lambda: decoding.Sample(decoding.TopK(3), decoding.Temperature(0.5))
  assert make() == make() and hash(make()) == hash(make())
  assert make() != decoding.Sample(decoding.TopK(4))
  assert decoding.Greedy() == decoding.Greedy()
