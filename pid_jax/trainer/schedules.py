# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Learning rates over time.

Each function returns a schedule: a function from the step (int32, from 0) to
the learning rate of the update made in that step (float32). With `warmup_steps`
it first rises linearly, because optimizers have no memory of gradient sizes in
their first steps; `rsqrt` is constant during them. All raise UserError for a
value out of its range.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp

from pid_jax import checks
from pid_jax import errors

MAX_STEPS = 2**31 - 1  # The state counts steps in int32.


@dataclasses.dataclass(frozen=True)
class Schedule:
  """A function from step to learning rate that knows what it was made of.

  Wherever one is taken, any function from step to learning rate will do.

  Attributes:
    function: from the step to the learning rate.
    settings: 'name' and the arguments of the function that made it.
  """

  function: Callable[[jax.Array | int], jax.Array]
  settings: Mapping[str, Any]

  def __call__(self, step: jax.Array | int) -> jax.Array:
    return self.function(step)


def with_settings(
  make: Callable[..., Any], finish: Callable[[Any, Mapping[str, Any]], Any]
) -> Callable[..., Any]:
  """Lets what a function makes know the arguments that it was made with.

  Args:
    make: a function.
    finish: (what `make` returned, its 'name' and arguments) -> what to return.

  Returns:
    A function with the arguments of `make`.
  """
  signature = inspect.signature(make)

  @functools.wraps(make)
  def wrapped(*args, **kwargs):
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    made = make(*args, **kwargs)
    return finish(made, {'name': make.__name__, **bound.arguments})

  return wrapped


def _schedule(make: Callable[..., Callable[..., Any]]) -> Callable[..., Any]:
  return with_settings(make, Schedule)


@_schedule
def constant(
  learning_rate: float, warmup_steps: int = 0
) -> Callable[[jax.Array | int], jax.Array]:
  """T5's for fine-tuning: warm-up, then constant."""
  _check(learning_rate, warmup_steps)
  return lambda step: learning_rate * _warmup(step, warmup_steps)


@_schedule
def rsqrt(
  learning_rate: float = 1.0,
  warmup_steps: int = 10_000,
) -> Callable[[jax.Array | int], jax.Array]:
  """T5's for pre-training: learning_rate / sqrt(max(step, warmup_steps)).

  As T5X's `'constant * rsqrt_decay'` with base_learning_rate 1.0: flat for
  warmup_steps, at learning_rate / sqrt(warmup_steps), then falling.
  """
  _check(learning_rate, warmup_steps, least_warmup=1)
  return lambda step: (
    learning_rate
    / jnp.sqrt(jnp.maximum(jnp.asarray(step, jnp.float32), warmup_steps))
  )


@_schedule
def linear(
  learning_rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  end_factor: float = 0.0,
) -> Callable[[jax.Array | int], jax.Array]:
  """Warm-up, then linear decay to end_factor * learning_rate at total_steps."""
  _check_decay(learning_rate, total_steps, warmup_steps, end_factor)

  def schedule(step):
    left = 1.0 - _progress(step, total_steps, warmup_steps)
    decay = end_factor + (1.0 - end_factor) * left
    return learning_rate * _warmup(step, warmup_steps) * decay

  return schedule


@_schedule
def cosine(
  learning_rate: float,
  total_steps: int,
  warmup_steps: int = 0,
  end_factor: float = 0.0,
) -> Callable[[jax.Array | int], jax.Array]:
  """Warm-up, then cosine decay to end_factor * learning_rate."""
  _check_decay(learning_rate, total_steps, warmup_steps, end_factor)

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
  step = jnp.asarray(step, jnp.float32)
  return jnp.clip((step - first_step) / (total_steps - first_step), 0.0, 1.0)


def _check(
  learning_rate: float, warmup_steps: int, least_warmup: int = 0
) -> None:
  # float32 holds no number above 3e38.
  checks.number('learning_rate', learning_rate, above=0.0, most=1e30)
  checks.integer('warmup_steps', warmup_steps, least_warmup, MAX_STEPS)


def _check_decay(
  learning_rate: float, total_steps: int, warmup_steps: int, end_factor: float
) -> None:
  _check(learning_rate, warmup_steps)
  checks.integer('total_steps (TRAIN_STEPS)', total_steps, 1, MAX_STEPS)
  checks.number('end_factor', end_factor, 0.0, 1.0)
  if total_steps <= warmup_steps:
    raise errors.UserError(
      f'The schedule ends at total_steps={total_steps}, before its decay '
      f'begins at {warmup_steps}: raise TRAIN_STEPS or lower warmup_steps.'
    )
