# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Few shapes hold batches of any size, and the cheapest is used."""

import itertools

import numpy as np
import pytest

from pid_jax.inference import batching


def _tokens(shape):
  b, s, u, p, k, t = shape
  return b * (s + u * (p + 1 + k * t))


def _random_shapes(count, seed=0):
  rng = np.random.default_rng(seed)
  for _ in range(count):
    yield (
      int(rng.integers(1, 9)),
      int(rng.integers(1, 1025)),
      int(rng.integers(1, 33)),
      int(rng.integers(1, 65)),
      0,
      0,
    )


def test_every_shape_holds_what_it_is_for():
  shapes = batching.Shapes(max_shapes=4)
  for needed in _random_shapes(500):
    shape = shapes.fit(needed, 8)
    assert all(x >= y for x, y in zip(shape, needed, strict=True))
    assert shape in shapes.known
    assert shape[0] <= 8


@pytest.mark.parametrize('max_shapes', [1, 4, 8])
def test_the_number_of_shapes_is_bounded(max_shapes):
  shapes = batching.Shapes(max_shapes=max_shapes)
  for needed in _random_shapes(2000):
    shapes.fit(needed, 8)
  # Beyond the budget there are only ever larger ones.
  extra = sorted(shapes.known, key=_tokens)[max_shapes:]
  assert len(extra) < 12
  for smaller, larger in itertools.pairwise(extra):
    assert any(x < y for x, y in zip(smaller, larger, strict=True))
  known = set(shapes.known)
  for needed in _random_shapes(2000):
    shapes.fit(needed, 8)
  assert shapes.known == known


def test_with_the_budget_spent_the_cheapest_that_holds_it_is_chosen():
  known = {(4, 64, 8, 16, 0, 0), (8, 256, 8, 16, 0, 0), (1, 512, 32, 64, 0, 0)}
  shapes = batching.Shapes(3, known)
  for needed in _random_shapes(300, seed=1):
    large = [s for s in known if all(np.array(s) >= np.array(needed))]
    if large:
      chosen = shapes.fit(needed, 8)
      assert _tokens(chosen) == min(map(_tokens, large))
  assert shapes.known == known


def test_a_shape_that_costs_little_more_is_used_again():
  shapes = batching.Shapes(8, [(8, 128, 4, 8, 0, 0)])
  assert shapes.fit((8, 100, 4, 7, 0, 0), 8) == (8, 128, 4, 8, 0, 0)
  assert shapes.fit((8, 128, 3, 8, 0, 0), 8) == (8, 128, 4, 8, 0, 0)
  # Half as large: a program of its own pays.
  assert shapes.fit((8, 60, 2, 8, 0, 0), 8) == (8, 64, 2, 8, 0, 0)


def test_kinds_of_programs_are_kept_apart():
  with_targets = (8, 128, 4, 8, 2, 8)
  without_prompts = (8, 128, 4, 0, 0, 0)
  shapes = batching.Shapes(1, [with_targets, without_prompts])
  assert shapes.fit((2, 16, 2, 4, 0, 0), 8) == (2, 16, 2, 4, 0, 0)
  assert shapes.fit((2, 16, 2, 4, 1, 3), 8) == with_targets
  assert shapes.fit((2, 16, 2, 0, 0, 0), 8) == without_prompts


def test_limits_are_kept():
  shapes = batching.Shapes(1, [(8, 1024, 4, 64, 0, 0)])
  chosen = shapes.fit((3, 100, 2, 5, 0, 0), 4, 128, 16)
  assert chosen == (3, 128, 2, 6, 0, 0)
  assert shapes.within(4, 128, 16) == [chosen]


def test_one_giant_does_not_make_all_others_slow():
  shapes = batching.Shapes(1)
  giant = shapes.fit((1, 16, 100_000, 4, 0, 0), 8)
  small = shapes.fit((3, 16, 2, 4, 0, 0), 8)
  assert _tokens(small) < 100
  # Nor do the others make it larger in each respect.
  shapes = batching.Shapes(1, [(8, 512, 8, 64, 0, 0)])
  assert shapes.fit((1, 16, 100_000, 4, 0, 0), 8) == giant
  assert shapes.fit((4, 16, 8, 4, 0, 0), 8) == (8, 512, 8, 64, 0, 0)
