# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Nested lists of strings: a list of inputs, for each a list of prompts.

The first mistakes of a user of `PromptInDecoder` are made here: one list of
prompts for all inputs, a string for a list, an empty prompt. Each gets its own
message; and so do characters that the vocabulary cannot hold.
"""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import logging
from typing import Any

from pid_jax import errors
from pid_jax.vocabulary import AnyVocabulary

logger = logging.getLogger(__name__)


def check(
  inputs: Sequence[str],
  prompts: Sequence[Sequence[str]],
  targets: Sequence[Sequence[str]] | None = None,
) -> None:
  """Checks that each input has prompts (and targets) of its own.

  Args:
    inputs: N strings.
    prompts: N lists of at least one string, none of them blank.
    targets: None, or as many strings for each input as it has prompts.

  Raises:
    UserError: saying which entry is wrong.
  """
  _check_strings('inputs', inputs)
  for name, lists in (('prompts', prompts), ('targets', targets)):
    if lists is None:
      continue
    if isinstance(lists, str) or len(lists) != len(inputs):
      raise errors.UserError(
        f'There are {len(inputs)} inputs and {len(lists)} lists of {name}: '
        f'give each input a list of {name} of its own.'
      )
    for i, own in enumerate(lists):
      _check_strings(f'{name}[{i}]', own)
  for i, own in enumerate(prompts):
    check_prompts(own, f'[{i}]')
    if targets is not None and len(targets[i]) != len(own):
      raise errors.UserError(
        f'prompts[{i}] holds {len(own)} strings, targets[{i}] '
        f'{len(targets[i])}: give each prompt one target.'
      )


def check_input(text: str) -> None:
  """Raises UserError unless an input is a text that is not blank."""
  if not isinstance(text, str) or not text.strip():
    raise errors.UserError(
      f'inputs must be a text that is not empty. Got {text!r:.80}.'
    )


def check_prompts(own: Sequence[str], place: str = '') -> None:
  """Checks that an input has prompts, none of them blank.

  Args:
    own: its prompts.
    place: of the input among others, such as '[3]', for messages.

  Raises:
    UserError: saying which entry is wrong.
  """
  name = f'prompts{place}'
  _check_strings(name, own)
  if not own:
    raise errors.UserError(
      f'{name} is empty: give inputs{place} at least one prompt.'
    )
  for u, prompt in enumerate(own):
    if not prompt.strip():
      raise errors.UserError(
        f'{name}[{u}] is empty: the model needs one to know what to do.'
      )


def check_choices(
  prompts: Sequence[Sequence[str]],
  choices: Sequence[Sequence[Sequence[str] | None]],
  *,
  are_optional: bool = False,
) -> None:
  """Checks that each prompt has choices, all different.

  Args:
    prompts: N lists of strings, checked already.
    choices: for each prompt a list of at least one string.
    are_optional: whether it may be None instead.

  Raises:
    UserError: saying which entry is wrong.
  """
  if isinstance(choices, str) or len(choices) != len(prompts):
    raise errors.UserError(
      f'There are {len(prompts)} inputs and {len(choices)} lists of choices: '
      'give each input a list, with the choices of each of its prompts.'
    )
  checked = {}  # By id: inputs may share a list, and it may be long.
  for i, (own, lists) in enumerate(zip(prompts, choices, strict=True)):
    check_own_choices(
      own, lists, f'[{i}]', are_optional=are_optional, checked=checked
    )


def check_own_choices(
  prompts: Sequence[str],
  choices: Sequence[Sequence[str] | None],
  place: str = '',
  *,
  are_optional: bool = False,
  checked: dict[int, Sequence[str]] | None = None,
) -> None:
  """Checks that each prompt of an input has choices, all different.

  Args:
    prompts: of the input, checked already.
    choices: for each prompt a list of at least one string.
    place: of the input among others, such as '[3]', for messages.
    are_optional: whether it may be None instead.
    checked: lists that are right, by id; more are added.

  Raises:
    UserError: saying which entry is wrong.
  """
  checked = {} if checked is None else checked
  if not isinstance(choices, Sequence):
    raise errors.UserError(
      f'choices{place} must be a list, with a list for each prompt. Got '
      f'{choices!r:.80}.'
    )
  if isinstance(choices, str) or len(choices) != len(prompts):
    raise errors.UserError(
      f'prompts{place} holds {len(prompts)} strings, choices{place} '
      f'{len(choices)}: give each prompt a list of choices of its own.'
    )
  for u, strings in enumerate(choices):
    if id(strings) in checked or (are_optional and strings is None):
      continue
    checked[id(strings)] = strings
    name = f'choices{place}[{u}]'
    _check_strings(name, strings)
    if not strings:
      raise errors.UserError(f'{name} is empty: give at least one choice.')
    if len(set(strings)) < len(strings):
      twice, _ = collections.Counter(strings).most_common(1)[0]
      raise errors.UserError(f'{name} holds a string twice: {twice!r}.')


class UnknownCharacterCounter:
  """Counts what texts lose on their way through a vocabulary.

  T5's has no braces, no newline and few letters of most scripts: the model
  never sees them, and never says so.
  """

  def __init__(self, vocabulary: AnyVocabulary):
    self._vocabulary = vocabulary
    self._kept: set[str] = set()  # Characters that are not lost alone.
    self._lost: collections.Counter[str] = collections.Counter()
    self._num_texts = self._num_with_losses = 0

  def count(self, *texts: str) -> None:
    """Adds texts to the count."""
    for text in texts:
      self._num_texts += 1
      unsure = set(text) - self._kept
      self._kept |= {c for c in unsure if not self._vocabulary.lost(c)}
      if unsure - self._kept:
        lost = self._vocabulary.lost(text)
        self._lost += lost
        self._num_with_losses += bool(lost)

  def warn(self) -> None:
    """Logs one warning, if anything was lost."""
    if not self._lost:
      return
    most = self._lost.most_common(8)
    told = [f'{character!r} ({times})' for character, times in most]
    logger.warning(
      '%d of %d texts have characters that the vocabulary does not: the model '
      'does not see them. %s%s',
      self._num_with_losses,
      self._num_texts,
      ', '.join(told),
      ', ...' if len(self._lost) > 8 else '',
    )


def _check_strings(name: str, values: Sequence[str]) -> None:
  if (
    isinstance(values, str)
    or not isinstance(values, Iterable)
    or not all(isinstance(x, str) for x in values)
  ):
    raise errors.UserError(
      f'{name} must be a list of strings. Got {values!r:.80}.'
    )


def split(rows: Sequence[Any], prompts: Sequence[Sequence[str]]) -> list[Any]:
  """Splits a flat list into one list per input, an entry for each prompt."""
  rows = iter(rows)
  return [[next(rows) for _ in own] for own in prompts]
