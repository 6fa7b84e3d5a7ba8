# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Samplers: how the next token is chosen from logits.

A sampler is a frozen dataclass, so it is hashable and can be a static argument
of jit. `Greedy` takes the likeliest token; `Sample` draws from the distribution
that a chain of filters leaves, applied in the order given:

    Sample(Temperature(0.7), TopK(40), TopP(0.95))

All work on the logits of one position, float32 [V], where forbidden tokens are
-inf; the decoding loop maps them over sequences, with a random key for each
token.
"""

from collections.abc import Hashable
import dataclasses
import inspect
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float32, Int32, PRNGKeyArray

from pid_jax import checks
from pid_jax import errors
from pid_jax import platforms


@runtime_checkable
class Sampler(Protocol):
  """Chooses a token."""

  def __call__(
    self, logits: Float32[Array, ' V'], rng: PRNGKeyArray
  ) -> Int32[Array, '']:
    """Returns a token, int32 scalar, given float32 [V] and a random key."""


@runtime_checkable
class Filter(Protocol):
  """Changes a distribution before a token is drawn from it."""

  def __call__(self, logits: Float32[Array, ' V']) -> Float32[Array, ' V']:
    """Returns the new logits, float32 [V]; -inf is never drawn."""


@dataclasses.dataclass(frozen=True)
class Greedy:
  """Takes the likeliest token; of equal ones, that with the lowest id."""

  def __call__(
    self, logits: Float32[Array, ' V'], rng: PRNGKeyArray
  ) -> Int32[Array, '']:
    """See `Sampler`."""
    del rng
    return _argmax(logits)


GREEDY = Greedy()


def _argmax(x: Float32[Array, ' V']) -> Int32[Array, '']:
  """Returns the index of the largest element; of equal ones, the first."""
  if not platforms.current().splits_argmax:
    return jnp.argmax(x).astype(jnp.int32)
  # The block that holds it, then the position in the block.
  size = x.shape[0]
  width = max(n for n in range(1, 257) if size % n == 0)
  blocks = x.reshape(size // width, width)
  block = jnp.argmax(jnp.max(blocks, axis=1))
  index = block * width + jnp.argmax(blocks[block])
  return index.astype(jnp.int32)


@dataclasses.dataclass(frozen=True, init=False)
class Sample:
  """Draws a token from the distribution that a chain of filters leaves.

  Attributes:
    filters: applied one after another; none: the model's distribution.

  Raises:
    UserError: a filter is not a function that can be hashed.
  """

  filters: tuple[Filter, ...]

  def __init__(self, *filters: Filter):
    for f in filters:
      is_value = callable(f) and isinstance(f, Hashable)
      if not is_value or inspect.isclass(f):
        raise errors.UserError(
          'A filter of Sample must be a decoding.Filter, such as TopK(40); got '
          f'{checks.shown(f)}.'
        )
    object.__setattr__(self, 'filters', filters)

  def __call__(
    self, logits: Float32[Array, ' V'], rng: PRNGKeyArray
  ) -> Int32[Array, '']:
    """See `Sampler`."""
    for f in self.filters:
      shape, logits = logits.shape, f(logits)
      if logits.shape != shape:
        raise errors.UserError(f'{f} does not keep the shape of the logits.')
    # The Gumbel trick of jax.random.categorical, with a faster argmax.
    noise = jax.random.gumbel(rng, logits.shape, logits.dtype)
    return _argmax(logits + noise)


@dataclasses.dataclass(frozen=True)
class Temperature:
  """Divides the logits: below 1 sharpens the distribution, above 1 flattens it.

  Attributes:
    temperature: from 1e-6 to 1e6; for 0 use `Greedy`.

  Raises:
    UserError: the temperature is out of range.
  """

  temperature: float

  def __post_init__(self):
    least, most = checks.TEMPERATURES
    value = checks.number('temperature', self.temperature, 0, most)
    if value < least:
      raise errors.UserError(
        f'temperature must be at least {least}; got {self.temperature}. Greedy '
        'decoding is the sampler Greedy(), the default.'
      )
    object.__setattr__(self, 'temperature', value)

  def __call__(self, logits: Float32[Array, ' V']) -> Float32[Array, ' V']:
    """See `Filter`."""
    return logits / self.temperature


@dataclasses.dataclass(frozen=True)
class TopK:
  """Keeps the k likeliest tokens, and all as likely as the last of them.

  Attributes:
    k: from 1 to 2^20; more than there are tokens keeps all.

  Raises:
    UserError: k is no whole number, or out of range.
  """

  k: int

  def __post_init__(self):
    object.__setattr__(
      self, 'k', checks.integer('top_k', self.k, 1, checks.MOST_TOKENS)
    )

  def __call__(self, logits: Float32[Array, ' V']) -> Float32[Array, ' V']:
    """See `Filter`."""
    least = jax.lax.top_k(logits, min(self.k, logits.shape[-1]))[0][-1]
    return jnp.where(logits >= least, logits, -jnp.inf)


@dataclasses.dataclass(frozen=True)
class TopP:
  """Keeps the smallest set of likeliest tokens with total probability p.

  Nucleus sampling (arXiv 1904.09751). The token that crosses p is kept, so that
  at least one is, and all tokens as likely as the last one kept.

  Attributes:
    p: in (0, 1].

  Raises:
    UserError: p is out of range.
  """

  p: float

  def __post_init__(self):
    value = checks.number('top_p', self.p, most=1, above=0)
    object.__setattr__(self, 'p', value)

  def __call__(self, logits: Float32[Array, ' V']) -> Float32[Array, ' V']:
    """See `Filter`."""
    falling = jnp.sort(logits, descending=True)
    probabilities = jax.nn.softmax(falling)
    before = jnp.cumsum(probabilities) - probabilities
    # The likeliest is kept also where p is too small for float32.
    kept = jnp.where(before < self.p, falling, jnp.inf)
    least = jnp.min(kept, initial=falling[0])
    return jnp.where(logits >= least, logits, -jnp.inf)


def make_sampler(
  temperature: float | None = None,
  top_k: int | None = None,
  top_p: float | None = None,
) -> Sampler:
  """Returns a sampler with the usual filters, or `Greedy` without any.

  Args:
    temperature: see `Temperature`; applied first.
    top_k: see `TopK`; applied second.
    top_p: see `TopP`; applied last.

  Raises:
    UserError: a value is out of range.
  """
  filters = [
    make(value)
    for make, value in (
      (Temperature, temperature),
      (TopK, top_k),
      (TopP, top_p),
    )
    if value is not None
  ]
  return Sample(*filters) if filters else GREEDY
