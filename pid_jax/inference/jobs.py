# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a job whose requests are all known: group by group, one batch ahead.

Requests are grouped by length (`batching.make_groups`), the same way whatever
the programs. A group is one batch, or several where a smaller program is there;
groups whose programs are ready run first, while others are compiled. The next
batch is started before the results of the one before are read, so that the
device works while the host does.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import itertools
import time
from typing import Any

import jax
import numpy as np

from pid_jax import distributed
from pid_jax.inference import batching
from pid_jax.inference import memory
from pid_jax.inference import partial_results as partial_results_lib
from pid_jax.inference import planning

Arrays = tuple[np.ndarray, ...]


@dataclasses.dataclass(frozen=True)
class Piece:
  """A batch of a job.

  Attributes:
    group: number of its group.
    is_last: whether it is the last one of the group.
    num_requests: in it.
    batch: of these requests.
    option: how it is computed.
  """

  group: int
  is_last: bool
  num_requests: int
  batch: batching.Batch
  option: planning.Option | None = None


# Starts a batch on the device; returns arrays [B, U, ...].
Start = Callable[[Piece], Sequence[jax.Array]]


@dataclasses.dataclass(frozen=True)
class Job:
  """The groups of a job, and how they become batches.

  Attributes:
    requests: of the job.
    groups: indices of each group's requests.
    roots: for each request those of its rows, or None, see `batching.Batch`.
  """

  requests: Sequence[batching.TokenRequest]
  groups: Sequence[Sequence[int]]
  roots: Sequence[Sequence[int]] | None = None

  def needed(self, group: int) -> batching.Shape:
    """Returns the smallest shape that holds a group."""
    return batching.needed_shape([self.requests[i] for i in self.groups[group]])

  def prompt_tokens(self, group: int) -> int:
    """Returns how many tokens the prompts of an input have, at most."""
    requests = (self.requests[i] for i in self.groups[group])
    return max(sum(map(len, request.prompts)) for request in requests)

  def pieces(self, group: int, option: planning.Option) -> Iterator[Piece]:
    """Yields the batches of a group."""
    ids, size = self.groups[group], option.shape[0]
    for start in range(0, len(ids), size):
      some = ids[start : start + size]
      absent = len(self.requests) + np.arange(size - len(some))
      batch = batching.pad(
        [self.requests[i] for i in some],
        [*some, *absent],
        option.shape,
        () if self.roots is None else [self.roots[i] for i in some],
      )
      yield Piece(group, start + size >= len(ids), len(some), batch, option)


def schedule(
  job: Job,
  groups: Sequence[int],
  batch_size: int,
  buckets: Callable[[batching.Shape, int], batching.Shape],
  planner: planning.Planner,
  programs: Callable[[planning.Option], Sequence[Any]],
  *,
  in_order: bool = False,
  ahead: bool = True,
) -> Iterator[Piece | None]:
  """Yields the batches of some groups, those first whose programs are ready.

  Args:
    job: of all groups.
    groups: numbers of those to compute.
    batch_size: the greatest B.
    buckets: rounds a needed shape up, as `batching.Shapes.buckets`.
    planner: chooses options; again from time to time, for what is left.
    programs: starts compiling the programs of an option, and returns them.
    in_order: True keeps to one plan and one order, whatever the time that
      anything takes: for processes that share a mesh.
    ahead: whether batches run while programs are compiled.

  Yields:
    Batches; or None before programs have to be waited for.
  """
  needed = {
    k: planning.Need.rounded(
      buckets(job.needed(k), batch_size), job.prompt_tokens(k)
    )
    for k in groups
  }
  counts = collections.Counter(needed.values())
  left: dict[planning.Need, collections.deque[int]] = {}
  for k in groups:
    left.setdefault(needed[k], collections.deque()).append(k)
  num_done, next_plan = 0, 0
  plan: Mapping[planning.Need, planning.Option] = {}
  while left:
    if num_done >= next_plan and not (in_order and plan):
      plan = planner.plan(
        {need: len(queue) for need, queue in left.items()},
        batch_size,
        is_new=not plan,
      )
      next_plan = 4 * max(num_done, 1)
      # Most batches first: they run while the others are compiled.
      order = sorted(left, key=lambda x: (-counts[x], x))
      compiled = {plan[need]: programs(plan[need]) for need in order}
      if not ahead:
        yield None
        for program in itertools.chain(*compiled.values()):
          program.wait()
    ready = [
      need
      for need in left
      if all(program.is_ready for program in compiled[plan[need]])
    ]
    need = next(iter(left))
    if ready and not in_order:
      need = ready[0]
    elif need not in ready:
      yield None
      if not in_order:  # Programs are compiled in the order of their start.
        need = min(left, key=order.index)
      for program in compiled[plan[need]]:
        program.wait()
    yield from job.pieces(left[need].popleft(), plan[need])
    num_done += 1
    if not left[need]:
      del left[need]


def run(
  job: Job,
  start: Start,
  pieces: Callable[[Sequence[int]], Iterable[Piece | None]],
  *,
  finish: Callable[[Piece, Arrays, float], None] | None = None,
  progress: Callable[[int], None] | None = None,
  partial_results: partial_results_lib.PartialResults | None = None,
) -> list[Arrays]:
  """Runs a job.

  Args:
    job: the same one in all processes.
    start: starts a batch.
    pieces: yields the batches of some groups, see `schedule`.
    finish: called with each batch, its results and the seconds that it took on
      the device, or None.
    progress: called with the number of prompts done so far, or None.
    partial_results: see `engine.Engine.generate`.

  Returns:
    For each request, in order, its part of the results, [U, ...].
  """
  groups = range(len(job.groups))
  if partial_results is None:
    results = dict(_results(start, pieces(groups), finish, progress))
  else:
    left = [k for k in groups if k not in partial_results.known]
    mine = left[distributed.process_index() :: distributed.process_count()]
    try:
      for k, arrays in _results(start, pieces(mine), finish, progress):
        partial_results.add(k, arrays)
    finally:  # Also of a job that is interrupted.
      partial_results.write()
    results = partial_results.gather(len(groups))
  by_request = {}
  for k, ids in enumerate(job.groups):
    for row, i in enumerate(ids):
      num_prompts = len(job.requests[i].prompts)
      by_request[i] = tuple(x[row, :num_prompts] for x in results[k])
  return [by_request[i] for i in range(len(job.requests))]


def _results(
  start: Start,
  pieces: Iterable[Piece | None],
  finish: Callable[[Piece, Arrays, float], None] | None,
  progress: Callable[[int], None] | None,
) -> Iterator[tuple[int, Arrays]]:
  """Yields the results of each group, when all its batches have ended."""
  ahead, num_done, ended_at = None, 0, 0.0
  done: dict[int, list[Arrays]] = {}
  for piece in itertools.chain(pieces, [None]):
    before, ahead = ahead, None
    if piece is not None:
      ahead = piece, start(piece), time.perf_counter()
    if before is None:
      continue
    piece, results, started_at = before
    with memory.explained():
      arrays = jax.device_get(tuple(results))
    now = time.perf_counter()
    if finish is not None:
      finish(piece, arrays, now - max(started_at, ended_at))
    ended_at = now
    done.setdefault(piece.group, []).append(
      tuple(x[: piece.num_requests] for x in arrays)
    )
    if piece.is_last:
      parts = done.pop(piece.group)
      yield (
        piece.group,
        parts[0]
        if len(parts) == 1
        else tuple(np.concatenate(x) for x in zip(*parts, strict=True)),
      )
    num_done += int(piece.batch.row_mask.sum())
    if progress is not None:
      progress(num_done)
