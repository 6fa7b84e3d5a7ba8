# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of few shapes out of requests of any shape.

XLA compiles a program for every shape it meets. Lengths are therefore rounded
up to a bucket: 1, 2, 3, 4, 6, 8, 12, ... times the smallest, two for each
doubling, so that a stream of odd sizes compiles a handful of programs and
padding adds a fifth on average. Letters as in `grid`; K targets of a prompt
and T tokens of a target.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any

import numpy as np

# The smallest bucket of each axis.
SMALLEST_INPUT = 16
SMALLEST_PROMPT = 4
SMALLEST_TARGET = 4

Tokens = Sequence[int]


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
    roots: int32 [B, U], see Request; 0, which is tries.FREE, without.
  """

  request_ids: np.ndarray
  encoder_input_tokens: np.ndarray
  prompt_tokens: np.ndarray
  target_tokens: np.ndarray
  row_mask: np.ndarray
  roots: np.ndarray

  @property
  def shape(self) -> tuple[int, ...]:
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


def batches(
  requests: Sequence[Request],
  batch_size: int,
  input_multiple: int | None = None,
) -> Iterator[Batch]:
  """Groups requests of like length and pads each group to a bucket.

  Args:
    requests: in any order.
    batch_size: the largest B; fewer requests make a batch of a smaller bucket.
    input_multiple: pad inputs to a multiple of this, and all else to the
      longest, instead of to buckets; for measurements.

  Yields:
    Batches that hold every request once; not in order.
  """

  def fit(size: int, smallest: int = 1) -> int:
    return bucket(size, smallest) if input_multiple is None else size

  def fit_input(size: int) -> int:
    if input_multiple is None:
      return bucket(size, SMALLEST_INPUT)
    return -(-size // input_multiple) * input_multiple

  # Neighbours in length, then in number of prompts, waste the least padding.
  order = sorted(
    range(len(requests)),
    key=lambda i: (
      fit_input(len(requests[i].inputs)),
      len(requests[i].prompts),
      len(requests[i].inputs),
    ),
  )
  for start in range(0, len(order), batch_size):
    ids = order[start : start + batch_size]
    group = [requests[i] for i in ids]
    size = min(fit(len(group)), batch_size)
    width = fit(max(len(r.prompts) for r in group))
    prompts = [p for r in group for p in r.prompts]
    choices = [own for r in group for own in r.targets]
    most = fit(max(map(len, choices), default=0))
    targets = [target for own in choices for target in own]
    prompt_shape = (size, width, fit(_longest(prompts), SMALLEST_PROMPT))
    target_shape = (size, width, most, fit(_longest(targets), SMALLEST_TARGET))
    input_shape = (size, fit_input(_longest(r.inputs for r in group)))
    inputs = np.zeros(input_shape, np.int32)
    batch = Batch(
      request_ids=np.array(
        [*ids, *range(len(requests), len(requests) + size - len(ids))], np.int32
      ),
      encoder_input_tokens=inputs,
      prompt_tokens=np.zeros(prompt_shape, np.int32),
      target_tokens=np.zeros(target_shape, np.int32),
      row_mask=np.zeros((size, width), bool),
      roots=np.zeros((size, width), np.int32),
    )
    for b, request in enumerate(group):
      inputs[b, : len(request.inputs)] = request.inputs
      batch.row_mask[b, : len(request.prompts)] = True
      batch.roots[b, : len(request.roots)] = request.roots
      for u, prompt in enumerate(request.prompts):
        batch.prompt_tokens[b, u, : len(prompt)] = prompt
      for u, own in enumerate(request.targets):
        for k, target in enumerate(own):
          batch.target_tokens[b, u, k, : len(target)] = target
    yield batch


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
