# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decodes a stream of requests: each begins as soon as there is room for it.

The loop of the host around `pool`: while enough places of the pool are free,
waiting requests are admitted as a batch; else steps are taken until an input
has ended. What a request gets does not depend on what it is decoded with.

Programs are one for each shape of batch (`batching.Shapes` keeps these few),
one that takes steps, and one that makes the empty pool. Letters as in `prefill`
and `loop`.
"""

from collections.abc import Callable
from collections.abc import Hashable
from collections.abc import Sequence
import contextlib
import dataclasses
from typing import Any

import jax
import numpy as np

from pid_jax import errors
from pid_jax.decoding import constraints as tries_lib
from pid_jax.decoding import loop
from pid_jax.decoding import slots as slots_lib
from pid_jax.inference import batching

# The strings that an output is one of, as ids.
Strings = tuple[tuple[int, ...], ...]

# A table of tries that is larger begins anew, when the pool is empty.
_MAX_NODES = 1 << 16

# Compiled once for all streams of a process. Pools are changed where they lie.
_empty = jax.jit(
  slots_lib.init,
  static_argnums=0,
  static_argnames=('num_slots', 'num_rows', 'input_length', 'prompt_length'),
)
_admit = jax.jit(slots_lib.insert, static_argnums=0, donate_argnums=2)
_advance = jax.jit(slots_lib.generate_step, static_argnums=0, donate_argnums=2)


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
    UserError: numbers that cannot be.
  """

  batch_size: int
  num_places: int
  num_rows: int
  input_length: int
  prompt_length: int

  def __post_init__(self):
    if not 1 <= self.batch_size <= self.num_places or self.num_rows < 1:
      raise errors.UserError(
        'A stream needs a batch_size of at least 1, num_places of no less, and '
        f'num_rows of at least 1. Got {self.batch_size}, {self.num_places} and '
        f'{self.num_rows}.'
      )

  @classmethod
  def rounded_up(cls, **sizes: int) -> 'PoolSize':
    """Returns a size whose lengths are buckets, as those of batches are."""
    size = cls(**sizes)
    return dataclasses.replace(
      size,
      input_length=batching.bucket(size.input_length, batching.SMALLEST_INPUT),
      prompt_length=batching.bucket(
        size.prompt_length, batching.SMALLEST_PROMPT
      ),
    )


@dataclasses.dataclass(frozen=True)
class _Waiting:
  """A request that has not been admitted; see `Stream.submit`."""

  key: Hashable
  stream_id: int
  request: batching.Request
  sets: Sequence[Strings | None]


@dataclasses.dataclass(frozen=True)
class _Open:
  """A request that has been admitted.

  Attributes:
    key: of the request.
    outputs: arrays of numpy, of [U]; of its batch: not all are whole.
    prompts: int32 [W], which of its prompts the rows of its place answer.
  """

  key: Hashable
  outputs: slots_lib.Outputs
  prompts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Finished:
  """A request that is done.

  Attributes:
    key: of the request.
    outputs: arrays of numpy, of [U].
  """

  key: Hashable
  outputs: slots_lib.Outputs


