# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Newlines in vocabularies that have none. No TensorFlow.

T5's SentencePiece model maps a newline to a space, so the lines of a clinical
note are lost, and ROUGE-Lsum with them. A task may instead write each newline
as a sentinel, such as '<extra_id_99>', before its text is tokenised, and turn
each sentinel of a prediction into a newline before metrics or users see it.

SentencePiece's treatment of extra ids decides how a sentinel is written. Their
pieces begin with the space mark, so a sentinel is recognised only after a
space: 'a <extra_id_99> b' has one, while 'a<extra_id_99>b' is split into
smaller pieces. Decoding yields a space before each sentinel except the first in
the text, and one space, not two, between two sentinels. So a newline is written
with a space on either side, and restored together with these spaces where they
exist. No line is gained or lost, and each is encoded as it would be alone.
"""

from __future__ import annotations

import re
from typing import Any

from pid_jax import checks
from pid_jax import errors

# Newlines of text and CSV files. Means the same to RE2, which tf.data uses.
PATTERN = r'\r\n|\r|\n'


def spaced(sentinel: str) -> str:
  """Returns what replaces a newline in the text that is tokenised."""
  return f' {sentinel} '


def mark(text: str, sentinel: str | None, where: str = 'the text') -> str:
  """Writes newlines as sentinels.

  Args:
    text: with newlines of Unix, Windows or old Macs, all treated the same.
    sentinel: None returns the text unchanged.
    where: the text's name, for messages.

  Raises:
    UserError: the text contains the sentinel, which would be restored as a
      newline.
  """
  if sentinel is None:
    return text
  if sentinel in text:
    raise errors.UserError(
      f'{where} contains {sentinel!r}, which stands for a newline in this '
      'task: remove it, or choose another sentinel'
    )
  return re.sub(PATTERN, lambda _: spaced(sentinel), text)


def restore(text: str, sentinel: str | None) -> str:
  """Replaces sentinels by newlines; None returns the text unchanged."""
  if sentinel is None:
    return text
  return re.sub(f' ?{re.escape(sentinel)} ?', '\n', text)


def check(sentinel: str | None, vocabulary: Any) -> None:
  """Checks that newlines survive encoding and decoding by a vocabulary.

  Args:
    sentinel: None always passes.
    vocabulary: of `pid_jax.vocabulary`, or one of SeqIO's.

  Raises:
    UserError: they do not survive.
  """
  check_name(sentinel)
  if sentinel is None:
    return
  # First, last and adjacent: the cases where spaces are lost.
  found = vocabulary.decode(vocabulary.encode(mark('\n\n', sentinel)))
  if restore(found, sentinel) != '\n\n':
    raise errors.UserError(
      f'the vocabulary cannot express the newline sentinel {sentinel!r}: two '
      f'of them decode as {found!r}; choose one that the vocabulary has, such '
      'as the last of its extra ids'
    )


def check_name(sentinel: str | None) -> None:
  """Raises UserError for a sentinel that no vocabulary could restore."""
  if sentinel is None:
    return
  checks.string('newline', sentinel)
  if any(c.isspace() for c in sentinel):
    raise errors.UserError(
      'newline must be a sentinel without white space. Got '
      f'{checks.shown(sentinel)}.'
    )


def check_separator(sentinel: str | None, joint_separator: str) -> None:
  """Checks that the joint layout's separator is not taken for a newline.

  Raises:
    UserError: one contains the other.
  """
  if sentinel is None:
    return
  separator = joint_separator.strip()
  if separator and (separator in sentinel or sentinel in separator):
    raise errors.UserError(
      f'the newline sentinel {sentinel!r} and the joint_separator '
      f'{joint_separator!r} must not contain each other'
    )
