# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks inside tf.data whose messages a person can act on.

An assertion in a tf.data graph reaches Python as an InvalidArgumentError with
the message buried in node names. Ours stand between two marks, so that
`user_error` can dig them out.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import re

import tensorflow as tf

from pid_jax import errors

_MARK = '[pid_jax] '
_END = ' [/pid_jax]'


def user_error(error: Exception) -> errors.UserError | None:
  """Returns the message of a failed check, or None if `error` is not one.

  Args:
    error: what iterating over a dataset raised, usually a
      tf.errors.InvalidArgumentError. Errors raised while SeqIO evaluates carry
      the same text.
  """
  found = re.search(
    re.escape(_MARK) + '(.*?)' + re.escape(_END), str(error), re.DOTALL
  )
  return errors.UserError(found.group(1)) if found else None


def require(condition: tf.Tensor, message: Callable[[], list]) -> None:
  """Stops the dataset with a message unless `condition`, a bool scalar, holds.

  Args:
    condition: what must be true of the example at hand.
    message: returns the parts of the message, strings and scalar tensors; it is
      traced into a branch of its own, which costs nothing while all is well.
  """

  def fail():
    parts = [
      p
      if isinstance(p, str) or p.dtype == tf.string
      else tf.strings.as_string(p)
      for p in message()
    ]
    text = tf.strings.join([_MARK, *parts, _END])
    with tf.control_dependencies([tf.debugging.Assert(False, [text])]):
      return tf.constant(False)

  tf.cond(condition, lambda: tf.constant(True), fail)


@dataclasses.dataclass(frozen=True)
class Limits:
  """Feature lengths of a run; None where there is no limit.

  Attributes:
    inputs: S, tokens of an input with its EOS.
    prompts: P, tokens of a prompt.
    targets: T, tokens of a target with its EOS.
    subtasks: U, subtasks of an input.
    decoder: L, tokens of a packed decoder row.
  """

  inputs: int | None = None
  prompts: int | None = None
  targets: int | None = None
  subtasks: int | None = None
  decoder: int | None = None

  @classmethod
  def of(cls, sequence_length: Mapping[str, int] | None) -> Limits:
    """Takes the limits out of SeqIO's `sequence_length`."""
    given = sequence_length or {}
    return cls(*(given.get(f.name) for f in dataclasses.fields(cls)))


def check_multi_prompt(
  task: str,
  example: Mapping[str, tf.Tensor],
  prompt_lengths: tf.Tensor,
  target_lengths: tf.Tensor,
  limits: Limits,
) -> None:
  """Stops the dataset at an example whose prompts do not fit.

  Args:
    task: name of the task.
    example: with `example_id` and `subtasks_pretokenized` [U].
    prompt_lengths: int32 [U], in tokens.
    target_lengths: int32 [U], in tokens, with EOS.
    limits: of the run.
  """
  names = example['subtasks_pretokenized']
  where = ['task ', task, ', example ', example['example_id']]
  _check_prompts_are_there(where, names, prompt_lengths)
  if limits.subtasks is not None:
    require(
      tf.size(names) <= limits.subtasks,
      lambda: [
        *where, ' has ', tf.size(names), ' subtasks, more than the feature '
        f'length subtasks = {limits.subtasks}; none is ever dropped for '
        'want of room: raise it',
      ],
    )  # fmt: skip
  if limits.prompts is not None:
    longest = tf.reduce_max(prompt_lengths)
    require(
      longest <= limits.prompts,
      lambda: [
        *where, ', subtask ', tf.gather(names, tf.argmax(prompt_lengths)),
        ': the prompt has ', longest, ' tokens, more than the feature length '
        f'prompts = {limits.prompts}; prompts are never cut: raise it',
      ],
    )  # fmt: skip
  if limits.decoder is not None:
    kept = target_lengths
    if limits.targets is not None:
      kept = tf.minimum(kept, limits.targets)
    rows = prompt_lengths + kept
    require(
      tf.reduce_max(rows) <= limits.decoder,
      lambda: [
        *where, ', subtask ', tf.gather(names, tf.argmax(rows)),
        ': prompt and target have ', tf.reduce_max(rows), ' tokens with EOS, '
        f'more than the feature length decoder = {limits.decoder}; raise it, '
        'or lower the feature length targets',
      ],
    )  # fmt: skip


def _check_prompts_are_there(
  where: list, names: tf.Tensor, prompt_lengths: tf.Tensor
) -> None:
  require(
    tf.reduce_all(prompt_lengths > 0),
    lambda: [
      *where, ', subtask ', tf.gather(names, tf.argmin(prompt_lengths)),
      ': the prompt is empty; every subtask needs at least one token',
    ],
  )  # fmt: skip