class Stream:
  """Requests in, outputs out, in the order in which they end.

  `begin` starts some work on the device, `finish` waits for it; in between the
  host has time for the requests that come next.
  """

  def __init__(
    self,
    settings: loop.Settings,
    params: Any,
    shapes: batching.Shapes,
    size: PoolSize,
    programs: set[Hashable],
    *,
    min_new_tokens: int = 0,
    seed: int = 0,
    scope: Callable[[], Any] = contextlib.nullcontext,
  ):
    """Makes an empty pool.

    Args:
      settings: of the programs.
      params: of the network.
      shapes: of batches; it learns new ones.
      size: of the pool.
      programs: what is compiled is added to it.
      min_new_tokens: see `generation.generate`.
      seed: of the random numbers.
      scope: makes the context under which programs are compiled and run, such
        as a partitioner's.
    """
    self._scope = scope
    self._settings, self._params, self._shapes = settings, params, shapes
    self.size, self._programs = size, programs
    self._options = {'min_new_tokens': np.int32(min_new_tokens)}
    self._rng = jax.random.key(seed)
    pool_sizes = dataclasses.asdict(size)
    del pool_sizes['batch_size']
    pool_sizes['num_slots'] = pool_sizes.pop('num_places')
    with scope():
      self._pool = _empty(settings, params, **pool_sizes)
    self._note('empty')
    self._tries = tries_lib.TriesBuilder()
    self._waiting: list[_Waiting] = []
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
    self,
    key: Hashable,
    stream_id: int,
    request: batching.Request,
    sets: Sequence[Strings | None] = (),
  ) -> None:
    """Adds a request to those that wait.

    Args:
      key: comes back with the outputs.
      stream_id: its outputs draw from the random numbers of this and the seed.
      request: whose lengths are at most the pool's.
      sets: for each prompt the strings of which its output is one, or None; or
        empty: all are free.
    """
    self._waiting.append(_Waiting(key, stream_id, request, sets))

  def begin(self) -> None:
    """Starts a batch if there is room for it, else the next steps, if any."""
    assert self._begun is None, 'finish first'
    num_inputs = min(len(self._waiting), self.size.batch_size)
    num_free = self.size.num_places - len(self._open)
    if self._tries.num_nodes > _MAX_NODES:
      if self._open:
        num_free = 0  # The rows that are left stand in the table.
      else:
        self._tries = tries_lib.TriesBuilder()
    if num_inputs and num_inputs <= num_free:
      group = self._take(num_inputs)
      self._begun = (group, self._admit(group))
    elif self._open:
      self._begun = (None, self._advance(max_active=len(self._open) - 1))

  def finish(self) -> list[Finished]:
    """Waits for what `begin` started.

    Returns:
      The requests that have ended.
    """
    begun, self._begun = self._begun, None
    if begun is None:
      return []
    group, results = begun
    results = jax.device_get(results)
    if group is None:
      return self._collect(*results)
    return self._place(group, results)

  def warm_up(self) -> None:
    """Compiles the programs of all known shapes before they are needed."""
    for shape in self._shapes.within(
      self.size.batch_size, self.size.input_length, self.size.prompt_length
    ):
      if shape[4] == 0 and (shape[3] == 0) == (self.size.prompt_length == 0):
        self._run(batching.pad([], range(shape[0]), shape))
    self._advance(max_active=0)

  def _advance(self, max_active: int) -> tuple[jax.Array, slots_lib.Outputs]:
    self._note('advance')
    with self._scope():
      self._pool, *results = _advance(
        self._settings,
        self._params,
        self._pool,
        max_active=np.int32(max_active),
        **self._options,
      )
    return tuple(results)

  def _take(self, count: int) -> list[_Waiting]:
    """Takes the request that has waited longest, and those most like it."""
    oldest = self._waiting[0].request

    def unlike(i: int) -> tuple[int, int, int]:
      request = self._waiting[i].request
      length, first = (
        batching.bucket(len(r.inputs), batching.SMALLEST_INPUT)
        for r in (request, oldest)
      )
      prompts = len(request.prompts) - len(oldest.prompts)
      return abs(length - first), abs(prompts), i

    chosen = set(sorted(range(len(self._waiting)), key=unlike)[:count])
    taken = [x for i, x in enumerate(self._waiting) if i in chosen]
    self._waiting = [x for i, x in enumerate(self._waiting) if i not in chosen]
    return taken

  def _admit(self, group: Sequence[_Waiting]) -> slots_lib.Inserted:
    num_nodes = self._tries.num_nodes
    requests = [
      dataclasses.replace(
        waiting.request,
        roots=[
          tries_lib.FREE if own is None else self._tries.root(own)
          for own in waiting.sets
        ],
      )
      for waiting in group
    ]
    if self._tries.num_nodes != num_nodes:
      self._pool = self._pool.replace(tries=self._tries.table())
    needed = batching.needed_shape(requests)
    shape = self._shapes.fit(
      needed,
      self.size.batch_size,
      self.size.input_length,
      self.size.prompt_length,
    )
    sequence_ids = [waiting.stream_id for waiting in group]
    sequence_ids += [0] * (shape[0] - len(group))
    return self._run(batching.pad(requests, sequence_ids, shape))

  def _note(self, kind: str, *shape: int) -> None:
    """Counts the program that is about to run."""
    table = self._pool.tries.tokens.size if self._pool.tries else 0
    self._programs.add((kind, self._settings, self.size, table, shape))

  def _run(self, batch: batching.Batch) -> slots_lib.Inserted:
    self._note('admit', *batch.shape)
    with self._scope():
      self._pool, admitted = _admit(
        self._settings,
        self._params,
        self._pool,
        batch.encoder_input_tokens,
        batch.prompt_tokens,
        row_mask=batch.row_mask,
        rng=self._rng,
        sequence_ids=batch.request_ids,
        roots=batch.roots,
        **self._options,
      )
    return admitted

  def _place(
    self, group: Sequence[_Waiting], admitted: slots_lib.Inserted
  ) -> list[Finished]:
    """Notes where the requests of a batch are now; returns those that ended."""
    finished = []
    for b, waiting in enumerate(group):
      num_prompts = len(waiting.request.prompts)
      outputs = jax.tree.map(
        lambda x, b=b, n=num_prompts: np.array(x[b, :n]), admitted.outputs
      )
      place = int(admitted.slots[b])
      if place == self.size.num_places:
        finished.append(Finished(waiting.key, outputs))
      else:
        self._open[place] = _Open(waiting.key, outputs, admitted.prompts[b])
    return finished

  def _collect(
    self, has_ended: np.ndarray, outputs: slots_lib.Outputs
  ) -> list[Finished]:
    """Takes the requests that ended from the pool."""
    finished = []
    for place in [place for place in self._open if has_ended[place]]:
      own = self._open.pop(place)
      # Rows that had ended before have moved, too, and are the same there.
      rows = np.flatnonzero(own.prompts < len(own.outputs.tokens))

      def put(into, new, place=place, rows=rows, prompts=own.prompts[rows]):
        into[prompts] = new[place, rows]

      jax.tree.map(put, own.outputs, outputs)
      finished.append(Finished(own.key, own.outputs))
    return finished
