# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Continuous batching: requests are decoded as soon as slots are free.

The host's loop around `decoding.slots` (continuous batching): while enough
slots are free, waiting requests are inserted as a batch; else steps are taken
until an input has ended. The output of a request does not depend on the others.

Programs are one for each shape of batch (`batching.Shapes` keeps these few),
one that takes steps, and one that makes the empty slots. Letters as in
`batching`; G slots of W rows.
"""

from collections.abc import Hashable
from collections.abc import Sequence
import dataclasses
from typing import Any

import jax
import numpy as np

from pid_jax import checks
from pid_jax import errors
from pid_jax.decoding import constraints
from pid_jax.decoding import loop
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import memory
from pid_jax.inference import options as options_lib
from pid_jax.inference import programs as programs_lib

# What users call the lengths.
_NAMES = {
  'input_length': 'max_input_tokens',
  'prompt_length': 'max_prompt_tokens',
}
# A larger table of tries is emptied when no slot is in use.
_MAX_NODES = 1 << 16


@dataclasses.dataclass(frozen=True)
class Capacity:
  """Sizes of the slots.

  Attributes:
    batch_size: B, requests that are inserted together, at most.
    num_slots: G, inputs that are decoded together, at least B.
    num_rows: W; a batch moves to slots when none of its inputs has more prompts
      left.
    input_length: S, of the longest input.
    prompt_length: P, of the longest prompt.

  Raises:
    UserError: a size is out of range.
  """

  batch_size: int
  num_slots: int
  num_rows: int
  input_length: int
  prompt_length: int

  def __post_init__(self):
    least = {'input_length': 1, 'prompt_length': 0}
    for field in dataclasses.fields(self):
      value = checks.integer(
        _NAMES.get(field.name, field.name),
        getattr(self, field.name),
        least.get(field.name, 1),
        checks.MOST_TOKENS,
      )
      object.__setattr__(self, field.name, value)
    if self.batch_size > self.num_slots:
      raise errors.UserError(
        f'num_slots must be at least batch_size, {self.batch_size}; got '
        f'{self.num_slots}.'
      )

  @classmethod
  def rounded_up(cls, **sizes: int) -> 'Capacity':
    """Returns sizes whose lengths are rounded up to buckets."""
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
  """A request that has not been inserted; see `Slots.submit`."""

  key: Hashable
  sequence_id: int
  request: batching.TokenRequest


@dataclasses.dataclass(frozen=True)
class _Open:
  """A request that is in a slot.

  Attributes:
    key: of the request.
    output: of its prompts so far; some are unfinished.
    prompts: int32 [W], which of its prompts the rows of its slot answer.
  """

  key: Hashable
  output: loop.Output
  prompts: np.ndarray


@dataclasses.dataclass(frozen=True)
class Finished:
  """A request that is done.

  Attributes:
    key: of the request.
    output: of all its prompts.
  """

  key: Hashable
  output: loop.Output


class Slots:
  """Decodes requests, and returns them in the order in which they end.

  `begin` starts work on the device and `finish` waits for it; in between, the
  host can prepare the next requests.
  """

  def __init__(
    self,
    engine: engine_lib.Engine,
    options: options_lib.DecodingOptions,
    capacity: Capacity,
  ):
    """Makes empty slots.

    Args:
      engine: whose network, parameters, shapes and programs are used; its mesh,
        if it has one, does not split the batch.
      options: of decoding, with max_new_tokens and without beams.
      capacity: of the slots.

    Raises:
      UserError: beams are asked for, the mesh splits the batch, or there is not
        enough memory.
    """
    if options.beam_size is not None:
      raise errors.UserError('A stream cannot search with beams (beam_size).')
    if engine.partitioner and engine.partitioner.num_data_shards > 1:
      raise errors.UserError(
        'A stream needs a mesh that does not split the batch, got '
        f'{dict(engine.partitioner.mesh.shape)}.'
      )
    self.capacity = capacity
    self._engine = engine
    self._budget = engine.budget(options)
    self._budget.check_slots(
      capacity.num_slots,
      capacity.num_rows,
      capacity.input_length,
      capacity.prompt_length,
    )
    self._shapes = engine.shapes
    self._max_new_tokens = options.max_new_tokens
    self._settings = loop.Settings(
      engine.module,
      batching.output_length(options.max_new_tokens),
      options.sampler,
      options.prompt_lookup,
    )
    self._limits = {
      'min_new_tokens': np.int32(options.min_new_tokens),
      'token_limit': np.int32(options.max_new_tokens),
    }
    self._rng = jax.random.key(options.seed)
    sizes = dataclasses.asdict(capacity)
    del sizes['batch_size']
    self._state = engine.program(
      'init_slots', (self._settings, capacity), settings=self._settings, **sizes
    )(engine.params)
    self._tries = constraints.TriesBuilder()
    self._waiting: list[_Waiting] = []
    self._open: dict[int, _Open] = {}  # By slot.
    self._begun: tuple[Any, ...] | None = None

  @property
  def num_waiting(self) -> int:
    """Requests that are not inserted yet."""
    return len(self._waiting)

  @property
  def is_idle(self) -> bool:
    """Whether there is nothing to do."""
    return not (self._waiting or self._open or self._begun)

  def submit(
    self, key: Hashable, sequence_id: int, request: batching.TokenRequest
  ) -> None:
    """Adds a request to those that wait.

    Args:
      key: returned with the output.
      sequence_id: seeds the random numbers of the output, with the options'
        seed.
      request: no longer than the capacity's lengths, which `check` passes.
    """
    self._waiting.append(_Waiting(key, sequence_id, request))

  def check(self, request: batching.TokenRequest) -> None:
    """Raises UserError unless there is enough memory for a request."""
    self._budget.check(batching.needed_shape([request]))

  def begin(self) -> None:
    """Starts a batch if there is room for it, else the next steps, if any."""
    assert self._begun is None, 'finish first'
    num_inputs = min(len(self._waiting), self.capacity.batch_size)
    num_free = self.capacity.num_slots - len(self._open)
    if self._tries.num_nodes > _MAX_NODES:
      if self._open:
        num_free = 0  # Unfinished rows refer to the table.
      else:
        self._tries = constraints.TriesBuilder()
    if num_inputs and num_inputs <= num_free:
      group = self._take(num_inputs)
      self._begun = (group, self._insert(group))
    elif self._open:
      self._begun = (None, self._generate_step(max_active=len(self._open) - 1))

  def finish(self) -> list[Finished]:
    """Waits for what `begin` started.

    Returns:
      The requests that have ended.
    """
    begun, self._begun = self._begun, None
    if begun is None:
      return []
    group, results = begun
    with memory.explained():
      results = jax.device_get(results)
    if group is None:
      return self._collect(*results)
    return self._open_slots(group, results)

  def warm_up(self) -> None:
    """Compiles programs before they are needed, and then uses these.

    Those of all known shapes; and unless one of these holds any batch, those of
    one request and of full batches, for inputs of the greatest length and of a
    quarter of it. Later batches use the cheapest that holds them. Only one with
    more than `num_rows` prompts to an input may compile another one.
    """
    capacity = self.capacity
    limits = capacity.batch_size, capacity.input_length, capacity.prompt_length
    known = [
      shape
      for shape in self._engine.shapes.within(*limits)
      if shape[4] == 0 and (shape[3] == 0) == (capacity.prompt_length == 0)
    ]
    if not any(
      batching.holds(shape, (*limits[:2], capacity.num_rows, limits[2], 0, 0))
      for shape in known
    ):
      known += [
        self._engine.shapes.buckets(
          (size, length, capacity.num_rows, capacity.prompt_length, 0, 0),
          capacity.batch_size,
        )
        for size in (1, capacity.batch_size)
        for length in (-(-capacity.input_length // 4), capacity.input_length)
      ]
    self._engine.shapes.known.update(known)
    self._shapes = batching.Shapes(len(set(known)), known)
    for shape in sorted(self._shapes.known):
      self._run(batching.pad([], range(shape[0]), shape))
    self._generate_step(max_active=0)

  def _generate_step(self, max_active: int) -> tuple[jax.Array, Any]:
    self._state, *results = self._call(
      'generate_step', (), max_active=np.int32(max_active)
    )
    return tuple(results)

  def _take(self, count: int) -> list[_Waiting]:
    """Takes the request that has waited longest, and the most similar ones."""
    oldest = self._waiting[0].request

    def difference(i: int) -> tuple[int, int, int]:
      request = self._waiting[i].request
      length, first = (
        batching.bucket(len(r.inputs), batching.SMALLEST_INPUT)
        for r in (request, oldest)
      )
      prompts = len(request.prompts) - len(oldest.prompts)
      return abs(length - first), abs(prompts), i

    chosen = set(sorted(range(len(self._waiting)), key=difference)[:count])
    taken = [x for i, x in enumerate(self._waiting) if i in chosen]
    self._waiting = [x for i, x in enumerate(self._waiting) if i not in chosen]
    return taken

  def _insert(self, group: Sequence[_Waiting]) -> Any:
    num_nodes = self._tries.num_nodes
    requests = [waiting.request for waiting in group]
    roots = [
      [
        constraints.FREE if strings is None else self._tries.root(strings)
        for strings in request.choices
      ]
      for request in requests
    ]
    if self._tries.num_nodes != num_nodes:
      self._state = self._state.replace(tries=self._tries.table())
    shape = self._shapes.fit(
      batching.needed_shape(requests),
      self.capacity.batch_size,
      self.capacity.input_length,
      self.capacity.prompt_length,
      self._budget,
    )
    sequence_ids = [waiting.sequence_id for waiting in group]
    sequence_ids += [0] * (shape[0] - len(group))
    return self._run(batching.pad(requests, sequence_ids, shape, roots))

  def _call(
    self, kind: str, shape: tuple[int, ...], *args: Any, **kwargs: Any
  ) -> Any:
    """Runs a program of the slots, whose first result is their new state."""
    args, kwargs = (self._state, *args), {**self._limits, **kwargs}
    # On a mesh, what XLA makes of the state may be placed otherwise.
    key = shape, self._settings, programs_lib.signature(self._state)
    program = self._engine.program(
      kind, key, *args, settings=self._settings, **kwargs
    )
    return program(self._engine.params, *args, **kwargs)

  def _run(self, batch: batching.Batch) -> Any:
    self._state, inserted = self._call(
      'insert',
      batch.shape,
      batch.encoder_input_tokens,
      batch.prompt_tokens,
      row_mask=batch.row_mask,
      rng=self._rng,
      sequence_ids=batch.request_ids,
      roots=batch.roots,
    )
    return inserted

  def _open_slots(
    self, group: Sequence[_Waiting], inserted: Any
  ) -> list[Finished]:
    """Notes which slots a batch is in now; returns the requests that ended."""
    finished = []
    for b, waiting in enumerate(group):
      num_prompts = len(waiting.request.prompts)
      output = loop.Output(
        *(np.array(x[b, :num_prompts]) for x in inserted.output)
      )
      slot = int(inserted.slots[b])
      if slot == self.capacity.num_slots:
        finished.append(self._finished(waiting.key, output))
      else:
        self._open[slot] = _Open(waiting.key, output, inserted.prompts[b])
    return finished

  def _collect(
    self, has_ended: np.ndarray, output: loop.Output
  ) -> list[Finished]:
    """Takes the requests that ended from their slots."""
    finished = []
    for slot in [slot for slot in self._open if has_ended[slot]]:
      ended = self._open.pop(slot)
      # Rows that had ended before were moved as well, with equal outputs.
      rows = np.flatnonzero(ended.prompts < len(ended.output.tokens))
      for into, new in zip(ended.output, output, strict=True):
        into[ended.prompts[rows]] = new[slot, rows]
      finished.append(self._finished(ended.key, ended.output))
    return finished

  def _finished(self, key: Hashable, output: loop.Output) -> Finished:
    return Finished(key, engine_lib.trimmed(output, self._max_new_tokens))
