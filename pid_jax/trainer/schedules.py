# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Learning rates over time.

Each function returns a schedule: a function from the step (int32, from 0) to
the learning rate of the update made in that step (float32). With `warmup_steps`
it first rises linearly, because optimizers have no memory of gradient sizes in
their first steps; `rsqrt` is constant during them.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from pid_jax import errors

Schedule = Callable[[jax.Array | int], jax.Array]


def constant(learning_rate: float, warmup_steps: int = 0) -> Schedule:
  """T5's for fine-tuning: warm-up, then constant."""
  return lambda step: learning_rate * _warmup(step, warmup_steps)


def rsqrt(
  learning_rate: float = 1.0,
  warmup_steps: int = 10_000,
) -> Schedule:
  """T5's for pre-training: learning_rate / sqrt(max(step, warmup_steps)).

  As T5X's `'constant * rsqrt_decay'` with base_learning_rate 1.0: flat for
  warmup_steps, at learning_rate / sqrt(warmup_steps), then falling.
  """
  if warmup_steps < 1:
    raise errors.UserError(
      f'rsqrt needs warmup_steps >= 1, got {warmup_steps}.'
    )
  return lambda step: (
    learning_rate
    / jnp.sqrt(jnp.maximum(jnp.asarray(step, jnp.float32), warmup_steps))
  )


def linear(
  learning_rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  end_factor: float = 0.0,
) -> Schedule:
  """Warm-up, then linear decay to end_factor * learning_rate at total_steps."""

  def schedule(step):
    left = 1.0 - _progress(step, total_steps, warmup_steps)
    decay = end_factor + (1.0 - end_factor) * left
    return learning_rate * _warmup(step, warmup_steps) * decay

  return schedule


def cosine(
  learning_rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  end_factor: float = 0.0,
) -> Schedule:
  """Warm-up, then cosine decay to end_factor * learning_rate."""

  def schedule(step):
    done = _progress(step, total_steps, warmup_steps)
    left = 0.5 * (1.0 + jnp.cos(jnp.pi * done))
    decay = end_factor + (1.0 - end_factor) * left
    return learning_rate * _warmup(step, warmup_steps) * decay

  return schedule


def _warmup(step, warmup_steps: int) -> jax.Array:
  """From 1 / warmup_steps in the first step to 1: no step is without effect."""
  step = jnp.asarray(step, jnp.float32)
  return jnp.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))


def _progress(step, total_steps: int, first_step: int) -> jax.Array:
  """0 at first_step, 1 at total_steps."""
  if total_steps <= first_step:
    raise errors.UserError(
      f'The schedule ends at total_steps={total_steps}, before its decay '
      f'begins at {first_step}: raise TRAIN_STEPS or lower warmup_steps.'
    )
  step = jnp.asarray(step, jnp.float32)
  return jnp.clip((step - first_step) / (total_steps - first_step), 0.0, 1.0)
