# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How long prompt-in-decoder and prompt-in-encoder take for the same work."""

from collections.abc import Sequence
import time

import jax
import numpy as np

from pid_jax.inference import batching
from pid_jax.inference import model


def time_layouts(
  model: model.PromptInDecoder,
  inputs: Sequence[str],
  prompts: Sequence[Sequence[str]],
  *,
  new_tokens: int = 8,
  repeats: int = 5,
) -> dict[str, float]:
  """Times both layouts on the same inputs and prompts with the same weights.

  Each input is one job: all its prompts in one batch, exactly `new_tokens`
  tokens for each, tokenisation not counted. What the encoder reads is padded to
  a multiple of 32, lest every length be compiled, and prompts to the longest.
  Both layouts are compiled and run once before; then they take turns, so that a
  busy machine slows both alike.

  Args:
    model: of either layout. Only the time is looked at, not what it answers.
    inputs: N strings.
    prompts: for each input its prompts.
    new_tokens: generated for each prompt; none ends before.
    repeats: turns that each layout takes on each input; the median counts.

  Returns:
    {'pid': seconds per input, 'pie': seconds per input}, means over the inputs.

  Raises:
    UserError: inputs and prompts do not match.
  """
  medians = {'pid': [], 'pie': []}
  for text, own in zip(inputs, prompts, strict=True):
    jobs = {}
    for layout in medians:
      (jobs[layout],) = model.lay_out(
        [text],
        [own],
        batch_size=len(own),
        layout=layout,
        padding=batching.Exact(32),
      )
    seconds = {layout: [] for layout in jobs}
    for _ in range(1 + repeats):
      for layout, batch in jobs.items():
        start = time.perf_counter()
        jax.block_until_ready(
          model.run(batch, new_tokens, min_new_tokens=new_tokens)
        )
        seconds[layout].append(time.perf_counter() - start)
    for layout, values in seconds.items():
      medians[layout].append(np.median(values[1:]))  # The first one compiled.
  return {layout: float(np.mean(v)) for layout, v in medians.items()}
