# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks inside tf.data whose messages a person can act on.

An assertion in a tf.data graph reaches Python as an InvalidArgumentError with
the message buried among node names. Ours stand between two marks, so that
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

Message = list[str | tf.Tensor]


def user_error(error: BaseException) -> errors.UserError | None:
  """Returns the message of a failed check, or None if `error` is not one.

  Args:
    error: what iterating over a dataset raised, usually a
      tf.errors.InvalidArgumentError; or what SeqIO made of it, which repeats
      the text.
  """
  found = re.search(
    re.escape(_MARK) + '(.*?)' + re.escape(_END), str(error), re.DOTALL
  )
  return errors.UserError(_unescape(found.group(1))) if found else None


def _unescape(text: str) -> str:
  """Undoes the C escapes with which TensorFlow prints a string tensor."""

  def plain(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    if len(code) == 3:
      return bytes([int(code, 8)])
    return {b'n': b'\n', b'r': b'\r', b't': b'\t'}.get(code, code)

  raw = re.sub(rb'\\([0-3][0-7]{2}|.)', plain, text.encode())
  return raw.decode(errors='replace')


def require(condition: tf.Tensor, message: Callable[[], Message]) -> None:
  """Stops the dataset with a message unless `condition` holds.

  Args:
    condition: bool scalar, what must be true of the example at hand.
    message: returns the parts of the message, strings and scalar tensors; it is
      traced into a branch of its own, which costs nothing while all is well.
  """

  def fail() -> tf.Tensor:
    parts = [
      part
      if isinstance(part, str) or part.dtype == tf.string
      else tf.strings.as_string(part)
      for part in message()
    ]
    text = tf.strings.join([_MARK, *parts, _END])
    with tf.control_dependencies([tf.debugging.Assert(False, [text])]):
      return tf.constant(False)

  tf.cond(condition, lambda: tf.constant(True), fail)


def where(task: str, example: Mapping[str, tf.Tensor]) -> Message:
  """Returns the beginning of each message about an example."""
  return ['task ', task, ', example ', example['example_id']]


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
    return cls(**{f.name: given.get(f.name) for f in dataclasses.fields(cls)})


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
  _check_prompts_are_there(task, example, prompt_lengths)
  if limits.subtasks is not None:
    require(
      tf.size(names) <= limits.subtasks,
      lambda: [
        *where(task, example), ' has ', tf.size(names), ' subtasks, more than '
        f'the feature length subtasks = {limits.subtasks}; none is dropped for '
        'want of room: raise it',
      ],
    )  # fmt: skip
  if limits.prompts is not None:
    longest = tf.reduce_max(prompt_lengths)
    require(
      longest <= limits.prompts,
      lambda: [
        *where(task, example), ', subtask ',
        tf.gather(names, tf.argmax(prompt_lengths)), ': the prompt has ',
        longest, ' tokens, more than the feature length prompts = '
        f'{limits.prompts}; prompts are never cut: raise it',
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
        *where(task, example), ', subtask ',
        tf.gather(names, tf.argmax(rows)), ': prompt and target have ',
        tf.reduce_max(rows), ' tokens with EOS, more than the feature length '
        f'decoder = {limits.decoder}; raise it, or lower the feature length '
        'targets',
      ],
    )  # fmt: skip


def check_prompt_in_encoder(
  task: str,
  example: Mapping[str, tf.Tensor],
  prompt_lengths: tf.Tensor,
  limits: Limits,
) -> None:
  """Stops the dataset at an example whose prompts leave no room for inputs."""
  names = example['subtasks_pretokenized']
  _check_prompts_are_there(task, example, prompt_lengths)
  if limits.inputs is not None:
    longest = tf.reduce_max(prompt_lengths)
    require(
      longest + 1 < limits.inputs,
      lambda: [
        *where(task, example), ', subtask ',
        tf.gather(names, tf.argmax(prompt_lengths)), ': the prompt has ',
        longest, ' tokens, which leaves no room for input and EOS in the '
        f'feature length inputs = {limits.inputs}; prompts are never cut: '
        'raise it',
      ],
    )  # fmt: skip


def check_joint(
  task: str,
  example: Mapping[str, tf.Tensor],
  has_separator: tf.Tensor,
  separator: str,
) -> None:
  """Stops the dataset at a target that holds the separator; bool [U]."""
  names = example['subtasks_pretokenized']
  require(
    ~tf.reduce_any(has_separator),
    lambda: [
      *where(task, example), ', subtask ',
      tf.gather(names, tf.argmax(has_separator)),
      f': the target contains the separator {separator!r}, so that the targets '
      'of the joint layout could not be told apart; choose another '
      'joint_separator',
    ],
  )  # fmt: skip


def check_no_sentinel(
  task: str, example: Mapping[str, tf.Tensor], texts: tf.Tensor, sentinel: str
) -> None:
  """Stops the dataset at a text that holds the newline sentinel; str [n]."""
  has_sentinel = tf.strings.regex_full_match(
    texts, f'(?s).*{re.escape(sentinel)}.*'
  )
  require(
    ~tf.reduce_any(has_sentinel),
    lambda: [
      *where(task, example),
      f': a text contains {sentinel!r}, which stands for a newline in this '
      'task; take it out, or choose another sentinel (newline)',
    ],
  )  # fmt: skip


def check_input(
  task: str,
  example: Mapping[str, tf.Tensor],
  is_over: tf.Tensor,
  size: tf.Tensor,
  limit: int | tf.Tensor,
) -> None:
  """Stops the dataset at an input that would be cut."""
  require(
    ~is_over,
    lambda: [
      *where(task, example), ': the input has ', size, ' tokens with EOS, and '
      'the feature length inputs leaves room for ', tf.constant(limit)
      if isinstance(limit, int) else limit, '; raise it, or allow inputs to be '
      'cut (long_inputs)',
    ],
  )  # fmt: skip


def _check_prompts_are_there(
  task: str, example: Mapping[str, tf.Tensor], prompt_lengths: tf.Tensor
) -> None:
  require(
    tf.reduce_all(prompt_lengths > 0),
    lambda: [
      *where(task, example), ', subtask ',
      tf.gather(
        example['subtasks_pretokenized'], tf.argmin(prompt_lengths)
      ),
      ': the prompt is empty; every subtask needs at least one token',
    ],
  )  # fmt: skip
