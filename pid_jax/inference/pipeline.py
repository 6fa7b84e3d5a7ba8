# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps the device busy from one batch to the next."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import itertools

import jax
import numpy as np

from pid_jax import distributed
from pid_jax.inference import batching
from pid_jax.inference import partial_results as parts_lib


def run_ahead(
  run: Callable[[batching.Batch], tuple[jax.Array, ...]],
  batches: Iterable[batching.Batch],
  progress: Callable[[int], None] | None,
  parts: parts_lib.Parts | None = None,
) -> list[tuple[np.ndarray, ...]]:
  """Runs each batch before the results of the one before are read.

  So the device works while we read, and lay out the next batch.

  Args:
    run: starts the work on a batch; returns arrays [B, U, ...].
    batches: of `batching.batches`; the same ones in all processes.
    progress: called with the number of prompts done so far, or None.
    parts: where results are kept, so that those that are there already are not
      computed again, and processes share the work. None: nowhere, and this
      process does all.

  Returns:
    For every prompt of every request, in order, its part of the results.
  """
  if parts is None:
    return batching.unbatch(_results(run, batches, progress))
  batches = list(batches)
  left = [k for k in range(len(batches)) if k not in parts.known]
  own = left[distributed.process_index() :: distributed.process_count()]
  work = [batches[k] for k in own]
  try:
    for k, (_, arrays) in zip(own, _results(run, work, progress), strict=True):
      parts.add(k, arrays)
  finally:  # Also of a job that is interrupted.
    parts.write()
  known = parts.gather(len(batches))
  return batching.unbatch((b, known[k]) for k, b in enumerate(batches))


def _results(
  run: Callable[[batching.Batch], tuple[jax.Array, ...]],
  batches: Iterable[batching.Batch],
  progress: Callable[[int], None] | None,
) -> Iterator[tuple[batching.Batch, tuple[np.ndarray, ...]]]:
  """Yields the batches with their results."""
  ahead, num_done = None, 0
  for batch in itertools.chain(batches, [None]):
    before, ahead = ahead, None if batch is None else (batch, run(batch))
    if before is not None:
      yield before[0], jax.device_get(before[1])
      num_done += int(before[0].row_mask.sum())
      if progress is not None:
        progress(num_done)
