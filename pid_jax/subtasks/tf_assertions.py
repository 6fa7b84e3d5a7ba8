# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Assertions inside tf.data with messages that a user can act on.

A failed assertion in a tf.data graph reaches Python as an InvalidArgumentError
with its message buried among node names. These messages are enclosed in two
marks, by which `user_error` extracts them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import dataclasses
import re

import tensorflow as tf

from pid_jax import errors
from pid_jax.subtasks import examples
from pid_jax.subtasks import tf_devices

tf_devices.hide_gpus()

_MARK = '[pid_jax] '
_END = ' [/pid_jax]'
_MAX_NAME = 80  # Characters of a name in messages.

Example = Mapping[str, tf.Tensor]
Message = list[str | tf.Tensor]


def user_error(error: BaseException) -> errors.UserError | None:
  """Returns the message of a failed assertion of this module, else None.

  Args:
    error: raised while iterating over a dataset, usually a
      tf.errors.InvalidArgumentError; or an exception of SeqIO that repeats its
      text.
  """
  found = re.search(
    re.escape(_MARK) + '(.*?)' + re.escape(_END), str(error), re.DOTALL
  )
  if not found:
    return None
  return errors.UserError(' '.join(_unescape(found.group(1)).split()))


@contextlib.contextmanager
def raise_user_errors() -> Iterator[None]:
  """Raises a failed assertion inside the `with` block as a UserError."""
  try:
    yield
  except tf.errors.OpError as e:
    raise user_error(e) or e from e


def _unescape(text: str) -> str:
  """Undoes the C escapes with which TensorFlow prints a string tensor."""

  def plain(match: re.Match[bytes]) -> bytes:
    code = match.group(1)
    if len(code) == 3:
      return bytes([int(code, 8)])
    return {b'n': b'\n', b'r': b'\r', b't': b'\t'}.get(code, code)

  raw = re.sub(rb'\\([0-3][0-7]{2}|.)', plain, text.encode())
  return raw.decode(errors='replace')


def require(condition: tf.Tensor, message: Callable[[], Message]) -> tf.Tensor:
  """Stops the dataset with a message unless `condition` holds.

  Args:
    condition: bool scalar.
    message: returns the parts of the message, strings and scalar tensors. It is
      traced into a branch of its own, which costs nothing unless it is taken.

  Returns:
    The check, for tf.control_dependencies of operations that would fail with
    messages of theirs.
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

  return tf.cond(condition, lambda: tf.constant(True), fail)


def where(task: str, example: Example) -> Message:
  """Returns the beginning of each message about an example."""
  return ['task ', task, ', example ', _cut(example['example_id'])]


def _cut(name: tf.Tensor) -> tf.Tensor:
  return tf.strings.substr(name, 0, _MAX_NAME, unit='UTF8_CHAR')


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
  def from_lengths(cls, sequence_length: Mapping[str, int] | None) -> Limits:
    """Returns the limits among SeqIO's `sequence_length`."""
    given = sequence_length or {}
    return cls(**{f.name: given.get(f.name) for f in dataclasses.fields(cls)})


def check_multi_prompt(
  task: str,
  example: Example,
  prompt_lengths: tf.Tensor,
  target_lengths: tf.Tensor,
  limits: Limits,
) -> None:
  """Stops the dataset at an example whose prompts do not fit.

  Args:
    task: name of the task.
    example: with `example_id`, `subtasks_pretokenized` and
      `prompts_pretokenized` [U].
    prompt_lengths: int32 [U], in tokens.
    target_lengths: int32 [U], in tokens, with EOS.
    limits: of the run.
  """
  _check_prompts_not_empty(task, example, prompt_lengths)
  if limits.subtasks is not None:
    size = tf.size(prompt_lengths)
    require(
      size <= limits.subtasks,
      lambda: [
        *where(task, example), ' has ', size, ' subtasks, more than the '
        f'feature length subtasks = {limits.subtasks}; subtasks are never '
        'dropped: raise it',
      ],
    )  # fmt: skip
  if limits.prompts is not None:
    _check_longest(
      task, example, prompt_lengths, limits.prompts, 'the prompt has',
      'tokens, more than the feature length prompts = '
      f'{limits.prompts}; prompts are never truncated: raise it',
    )  # fmt: skip
  if limits.decoder is not None:
    if limits.targets is not None:
      target_lengths = tf.minimum(target_lengths, limits.targets)
    _check_longest(
      task, example, prompt_lengths + target_lengths, limits.decoder,
      'prompt and target have',
      f'tokens with EOS, more than the feature length decoder = '
      f'{limits.decoder}; raise it, or lower the feature length targets',
    )  # fmt: skip


