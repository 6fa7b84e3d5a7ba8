# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A stream of requests, answered one by one while others are decoded.

A request that cannot be answered says why, and disturbs no other.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
from typing import Any

from pid_jax import errors
from pid_jax.decoding import buckets
from pid_jax.decoding import streaming

# So many batches of requests are read ahead, to be grouped by length.
_BATCHES_AHEAD = 4


@dataclasses.dataclass(frozen=True)
class Request:
  """One input with its prompts.

  Attributes:
    inputs: the input.
    prompts: at least one.
    id: comes back with the answer; None: the request's number in the stream,
      from 0.
  """

  inputs: str
  prompts: Sequence[str]
  id: Any = None


@dataclasses.dataclass(frozen=True)
class Response:
  """What became of a request.

  Attributes:
    id: of the request.
    outputs: one for each prompt; none where there is an error.
    scores: for each output the natural logarithm of the probability that the
      model gives it.
    inputs_truncated: whether the input was longer than the model reads.
    error: why there are no outputs, or None.
  """

  id: Any
  outputs: list[str] = dataclasses.field(default_factory=list)
  scores: list[float] = dataclasses.field(default_factory=list)
  inputs_truncated: bool = False
  error: str | None = None


@dataclasses.dataclass(frozen=True)
class LaidOut:
  """A request as ids.

  Attributes:
    parts: what is decoded, their prompts being in order those of the request.
    is_cut: whether the input was too long.
  """

  parts: Sequence[buckets.Request]
  is_cut: bool


@dataclasses.dataclass
class _Pending:
  """A request of which not all is decoded.

  Attributes:
    response: of what is there already.
    num_missing: parts that are not.
    rows: by part, the outputs with their scores.
  """

  response: Response
  num_missing: int
  rows: dict[int, list[tuple[str, float]]] = dataclasses.field(
    default_factory=dict
  )


class Answers:
  """Iterates over the responses to an iterable of requests."""

  def __init__(
    self,
    requests: Iterable[Request | None],
    engine: streaming.Stream,
    *,
    lay_out: Callable[[Request], LaidOut],
    read: Callable[[Iterable[int]], str],
    batch_size: int,
    in_order: bool,
  ):
    """Takes the parts; reads no request yet.

    Args:
      requests: None among them means that no other is there yet: those that are
        will not be kept waiting for it.
      engine: decodes.
      lay_out: maps a request to ids; raises UserError where it cannot.
      read: maps ids to text.
      batch_size: of the engine.
      in_order: whether responses come in the order of their requests, or each
        as soon as it is there.
    """
    self._requests, self._engine = iter(requests), engine
    self._lay_out, self._read = lay_out, read
    self._num_ahead = _BATCHES_AHEAD * batch_size
    self._in_order = in_order
    self._has_more = True
    self._num_requests = self._num_parts = 0
    self._pending: dict[int, _Pending] = {}  # By number of the request.
    self._ready: dict[int, Response] = {}

  def __iter__(self) -> Iterator[Response]:
    """Yields a response for each request."""
    num_yielded = 0
    while self._has_more or not self._engine.is_idle:
      self._engine.begin()
      self._read_ahead()
      for finished in self._engine.finish():
        self._put(finished)
      while self._ready:
        number = num_yielded if self._in_order else next(iter(self._ready))
        if number not in self._ready:
          break
        yield self._ready.pop(number)
        num_yielded += 1

  def _read_ahead(self) -> None:
    """Reads requests until enough wait to be grouped by length."""
    while self._has_more and self._engine.num_waiting < self._num_ahead:
      try:
        request = next(self._requests)
      except StopIteration:
        self._has_more = False
        return
      if request is None:
        return
      self._submit(request)

  def _submit(self, request: Request) -> None:
    number = self._num_requests
    self._num_requests += 1
    name = getattr(request, 'id', None)
    name = number if name is None else name
    try:
      laid_out = self._lay_out(request)
    except errors.UserError as error:
      self._ready[number] = Response(name, error=str(error))
      return
    self._pending[number] = _Pending(
      Response(name, inputs_truncated=laid_out.is_cut), len(laid_out.parts)
    )
    for part, own in enumerate(laid_out.parts):
      self._engine.submit((number, part), self._num_parts, own)
      self._num_parts += 1

  def _put(self, finished: streaming.Finished) -> None:
    """Adds what was decoded to its response."""
    number, part = finished.key
    pending = self._pending[number]
    pending.rows[part] = [
      (self._read(tokens.tolist()), float(score))
      for tokens, score in zip(
        finished.tokens, finished.log_probs, strict=True
      )
    ]
    pending.num_missing -= 1
    if pending.num_missing == 0:
      rows = [row for i in sorted(pending.rows) for row in pending.rows[i]]
      outputs, scores = zip(*rows, strict=True)
      self._ready[number] = dataclasses.replace(
        self._pending.pop(number).response,
        outputs=list(outputs),
        scores=list(scores),
      )
