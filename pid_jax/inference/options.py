# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Options of generation that exclude each other, told before any work."""

from pid_jax import decoding
from pid_jax import errors


def check(
  max_new_tokens: int,
  sampler: decoding.Sampler | None,
  lookup: decoding.PromptLookup | None,
  beam_size: int | None,
) -> None:
  """Raises UserError for options of `PromptInDecoder.generate` that cannot be.

  Args:
    max_new_tokens: at least 1.
    sampler: None or Greedy, with beams.
    lookup: None, with beams.
    beam_size: of a search, or None.
  """
  if beam_size is not None and sampler not in (None, decoding.GREEDY):
    raise errors.UserError(
      'beam_size and sampler exclude each other: a beam search draws nothing.'
    )
  if beam_size is not None and lookup is not None:
    raise errors.UserError(
      'beam_size and lookup exclude each other: beams read no drafts.'
    )
  if max_new_tokens < 1:
    raise errors.UserError(
      f'max_new_tokens must be at least 1, got {max_new_tokens}.'
    )