def check_prompt_in_encoder(
  task: str, example: Example, prompt_lengths: tf.Tensor, limits: Limits
) -> None:
  """Stops the dataset at an example whose prompts leave no room for inputs."""
  _check_prompts_not_empty(task, example, prompt_lengths)
  if limits.inputs is not None:
    _check_longest(
      task, example, prompt_lengths, limits.inputs - 2, 'the prompt has',
      'tokens, which leaves no room for input and EOS in the feature length '
      f'inputs = {limits.inputs}; prompts are never truncated: raise it',
    )  # fmt: skip


def check_joint(
  task: str, example: Example, has_separator: tf.Tensor, separator: str
) -> None:
  """Stops the dataset at a target that contains the separator; bool [U]."""
  require(
    ~tf.reduce_any(has_separator),
    lambda: [
      *_where_subtask(task, example, tf.argmax(has_separator)),
      f': the target contains the separator {separator!r}, so that the targets '
      'of the joint layout could not be told apart; choose another '
      'joint_separator',
    ],
  )  # fmt: skip


def check_no_sentinel(
  task: str, example: Example, texts: tf.Tensor, sentinel: str
) -> None:
  """Stops the dataset at a text that contains the newline sentinel; str [n]."""
  has_sentinel = tf.strings.regex_full_match(
    texts, f'(?s).*{re.escape(sentinel)}.*'
  )
  require(
    ~tf.reduce_any(has_sentinel),
    lambda: [
      *where(task, example),
      f': a text contains {sentinel!r}, which stands for a newline in this '
      'task; remove it, or choose another sentinel (newline)',
    ],
  )  # fmt: skip


def check_input(
  task: str,
  example: Example,
  is_truncated: tf.Tensor,
  size: tf.Tensor,
  limit: int | tf.Tensor,
) -> None:
  """Stops the dataset at an input that would be truncated."""
  require(
    ~is_truncated,
    lambda: [
      *where(task, example), ': the input has ', size, ' tokens with EOS, and '
      'the feature length inputs leaves room for ',
      tf.convert_to_tensor(limit), '; raise it, or allow inputs to be '
      'truncated (long_inputs)',
    ],
  )  # fmt: skip


def _check_prompts_not_empty(
  task: str, example: Example, prompt_lengths: tf.Tensor
) -> None:
  """As `examples.check_prompt`."""
  is_empty = (prompt_lengths == 0) | tf.strings.regex_full_match(
    example['prompts_pretokenized'], examples.BLANK_PATTERN
  )
  require(
    ~tf.reduce_any(is_empty),
    lambda: [
      *_where_subtask(task, example, tf.argmax(is_empty)),
      ': the prompt is empty; every subtask needs at least one token, of a '
      'visible character',
    ],
  )  # fmt: skip


def _check_longest(
  task: str,
  example: Example,
  lengths: tf.Tensor,
  limit: int,
  what: str,
  problem: str,
) -> None:
  """Stops the dataset if the longest of [U] exceeds `limit`, and names it."""
  longest = tf.reduce_max(lengths)
  require(
    longest <= limit,
    lambda: [
      *_where_subtask(task, example, tf.argmax(lengths)),
      f': {what} ', longest, f' {problem}',
    ],
  )  # fmt: skip


def _where_subtask(task: str, example: Example, index: tf.Tensor) -> Message:
  name = tf.gather(example['subtasks_pretokenized'], index)
  return [*where(task, example), ', subtask ', _cut(name)]
