# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of few shapes out of requests of any shape.

XLA compiles a program for every shape it meets. Lengths are therefore rounded
up to a bucket: 1, 2, 3, 4, 6, 8, 12, ... times the smallest, two for each
doubling, so that padding adds a fifth on average. Five lengths vary, and their
buckets still make many shapes: `Shapes` takes one that is known already where
that will do, and from some number on even where it is much too large.

Letters as in `grid`; K targets of a prompt and T tokens of a target.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any, Protocol

import numpy as np

# The smallest bucket of each axis.
SMALLEST_INPUT = 16
SMALLEST_PROMPT = 4
SMALLEST_TARGET = 4

Tokens = Sequence[int]
Shape = tuple[int, int, int, int, int, int]  # B, S, U, P, K, T.

# A known shape serves another batch if it costs at most so many times as much
# as that batch's own buckets.
_BEARABLE = 1.25


@dataclasses.dataclass(frozen=True)
class Request:
  """One input with its prompts, as ids.

  Attributes:
    inputs: with EOS.
    prompts: U of them, of any length; without EOS. An empty one starts from the
      start token alone.
    targets: for each prompt those to be scored, with EOS; none when generating.
    roots: for each prompt the node of `tries` that its output begins from; none
      where no output is constrained.
  """

  inputs: Tokens
  prompts: Sequence[Tokens]
  targets: Sequence[Sequence[Tokens]] = ()
  roots: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Batch:
  """Requests padded to a common shape.

  Attributes:
    request_ids: int32 [B], which request a row of the batch is; beyond the
      number of requests where the batch is padded.
    encoder_input_tokens: int32 [B, S].
    prompt_tokens: int32 [B, U, P].
    target_tokens: int32 [B, U, K, T]; K and T are 0 when generating.
    row_mask: bool [B, U], True for prompts that were asked for.
    roots: int32 [B, U], see Request; 0, which is constraints.FREE, without.
  """

  request_ids: np.ndarray
  encoder_input_tokens: np.ndarray
  prompt_tokens: np.ndarray
  target_tokens: np.ndarray
  row_mask: np.ndarray
  roots: np.ndarray

  @property
  def shape(self) -> Shape:
    """(B, S, U, P, K, T)."""
    return (
      *self.encoder_input_tokens.shape,
      *self.prompt_tokens.shape[1:],
      *self.target_tokens.shape[2:],
    )


def bucket(size: int, smallest: int = 1) -> int:
  """Rounds up to `smallest` times 1, 2, 3, 4, 6, 8, 12, 16, 24, ...; 0 is 0."""
  if size == 0:
    return 0
  power = smallest
  while power < size:
    if power * 3 // 2 >= size:
      return power * 3 // 2
    power *= 2
  return power


class Padding(Protocol):
  """Decides what a batch is padded to."""

  def fit(self, needed: Shape, batch_size: int) -> Shape:
    """Returns a shape of no less on every axis, and B at most `batch_size`."""


