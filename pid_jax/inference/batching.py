# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches of few shapes out of requests of any shape.

XLA compiles a program for every shape it meets. Lengths are therefore rounded
up to a bucket: 1, 2, 3, 4, 6, 8, 12, ... times the smallest, two for each
doubling, so that padding adds a fifth on average. Five lengths vary, and their
buckets still make many shapes. For jobs, `planning` chooses a few; for streams
`Shapes.fit` reuses a known shape that is only a little too large, and beyond
`max_shapes` any that is large enough.

Everything here is token ids; `text` makes them of texts.

Letters: B inputs of a batch, S input tokens, U prompts of an input, P prompt
tokens, K targets of a prompt, T tokens of a target.
"""

from collections.abc import Hashable
from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
from typing import Any, Protocol

import numpy as np

from pid_jax import checks
from pid_jax import errors
from pid_jax.subtasks import prompt_in_encoder

# The smallest bucket of each axis.
SMALLEST_INPUT = 16
SMALLEST_PROMPT = 4
SMALLEST_TARGET = 4
SMALLEST_OUTPUT = 16

Tokens = Sequence[int]
# The strings that an output is one of, as ids without EOS.
TokenSequences = tuple[tuple[int, ...], ...]
Shape = tuple[int, int, int, int, int, int]  # B, S, U, P, K, T.

# A known shape serves another batch if it costs at most this factor more than
# the buckets of that batch.
_MAX_COST_RATIO = 1.25
# A shape of more tokens than this, which few jobs ever need, serves no batch
# that costs less by this factor, whatever number of shapes is known.
_MANY_TOKENS, _MAX_WASTE = 1 << 16, 4


@dataclasses.dataclass(frozen=True)
class TokenRequest:
  """One input with its prompts, as ids.

  Attributes:
    inputs: with EOS.
    prompts: U of them, of any length; without EOS. An empty one starts from the
      start token alone.
    targets: for each prompt those to be scored, with EOS; none when generating.
    choices: for each prompt the strings that its output is one of, or None; or
      empty: all outputs are free.
  """

  inputs: Tokens
  prompts: Sequence[Tokens]
  targets: Sequence[Sequence[Tokens]] = ()
  choices: Sequence[TokenSequences | None] = ()


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
    roots: int32 [B, U], where the trie of a row's choices begins; 0, which is
      `constraints.FREE`, without.
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


class Budget(Protocol):
  """Says whether batches fit into memory, see `memory.Budget`."""

  def fits(self, shape: Shape, packed_length: int | None = None) -> bool:
    """Whether a batch can run."""

  def check(self, needed: Shape, packed_length: int | None = None) -> None:
    """Raises UserError unless a batch can run."""


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


def output_length(max_new_tokens: int) -> int:
  """Returns T of the program whose outputs are cut at `max_new_tokens`."""
  return bucket(max_new_tokens, SMALLEST_OUTPUT)


class Shapes:
  """A few shapes of buckets, into which batches of any size fit.

  Attributes:
    known: all shapes so far.
    max_shapes: with this many known, a batch gets one of those that hold it.
      One that none of them holds still adds a shape, on each axis as large as
      the largest. Shapes of more than 2^16 tokens serve large batches only.
    batch_multiple: divides every B: the number of a mesh's data shards.
    input_lengths: to which inputs were padded when they were encoded.
    lost_seconds: what earlier jobs lost for want of a `planning.Option`.
  """

  def __init__(
    self,
    max_shapes: int = 8,
    known: Iterable[Shape] = (),
    batch_multiple: int = 1,
  ):
    """Takes shapes, such as those that another program needed.

    Raises:
      UserError: a value of the wrong type or out of range.
    """
    self.max_shapes = checks.integer(
      'max_shapes', max_shapes, 1, checks.MOST_INPUTS
    )
    if not isinstance(known, Iterable):
      raise errors.UserError(
        f'known must be a list of shapes; got {checks.shown(known)}.'
      )
    self.known = {_checked_shape(shape) for shape in known}
    self.batch_multiple = checks.integer(
      'batch_multiple', batch_multiple, 1, checks.MOST_INPUTS
    )
    self.input_lengths: set[int] = set()
    self.lost_seconds: dict[Hashable, float] = {}

  def buckets(self, needed: Shape, batch_size: int) -> Shape:
    """Rounds a shape up to buckets, and B to `batch_multiple`.

    Args:
      needed: the least.
      batch_size: the largest B.
    """
    inputs, length, prompts, prompt, targets, target = needed
    parts = -(-inputs // self.batch_multiple)
    return (
      min(bucket(parts) * self.batch_multiple, batch_size),
      bucket(length, SMALLEST_INPUT),
      bucket(prompts),
      bucket(prompt, SMALLEST_PROMPT),
      bucket(targets),
      bucket(target, SMALLEST_TARGET),
    )

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
    budget: Budget | None = None,
  ) -> Shape:
    """Returns a shape of no less on every axis.

    Args:
      needed: the least.
      batch_size: the largest B.
      input_length: the largest S, a bucket, or None: any.
      prompt_length: the largest P, a bucket, or None: any.
      budget: of memory, or None: any.

    Returns:
      One of `known`.
    """
    rounded = self.buckets(needed, batch_size)
    same_kind = [
      shape
      for shape in self.within(batch_size, input_length, prompt_length)
      if is_same_kind(shape, rounded) and shape[0] % self.batch_multiple == 0
    ]
    large = [
      shape
      for shape in same_kind
      if holds(shape, rounded) and not _is_wasteful(shape, rounded)
    ]
    best = min(large, key=_cost, default=None)
    if best is not None and (
      _cost(best) <= _MAX_COST_RATIO * _cost(rounded)
      or len(self.known) >= self.max_shapes
    ):
      return best
    if len(self.known) >= self.max_shapes:
      largest = tuple(
        max(sizes) for sizes in zip(rounded, *same_kind, strict=True)
      )
      if not _is_wasteful(largest, rounded) and (
        budget is None or budget.fits(largest)
      ):
        rounded = largest
    self.known.add(rounded)
    return rounded


def _checked_shape(shape: Any) -> Shape:
  sizes = shape if isinstance(shape, tuple | list) else ()
  if len(sizes) != 6:
    raise errors.UserError(
      'known must hold shapes of six sizes, (B, S, U, P, K, T); got '
      f'{checks.shown(shape)}.'
    )
  least = (1, 1, 1, 0, 0, 0)
  return tuple(
    checks.integer('a size of known', size, low, checks.MOST_TOKENS)
    for size, low in zip(sizes, least, strict=True)
  )


def _cost(shape: Shape) -> int:
  """Tokens that are read: of inputs, prompts (and a start token), targets."""
  inputs, length, prompts, prompt, targets, target = shape
  return inputs * (length + prompts * (prompt + 1 + targets * target))


def _is_wasteful(shape: Shape, rounded: Shape) -> bool:
  cost = _cost(shape)
  return cost > max(_MANY_TOKENS, _MAX_WASTE * _cost(rounded))


def is_same_kind(shape: Shape, other: Shape) -> bool:
  """Whether two shapes have the same axes: prompt tokens or none, targets."""
  return all((x == 0) == (y == 0) for x, y in zip(shape, other, strict=True))


def holds(shape: Shape, needed: Shape) -> bool:
  """Whether a batch of the needed sizes fits into a shape."""
  return all(x >= y for x, y in zip(shape, needed, strict=True))


def truncate(
  ids: Tokens,
  prompts: Sequence[Tokens],
  *,
  layout: str,
  limit: int | None,
  long_inputs: str,
  eos_id: int,
  name: str = 'the input',
) -> tuple[list[Tokens], bool]:
  """Returns what the encoder reads of an input, truncated to its length.

  Args:
    ids: of the input, without EOS.
    prompts: ids of all its prompts.
    layout: 'pid': the encoder reads the input alone; or 'pie': once after each
      prompt.
    limit: greatest length, EOS (and prompt) included; None: no limit.
    long_inputs: what to do with a longer one: 'keep_start', 'keep_end' or
      'error'.
    eos_id: ends every row.
    name: of the input, for messages.

  Returns:
    One row, or in the layout 'pie' one for each prompt; and whether the input
    was too long.

  Raises:
    UserError: it is, and `long_inputs` is 'error' or a prompt leaves it no
      room.
  """
  before = prompts if layout == 'pie' else [()]
  longest = max(map(len, before), default=0)
  needed = longest + len(ids) + 1
  is_cut = limit is not None and needed > limit
  if is_cut and (long_inputs == 'error' or longest >= limit):
    raise errors.UserError(
      f'{name} has {needed} tokens'
      f'{" with its longest prompt" if longest else ""}, and the model takes '
      f'{limit}: shorten it, raise max_input_tokens, or say by long_inputs '
      'which end to keep.'
    )
  rows = []
  for prompt in before:
    start, end = prompt_in_encoder.kept_range(
      len(ids), len(prompt), limit, long_inputs
    )
    rows.append(
      prompt_in_encoder.join(
        prompt, ids[start:end], [eos_id], concatenate=_concatenate
      )
    )
  return rows, is_cut


def _concatenate(parts: Sequence[Tokens]) -> list[int]:
  return [token for part in parts for token in part]


def make_groups(
  requests: Sequence[TokenRequest], batch_size: int
) -> list[list[int]]:
  """Groups requests of similar length.

  Args:
    requests: in any order.
    batch_size: the most requests of a group.

  Returns:
    The indices of each group's requests; the same for the same requests,
    whatever the shapes that they are padded to.

  Raises:
    UserError: batch_size is out of range.
  """
  checks.integer('batch_size', batch_size, 1, checks.MOST_INPUTS)
  # Neighbours in length, then in number of prompts, waste the least padding.
  order = sorted(
    range(len(requests)),
    key=lambda i: (
      bucket(len(requests[i].inputs), SMALLEST_INPUT),
      len(requests[i].prompts),
      len(requests[i].inputs),
    ),
  )
  return [
    order[start : start + batch_size]
    for start in range(0, len(order), batch_size)
  ]


def needed_shape(group: Sequence[TokenRequest]) -> Shape:
  """Returns the smallest shape that holds all of a group."""
  prompts = [prompt for request in group for prompt in request.prompts]
  targets = [some for request in group for some in request.targets]
  return (
    len(group),
    _longest(request.inputs for request in group),
    max(len(request.prompts) for request in group),
    _longest(prompts),
    max(map(len, targets), default=0),
    _longest(target for some in targets for target in some),
  )


def pad(
  group: Sequence[TokenRequest],
  request_ids: Sequence[int],
  shape: Shape,
  roots: Sequence[Sequence[int]] = (),
) -> Batch:
  """Makes a batch of a group.

  Args:
    group: at most B requests.
    request_ids: B numbers, also for the rows that stay empty.
    shape: of the batch, at least `needed_shape`.
    roots: for each request those of its rows, or empty.
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
    for u, prompt in enumerate(request.prompts):
      batch.prompt_tokens[b, u, : len(prompt)] = prompt
    for u, targets in enumerate(request.targets):
      for k, target in enumerate(targets):
        batch.target_tokens[b, u, k, : len(target)] = target
  for b, row_roots in enumerate(roots):
    batch.roots[b, : len(row_roots)] = row_roots
  return batch


def _longest(rows: Iterable[Tokens]) -> int:
  return max((len(tokens) for tokens in rows), default=0)
