# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the encoder reads where the prompt stands in it (PiE).

The prompt comes first and is never cut; then the input, cut to the room that is
left; then EOS. Training lays tensors out so, prediction lists of ids, and what
measures lays out arrays: the rule stands here for all of them, without
TensorFlow. Without a prompt it is the rule of an input alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def kept_range(
  num_tokens: Any,
  num_prompt_tokens: Any,
  limit: int | None,
  long_inputs: str,
  *,
  minimum: Callable[[Any, Any], Any] = min,
) -> tuple[Any, Any]:
  """Returns which tokens of an input are kept.

  Args:
    num_tokens: int, of the input without EOS.
    num_prompt_tokens: int, of the prompt before it; 0 without one. Or an array
      or tensor int [U], of U prompts, with a `minimum` that broadcasts.
    limit: of prompt, input and EOS together; more than the prompt takes with
      EOS. None: without limit.
    long_inputs: 'keep_end' keeps the end of an input that is too long, anything
      else its start.
    minimum: of two values, such as `tf.minimum`.

  Returns:
    The first token that is kept and the end, both in the form of
    `num_prompt_tokens`.
  """
  num_kept = num_tokens + 0 * num_prompt_tokens
  if limit is not None:
    num_kept = minimum(num_kept, limit - 1 - num_prompt_tokens)
  start = num_tokens - num_kept if long_inputs == 'keep_end' else 0 * num_kept
  return start, start + num_kept


def join(
  prompt: Any, inputs: Any, *end: Any, concatenate: Callable[[list], Any]
) -> Any:
  """Puts a prompt before the input.

  Args:
    prompt: ids of the prompt: a list, array or tensor; also of several prompts.
    inputs: ids of the input that is kept, in the same form.
    *end: EOS in the same form, or nothing.
    concatenate: makes one of a list of them.

  Returns:
    The row, or rows, that the encoder reads.
  """
  return concatenate([prompt, inputs, *end])
