# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A stream of requests, answered one by one while others are decoded.

A request that cannot be answered says why, and disturbs no other.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from pid_jax import errors
from pid_jax.inference import batching
from pid_jax.inference import choices as choices_lib
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import runner
from pid_jax.inference import text as texts_lib

# So many batches of requests are read ahead, to be grouped by length.
_BATCHES_AHEAD = 4
# So many lists of choices are kept as ids.
_NUM_SETS = 1024


@dataclasses.dataclass(frozen=True)
class Request:
  """One input with its prompts.

  Attributes:
    inputs: the input.
    prompts: at least one.
    choices: for each prompt None, or the strings of which its output is one;
      None: all are free.
    id: comes back with the answer; None: the request's number in the stream,
      from 0.
  """

  inputs: str
  prompts: Sequence[str]
  choices: Sequence[Sequence[str] | None] | None = None
  id: Any = None


@dataclasses.dataclass(frozen=True)
class Response:
  """What became of a request.

  Attributes:
    id: of the request.
    outputs: one for each prompt; none where there is an error.
    scores: for each output the natural logarithm of its probability.
    inputs_truncated: whether the input was longer than the model reads.
    error: why there are no outputs, or None.
  """

  id: Any
  outputs: list[str] = dataclasses.field(default_factory=list)
  scores: list[float] = dataclasses.field(default_factory=list)
  inputs_truncated: bool = False
  error: str | None = None


@dataclasses.dataclass(frozen=True)
class _LaidOut:
  """A request as ids.

  Attributes:
    parts: what is decoded, their prompts being in order those of the request.
    sets: for each part, what its outputs are chosen from.
    is_cut: whether the input was too long.
  """

  parts: Sequence[batching.Request]
  sets: Sequence[Sequence[engine_lib.Strings | None]]
  is_cut: bool


class Layout:
  """Checks requests, and maps them to ids."""

  def __init__(
    self,
    model: runner.Runner,
    max_new_tokens: int,
    max_input_tokens: int,
    max_prompt_tokens: int,
  ):
    """Takes the limits; see PromptInDecoder.stream."""
    self.model = model
    self.losses = texts_lib.UnknownCharacterCounter(model.vocabulary)
    self._limits = {
      'max_input_tokens': max_input_tokens,
      'max_prompt_tokens': max_prompt_tokens,
    }
    # Prompts that are asked again and again have the same strings each time.
    self._encode_set = functools.lru_cache(_NUM_SETS)(
      lambda strings: choices_lib.encode_set(
        strings, 'choices', model.write, model.read, max_new_tokens
      )
    )

  def __call__(self, request: Request) -> _LaidOut:
    """Returns a request as ids.

    Raises:
      UserError: it cannot be answered.
    """
    if not isinstance(request, Request):
      raise errors.UserError(
        f'A request must be an inference.Request. Got {request!r:.80}.'
      )
    parts, is_cut = self.model.lay_out_one(
      request.inputs, request.prompts, losses=self.losses, **self._limits
    )
    sets = [None] * len(request.prompts)
    if request.choices is not None:
      texts_lib.check_own_choices(
        request.prompts, request.choices, are_optional=True
      )
      sets = [
        None if own is None else self._encode_set(tuple(own))
        for own in request.choices
      ]
    own_sets = [sets] if len(parts) == 1 else [[own] for own in sets]
    return _LaidOut(parts, own_sets, is_cut)


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
    engine: engine_lib.Stream,
    layout: Layout,
    *,
    in_order: bool,
    normalize_scores: bool,
  ):
    """Takes the parts; reads no request yet.

    Args:
      requests: None among them means that no other is there yet: those that are
        will not be kept waiting for it.
      engine: decodes.
      layout: maps requests to ids.
      in_order: whether responses come in the order of their requests, or each
        as soon as it is there.
      normalize_scores: see PromptInDecoder.generate.
    """
    self._requests, self._engine = iter(requests), engine
    self._layout, self._read = layout, layout.model.read
    self._num_ahead = _BATCHES_AHEAD * engine.size.batch_size
    self._in_order, self._normalize_scores = in_order, normalize_scores
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
    self._layout.losses.warn()

  def _read_ahead(self) -> None:
    """Reads requests until enough wait to be grouped by length."""
    for _ in range(self._num_ahead - self._engine.num_waiting):
      if not self._has_more:
        return
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
      laid_out = self._layout(request)
    except errors.UserError as error:
      self._ready[number] = Response(name, error=str(error))
      self._num_parts += 1  # What others draw does not depend on it.
      return
    self._pending[number] = _Pending(
      Response(name, inputs_truncated=laid_out.is_cut), len(laid_out.parts)
    )
    parts = zip(laid_out.parts, laid_out.sets, strict=True)
    for part, (own, sets) in enumerate(parts):
      self._engine.submit((number, part), self._num_parts, own, sets)
      self._num_parts += 1

  def _put(self, finished: engine_lib.Finished) -> None:
    """Adds what was decoded to its response."""
    number, part = finished.key
    pending = self._pending[number]
    outputs = finished.outputs
    scores = outputs.log_probs
    if self._normalize_scores:
      scores = outputs.normalized_log_probs
    pending.rows[part] = [
      (self._read(tokens.tolist()), float(score))
      for tokens, score in zip(outputs.tokens, scores, strict=True)
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
