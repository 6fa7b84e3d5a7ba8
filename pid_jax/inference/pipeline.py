# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Keeps the device busy from one batch to the next."""

from collections.abc import Callable
from collections.abc import Iterable
import itertools

import jax
import numpy as np

from pid_jax.decoding import buckets


def run_ahead(
  run: Callable[[buckets.Batch], tuple[jax.Array, ...]],
  batches: Iterable[buckets.Batch],
  progress: Callable[[int], None] | None,
) -> list[tuple[np.ndarray, ...]]:
  """Runs each batch before the results of the one before are read.

  So the device works while we read, and lay out the next batch.

  Args:
    run: starts the work on a batch; returns arrays [B, U, ...].
    batches: of `buckets.batches`.
    progress: called with the number of prompts done so far, or None.

  Returns:
    For every prompt of every request, in order, its part of the results.
  """
  results, ahead, num_done = [], None, 0
  for batch in itertools.chain(batches, [None]):
    before, ahead = ahead, None if batch is None else (batch, run(batch))
    if before is not None:
      results.append((before[0], jax.device_get(before[1])))
      num_done += int(before[0].row_mask.sum())
      if progress is not None:
        progress(num_done)
  return buckets.unbatch(results)