@dataclasses.dataclass(frozen=True)
class Exact:
  """Pads inputs to a multiple, and nothing else; for measurements.

  Attributes:
    input_multiple: of S.
  """

  input_multiple: int

  def fit(self, needed: Shape, batch_size: int) -> Shape:
    """See `Padding`."""
    del batch_size
    length = -(-needed[1] // self.input_multiple) * self.input_multiple
    return needed[:1] + (length,) + needed[2:]


class Shapes:
  """A few shapes of buckets, into which batches of any size fit.

  Attributes:
    known: all shapes so far.
    max_shapes: with so many known, a batch gets the cheapest that holds it. One
      that none of them holds still adds a shape, as large as all known ones
      together.
  """

  def __init__(self, max_shapes: int = 8, known: Iterable[Shape] = ()):
    self.max_shapes = max_shapes
    self.known = set(known)

  def within(
    self,
    batch_size: int,
    input_length: int | None = None,
    prompt_length: int | None = None,
  ) -> list[Shape]:
    """Returns the known shapes whose B, S and P are at most these."""
    limits = (batch_size, input_length, None, prompt_length)
    return [
      shape
      for shape in sorted(self.known)
      if all(
        limit is None or size <= limit
        for size, limit in zip(shape, limits, strict=False)
      )
    ]

  def fit(
    self,
    needed: Shape,
    batch_size: int,
    input_length: int | None = None,
    prompt_length: int | None = None,
  ) -> Shape:
    """See `Padding`.

    Args:
      needed: the least.
      batch_size: the largest B.
      input_length: the largest S, a bucket, or None: any.
      prompt_length: the largest P, a bucket, or None: any.

    Returns:
      One of `known`.
    """
    inputs, length, prompts, prompt, targets, target = needed
    own = (
      min(bucket(inputs), batch_size),
      bucket(length, SMALLEST_INPUT),
      bucket(prompts),
      bucket(prompt, SMALLEST_PROMPT),
      bucket(targets),
      bucket(target, SMALLEST_TARGET),
    )
    # Without prompt tokens, or without targets, it is another kind of program.
    alike = [
      shape
      for shape in self.within(batch_size, input_length, prompt_length)
      if all((x == 0) == (y == 0) for x, y in zip(shape, own, strict=True))
    ]
    large = [
      shape
      for shape in alike
      if all(x >= y for x, y in zip(shape, own, strict=True))
    ]
    best = min(large, key=_cost, default=None)
    if best is not None and (
      _cost(best) <= _BEARABLE * _cost(own)
      or len(self.known) >= self.max_shapes
    ):
      return best
    if len(self.known) >= self.max_shapes:
      own = tuple(max(sizes) for sizes in zip(own, *alike, strict=True))
    self.known.add(own)
    return own


def _cost(shape: Shape) -> int:
  """Tokens that are read: of inputs, prompts (and a start token), targets."""
  inputs, length, prompts, prompt, targets, target = shape
  return inputs * (length + prompts * (prompt + 1 + targets * target))


def batches(
  requests: Sequence[Request], batch_size: int, padding: Padding
) -> Iterator[Batch]:
  """Groups requests of like length, and pads each group.

  Args:
    requests: in any order.
    batch_size: the largest B; fewer requests make a batch of a smaller bucket.
    padding: what to pad to.

  Yields:
    Batches that hold every request once; not in order.
  """
  # Neighbours in length, then in number of prompts, waste the least padding.
  order = sorted(
    range(len(requests)),
    key=lambda i: (
      bucket(len(requests[i].inputs), SMALLEST_INPUT),
      len(requests[i].prompts),
      len(requests[i].inputs),
    ),
  )
  for start in range(0, len(order), batch_size):
    ids = order[start : start + batch_size]
    group = [requests[i] for i in ids]
    shape = padding.fit(needed_shape(group), batch_size)
    absent = len(requests) + np.arange(shape[0] - len(ids))
    yield pad(group, [*ids, *absent], shape)


def needed_shape(group: Sequence[Request]) -> Shape:
  """Returns the smallest shape that holds all of a group."""
  prompts = [prompt for request in group for prompt in request.prompts]
  choices = [own for request in group for own in request.targets]
  return (
    len(group),
    _longest(request.inputs for request in group),
    max(len(request.prompts) for request in group),
    _longest(prompts),
    max(map(len, choices), default=0),
    _longest(target for own in choices for target in own),
  )


def pad(
  group: Sequence[Request], request_ids: Sequence[int], shape: Shape
) -> Batch:
  """Makes a batch of a group.

  Args:
    group: at most B requests.
    request_ids: B numbers, also for the rows that stay empty.
    shape: of the batch, at least `needed_shape`.
  """
  size, length, width, prompt_length, most, target_length = shape
  batch = Batch(
    request_ids=np.array(request_ids, np.int32),
    encoder_input_tokens=np.zeros((size, length), np.int32),
    prompt_tokens=np.zeros((size, width, prompt_length), np.int32),
    target_tokens=np.zeros((size, width, most, target_length), np.int32),
    row_mask=np.zeros((size, width), bool),
    roots=np.zeros((size, width), np.int32),
  )
  for b, request in enumerate(group):
    batch.encoder_input_tokens[b, : len(request.inputs)] = request.inputs
    batch.row_mask[b, : len(request.prompts)] = True
    batch.roots[b, : len(request.roots)] = request.roots
    for u, prompt in enumerate(request.prompts):
      batch.prompt_tokens[b, u, : len(prompt)] = prompt
    for u, own in enumerate(request.targets):
      for k, target in enumerate(own):
        batch.target_tokens[b, u, k, : len(target)] = target
  return batch


def _longest(rows: Iterable[Tokens]) -> int:
  return max((len(tokens) for tokens in rows), default=0)


def unbatch(results: Iterable[tuple[Batch, Any]]) -> list[Any]:
  """Returns the rows of all requests in order.

  Args:
    results: pairs of a batch and a tuple of its results, numpy arrays
      [B, U, ...].

  Returns:
    For each row that was asked for, a tuple of arrays [...].
  """
  by_request = {}
  for batch, arrays in results:
    for b in np.flatnonzero(batch.row_mask.any(axis=1)):
      by_request[int(batch.request_ids[b])] = [
        tuple(x[b, u] for x in arrays)
        for u in np.flatnonzero(batch.row_mask[b])
      ]
  return [row for i in sorted(by_request) for row in by_request[i]]
