# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decodes a stream of requests: each begins as soon as there is room for it.

The loop of the host around `pool`: while enough places of the pool are free,
waiting requests are admitted as a batch; else steps are taken until an input
has ended. What a request gets does not depend on what it is decoded with.

Programs are one for each shape of batch (`buckets.Shapes` keeps these few), one
that takes steps, and one that makes the empty pool. Letters as in `grid` and
`steps`.
"""

from collections.abc import Hashable
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from pid_jax.decoding import buckets
from pid_jax.decoding import pool as pool_lib
from pid_jax.decoding import steps

# Compiled once for all streams of a process. Pools are changed where they lie.
_empty = jax.jit(
  pool_lib.empty,
  static_argnums=0,
  static_argnames=('num_places', 'num_rows', 'input_length', 'prompt_length'),
)
_admit = jax.jit(pool_lib.admit, static_argnums=0, donate_argnums=2)
_advance = jax.jit(
  steps.advance,
  static_argnums=0,
  static_argnames='rows_alike',
  donate_argnums=2,
)


@dataclasses.dataclass(frozen=True)
class PoolSize:
  """How much is decoded at a time.

  Attributes:
    batch_size: B, requests that are admitted together, at most.
    num_places: G, inputs that are decoded together, at least B.
    num_rows: W; a batch is admitted when none of its inputs has more prompts
      left.
    input_length: S, of the longest input that can come.
    prompt_length: P, of the longest prompt.

  Raises:
    ValueError: numbers that cannot be.
  """

  batch_size: int
  num_places: int
  num_rows: int
  input_length: int
  prompt_length: int

  def __post_init__(self):
    if not 1 <= self.batch_size <= self.num_places or self.num_rows < 1:
      raise ValueError(
        'A pool needs a batch_size of at least 1, num_places of no less, and '
        f'num_rows of at least 1. Got {self}.'
      )


@dataclasses.dataclass
class _Open:
  """A request that has been admitted.

  Attributes:
    key: of the request.
    tokens: int32 [U, T], of its batch; rows that had not ended are not whole.
    log_probs: float32 [U].
    prompts: int32 [W], which of its prompts the rows of its place answer.
  """

  key: Hashable
  tokens: np.ndarray
  log_probs: np.ndarray
  prompts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Finished:
  """The outputs of a request.

  Attributes:
    key: of the request.
    tokens: int32 [U, T], 0 after EOS.
    log_probs: float32 [U], see `generation.Generated`.
  """

  key: Hashable
  tokens: np.ndarray
  log_probs: np.ndarray


class Stream:
  """Requests in, outputs out, in the order in which they end.

  `begin` starts some work on the device, `finish` waits for it; in between the
  host has time for the requests that come next.
  """

  def __init__(
    self,
    settings: steps.Settings,
    params: Any,
    shapes: buckets.Shapes,
    size: PoolSize,
    *,
    min_new_tokens: int = 0,
    seed: int = 0,
  ):
    """Makes an empty pool.

    Args:
      settings: of the programs.
      params: of the network.
      shapes: of batches; it learns new ones.
      size: of the pool.
      min_new_tokens: see `generation.generate`.
      seed: of the random numbers.
    """
    self._settings, self._params, self._shapes = settings, params, shapes
    self._size = size
    self._options = {'min_new_tokens': np.int32(min_new_tokens)}
    self._rng = jax.random.key(seed)
    pool_sizes = dataclasses.asdict(size)
    del pool_sizes['batch_size']
    self._pool = _empty(settings, params, **pool_sizes)
    self._waiting: list[tuple[Hashable, int, buckets.Request]] = []
    self._open: dict[int, _Open] = {}  # By place.
    self._begun: tuple[Any, ...] | None = None

  @property
  def num_waiting(self) -> int:
    """Requests that are not admitted yet."""
    return len(self._waiting)

  @property
  def is_idle(self) -> bool:
    """Whether there is nothing to do."""
    return not (self._waiting or self._open or self._begun)

  def submit(
    self, key: Hashable, stream_id: int, request: buckets.Request
  ) -> None:
    """Adds a request to those that wait.

    Args:
      key: comes back with the outputs.
      stream_id: its outputs draw from the random numbers of this and the seed.
      request: whose lengths are at most the pool's.
    """
    self._waiting.append((key, stream_id, request))

  def begin(self) -> None:
    """Starts a batch if there is room for it, else the next steps, if any."""
    assert self._begun is None, 'finish first'
    num_inputs = min(len(self._waiting), self._size.batch_size)
    num_free = self._size.num_places - len(self._open)
    if num_inputs and num_inputs <= num_free:
      keys, stream_ids, requests = zip(*self._take(num_inputs), strict=True)
      self._begun = (keys, requests, self._admit(requests, stream_ids))
    elif self._open:
      self._pool = _advance(
        self._settings,
        self._params,
        self._pool,
        rows_alike=False,
        max_open=np.int32(len(self._open) - 1),
        **self._options,
      )
      self._begun = ()

  def finish(self) -> list[Finished]:
    """Waits for what `begin` started.

    Returns:
      The requests that have ended.
    """
    begun, self._begun = self._begun, None
    if begun is None:
      return []
    return self._place(*begun) if begun else self._collect()

  def warm_up(self) -> None:
    """Compiles the programs of all known shapes before they are needed."""
    for shape in sorted(self._shapes.known):
      if shape[0] <= self._size.batch_size and shape[4] == 0:
        self._run(buckets.pad([], range(shape[0]), shape))
    self._pool = _advance(
      self._settings,
      self._params,
      self._pool,
      rows_alike=False,
      max_open=np.int32(0),
      **self._options,
    )

  def _take(self, count: int) -> list[tuple[Hashable, int, buckets.Request]]:
    """Takes the request that has waited longest, and those most like it."""
    oldest = self._waiting[0][2]

    def unlike(i: int) -> tuple[int, int, int]:
      request = self._waiting[i][2]
      length, first = (
        buckets.bucket(len(r.inputs), buckets.SMALLEST_INPUT)
        for r in (request, oldest)
      )
      prompts = len(request.prompts) - len(oldest.prompts)
      return abs(length - first), abs(prompts), i

    chosen = set(sorted(range(len(self._waiting)), key=unlike)[:count])
    taken = [x for i, x in enumerate(self._waiting) if i in chosen]
    self._waiting = [x for i, x in enumerate(self._waiting) if i not in chosen]
    return taken

  def _admit(
    self, requests: Sequence[buckets.Request], stream_ids: Sequence[int]
  ) -> pool_lib.Admitted:
    needed = buckets.needed_shape(requests)
    shape = self._shapes.fit(needed, self._size.batch_size)
    absent = [0] * (shape[0] - len(requests))
    return self._run(buckets.pad(requests, [*stream_ids, *absent], shape))

  def _run(self, batch: buckets.Batch) -> pool_lib.Admitted:
    self._pool, admitted = _admit(
      self._settings,
      self._params,
      self._pool,
      batch.encoder_input_tokens,
      batch.prompt_tokens,
      row_mask=batch.row_mask,
      rng=self._rng,
      stream_ids=batch.request_ids,
      **self._options,
    )
    return admitted

  def _place(
    self,
    keys: Sequence[Hashable],
    requests: Sequence[buckets.Request],
    admitted: pool_lib.Admitted,
  ) -> list[Finished]:
    """Notes where the requests of a batch are now; returns those that ended."""
    admitted = jax.device_get(admitted)
    finished = []
    for b, (key, request) in enumerate(zip(keys, requests, strict=True)):
      num_prompts = len(request.prompts)
      tokens = np.array(admitted.tokens[b, :num_prompts])
      log_probs = np.array(admitted.log_probs[b, :num_prompts])
      place = int(admitted.places[b])
      if place == self._size.num_places:
        finished.append(Finished(key, tokens, log_probs))
      else:
        self._open[place] = _Open(key, tokens, log_probs, admitted.prompts[b])
    return finished

  def _collect(self) -> list[Finished]:
    """Takes the requests that ended from the pool."""
    pool = self._pool
    done, tokens, log_probs = (
      x.reshape(self._size.num_places, self._size.num_rows, *x.shape[1:])
      for x in jax.device_get((pool.rows.done, pool.tokens, pool.log_probs))
    )
    ended = [place for place in self._open if done[place].all()]
    finished = []
    for place in ended:
      own = self._open.pop(place)
      # Rows that had ended before have moved, too, and are the same there.
      rows = np.flatnonzero(own.prompts < len(own.tokens))
      own.tokens[own.prompts[rows]] = tokens[place, rows]
      own.log_probs[own.prompts[rows]] = log_probs[place, rows]
      finished.append(Finished(own.key, own.tokens, own.log_probs))
    return finished
