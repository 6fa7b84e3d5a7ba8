# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PiD, PiE and joint: what each makes of the same inputs and prompts.

Costs, compiled programs and timed programs all take their sizes from here:

    layout  encodes        decoder rows  prompt  new tokens of a row
    pid     B of S         B U           P       T
    pie     B U of P + S   B U           0       T
    joint   B of S         B             0       U T

(joint without the names of the subtasks that would stand in its target).
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from pid_jax.subtasks import prompt_in_encoder

LABELS = {'pid': 'PiD', 'pie': 'PiE', 'joint': 'joint'}
LAYOUTS = tuple(LABELS)


@dataclasses.dataclass(frozen=True)
class Sizes:
  """Sizes of a batch to be decoded.

  Attributes:
    num_inputs: B.
    input_length: S.
    num_prompts: U, prompts to an input.
    prompt_length: P.
    new_tokens: T, generated for each prompt.
  """

  num_inputs: int = 1
  input_length: int = 512
  num_prompts: int = 30
  prompt_length: int = 8
  new_tokens: int = 8

  @property
  def rows(self) -> int:
    """Rows of the decoder."""
    return self.num_inputs * self.num_prompts

  @property
  def cache_length(self) -> int:
    """Positions of a row's self-attention cache that the last step needs."""
    return self.prompt_length + self.new_tokens

  def of(self, layout: str) -> Sizes:
    """Returns the sizes of the batch that a layout decodes.

    Raises:
      ValueError: there is no such layout.
    """
    if layout == 'pid':
      return self
    if layout == 'pie':
      length = self.prompt_length + self.input_length
      return Sizes(self.rows, length, 1, 0, self.new_tokens)
    if layout == 'joint':
      new_tokens = self.num_prompts * self.new_tokens
      return Sizes(self.num_inputs, self.input_length, 1, 0, new_tokens)
    raise ValueError(f'no layout {layout!r}')


def label(name: str) -> str:
  """Returns what figures call a layout; other names stay as they are."""
  return LABELS.get(name, name)


def to_layout(
  layout: str, inputs: np.ndarray, prompts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the token ids that a layout decodes.

  Args:
    layout: 'pid', 'pie' or 'joint'.
    inputs: int32 [B, S].
    prompts: int32 [B, U, P], padded with 0 on the right.

  Returns:
    Encoder inputs and decoder prompts with the shapes of `Sizes.of`: of pie,
    each prompt stands before its input; of pie and joint, prompts are empty.
  """
  num_inputs, num_prompts, _ = prompts.shape
  if layout == 'pid':
    return inputs, prompts
  if layout == 'pie':
    rows = num_inputs * num_prompts
    repeated = np.repeat(inputs, num_prompts, axis=0)
    inputs = prompt_in_encoder.join(
      prompts.reshape(rows, -1),
      repeated,
      concatenate=functools.partial(np.concatenate, axis=1),
    )
    inputs = moved_together(inputs, to_start=True)
    return inputs, np.zeros((rows, 1, 0), np.int32)
  return inputs, np.zeros((num_inputs, 1, 0), np.int32)


def moved_together(rows: np.ndarray, *, to_start: bool) -> np.ndarray:
  """Moves what is not 0 to the start of each row, or to its end.

  Args:
    rows: int32 [R, n].
    to_start: where to.
  """
  is_padding = rows == 0
  order = np.argsort(
    is_padding if to_start else ~is_padding, axis=1, kind='stable'
  )
  return np.take_along_axis(rows, order, axis=1)
