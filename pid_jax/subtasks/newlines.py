# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Lines for vocabularies that have no newline. No TensorFlow.

T5's SentencePiece model takes a newline for a space, so the lines of a clinical
note are lost, and ROUGE-Lsum with them. Instead, a task may write each newline
as a sentinel, such as '<extra_id_99>', before its text is tokenised, and read
each sentinel of a prediction as a newline before metrics or users see it.

How SentencePiece treats extra ids decides how a sentinel is written. Their
pieces begin with the mark of a space, so that one is found behind a space
alone: 'a <extra_id_99> b' holds one, and 'a<extra_id_99>b' falls into crumbs.
Decoding gives the space back, but none before a sentinel that comes first, and
one, not two, between two sentinels. So a newline is written with a space on
either side, and read with a space on either side, if it is there. No line is
gained or lost, and each is what the vocabulary makes of it by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterable
import re

from pid_jax import errors

# As Python and CSV files have them; RE2 of tf.data reads it alike.
PATTERN = r'\r\n|\r|\n'


def written(sentinel: str) -> str:
  """Returns what stands for a newline in the text that is tokenised."""
  return f' {sentinel} '


def mark(text: str, sentinel: str | None, where: str = 'the text') -> str:
  """Writes newlines as sentinels.

  Args:
    text: with newlines (also the two other kinds, which become plain ones).
    sentinel: None leaves the text as it is.
    where: the text's name, for messages.

  Raises:
    UserError: the text holds the sentinel, which would come back as a newline.
  """
  if sentinel is None:
    return text
  if sentinel in text:
    raise errors.UserError(
      f'{where} contains {sentinel!r}, which stands for a newline in this '
      'task: take it out, or choose another sentinel'
    )
  return re.sub(PATTERN, lambda _: written(sentinel), text)


def restore(text: str, sentinel: str | None) -> str:
  """Reads sentinels as newlines; None leaves the text as it is."""
  if sentinel is None:
    return text
  return re.sub(f' ?{re.escape(sentinel)} ?', '\n', text)


def check(
  sentinel: str | None,
  encode: Callable[[str], Iterable[int]],
  decode: Callable[[Iterable[int]], str],
) -> None:
  """Raises unless a vocabulary gives every newline back.

  Args:
    sentinel: None is always right.
    encode: of the vocabulary.
    decode: of the vocabulary.

  Raises:
    UserError: it does not.
  """
  if sentinel is None:
    return
  # First, last, and next to one another: where spaces are lost.
  found = decode(encode(mark('\n\n', sentinel)))
  if restore(found, sentinel) != '\n\n':
    raise errors.UserError(
      f'the vocabulary cannot express the newline sentinel {sentinel!r}: two '
      f'of them decode as {found!r}; choose one that the vocabulary has, such '
      'as the last of its extra ids'
    )


def check_name(sentinel: str | None, joint_separator: str) -> None:
  """Raises ValueError for a sentinel that no vocabulary could bring back."""
  if sentinel is None:
    return
  if not sentinel or any(c.isspace() for c in sentinel):
    raise ValueError(
      f'newline must be a sentinel without white space. Got {sentinel!r}.'
    )
  between = joint_separator.strip()
  if between and (between in sentinel or sentinel in between):
    raise ValueError(
      f'the newline sentinel {sentinel!r} and the joint_separator '
      f'{joint_separator!r} must not contain each other'
    )
