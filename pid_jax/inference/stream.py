# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Responses to a stream of requests, decoded in slots.

Reads ahead, so that requests can be batched by length, and joins the parts of a
response. A request that cannot be answered gets a response with an `error`, and
does not affect the others: also where its fields cannot be read, or are of any
other type. If the iterable of requests raises, what it gave before is answered
first.
"""

from collections.abc import Iterable
from collections.abc import Iterator
import dataclasses
import logging

from pid_jax import checks
from pid_jax import errors
from pid_jax.inference import arguments
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import slots as slots_lib
from pid_jax.inference import text as text_lib

logger = logging.getLogger(__name__)

# Batches of requests that are read ahead, to be grouped by length.
_BATCHES_AHEAD = 4


@dataclasses.dataclass
class _Pending:
  """A request that is being decoded.

  Attributes:
    id: of the request.
    encoded: the request as ids.
    outputs: of its parts that are done, by their number.
  """

  id: object
  encoded: text_lib.EncodedRequest
  outputs: dict[int, engine_lib.Output] = dataclasses.field(
    default_factory=dict
  )


class ResponseStream:
  """Iterates over the responses to an iterable of requests."""

  def __init__(
    self,
    requests: Iterable[text_lib.Request | None],
    slots: slots_lib.Slots,
    processor: text_lib.RequestProcessor,
    *,
    in_order: bool,
    normalize_scores: bool,
  ):
    """Reads no request yet.

    Args:
      requests: None means that no further request is available yet: those read
        so far are decoded at once.
      slots: decode.
      processor: maps requests to ids, and outputs to responses.
      in_order: whether to yield responses in the order of their requests, or
        each as soon as it is complete.
      normalize_scores: see `DecodingOptions`.
    """
    self._requests, self._slots = iter(requests), slots
    self._processor = processor
    self._num_ahead = _BATCHES_AHEAD * slots.capacity.batch_size
    self._in_order, self._normalize_scores = in_order, normalize_scores
    self._has_more = True
    self._failure: Exception | None = None  # Of the iterable.
    self._num_requests = self._num_parts = 0
    self._pending: dict[int, _Pending] = {}  # By number of the request.
    self._ready: dict[int, text_lib.Response] = {}

  def __iter__(self) -> Iterator[text_lib.Response]:
    """Yields a response for each request."""
    num_yielded = 0
    while self._has_more or not self._slots.is_idle:
      self._slots.begin()
      self._read_ahead()
      for finished in self._slots.finish():
        self._put(finished)
      while self._ready:
        number = num_yielded if self._in_order else next(iter(self._ready))
        if number not in self._ready:
          break
        yield self._ready.pop(number)
        num_yielded += 1
    self._processor.tokenizer.log_counts()
    if self._failure is not None:
      raise self._failure

  def _read_ahead(self) -> None:
    """Reads requests until enough wait to be grouped by length."""
    for _ in range(self._num_ahead - self._slots.num_waiting):
      if not self._has_more:
        return
      try:
        request = next(self._requests)
      except StopIteration:
        self._has_more = False
        return
      except Exception as e:
        self._has_more, self._failure = False, e
        return
      if request is None:
        return
      self._submit(request)

  def _submit(self, request: text_lib.Request) -> None:
    number = self._num_requests
    self._num_requests += 1
    name = number
    try:
      if isinstance(request, text_lib.Request) and request.id is not None:
        name = request.id
      encoded = self._encode(request)
    except Exception as e:  # Its fields may be of any type, and raise anything.
      error = str(e)
      if not isinstance(e, errors.UserError):
        logger.warning('request %d cannot be read', number, exc_info=e)
        error = f'The request cannot be read: {checks.shown(e)}.'
      self._ready[number] = text_lib.Response(name, error=error)
      self._num_parts += 1  # So that later requests draw as they would.
      return
    self._pending[number] = _Pending(name, encoded)
    for part, tokens in enumerate(encoded.parts):
      self._slots.submit((number, part), self._num_parts, tokens)
      self._num_parts += 1

  def _encode(self, request: text_lib.Request) -> text_lib.EncodedRequest:
    """Checks a request and tokenises it.

    Raises:
      UserError: it cannot be answered.
    """
    if not isinstance(request, text_lib.Request):
      raise errors.UserError(
        'A request must be an inference.Request; got '
        f'{checks.shown(request)} ({type(request).__name__}).'
      )
    inputs, prompts, choices = arguments.request(
      request.inputs, request.prompts, request.choices
    )
    encoded = self._processor.encode(inputs, prompts, choices=choices)
    for part in encoded.parts:
      self._slots.check(part)
    return encoded

  def _put(self, finished: slots_lib.Finished) -> None:
    """Adds what was decoded to its response."""
    number, part = finished.key
    pending = self._pending[number]
    pending.outputs[part] = finished.output
    if len(pending.outputs) == len(pending.encoded.parts):
      del self._pending[number]
      self._ready[number] = self._processor.decode(
        pending.id,
        pending.encoded,
        [pending.outputs[i] for i in sorted(pending.outputs)],
        normalize_scores=self._normalize_scores,
      )
