# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Texts: what is checked of them, and how they become ids and ids texts.

The first mistakes of a user of `PromptInDecoder` are made here: one list of
prompts for all inputs, a string for a list, an empty prompt. Each has a message
that names the entry; so have characters that the vocabulary cannot hold. Texts
are checked and tokenised once, where they enter.
"""

import collections
from collections.abc import Iterable
from collections.abc import Sequence
import functools
import logging
from typing import Any

from pid_jax import errors
from pid_jax.inference import batching
from pid_jax.subtasks import newlines
from pid_jax.vocabulary import AnyVocabulary

logger = logging.getLogger(__name__)

# Lists of choices that are kept as ids: prompts that are asked again and again
# have the same ones each time.
_NUM_CHOICE_LISTS = 1024


def check(
  inputs: Sequence[str],
  prompts: Sequence[Sequence[str]],
  *,
  targets: Sequence[Sequence[str]] | None = None,
  choices: Sequence[Sequence[Sequence[str] | None]] | None = None,
) -> None:
  """Checks that each input has prompts, and these their targets or choices.

  Args:
    inputs: N strings.
    prompts: N lists of at least one string, none of them blank.
    targets: None, or as many strings for each input as it has prompts.
    choices: None, or as many lists of strings (or None); what is in these is
      checked when they are tokenised.

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
    for i, texts in enumerate(lists):
      _check_strings(f'{name}[{i}]', texts)
  for i, texts in enumerate(prompts):
    check_prompts(texts, f'[{i}]')
    if targets is not None and len(targets[i]) != len(texts):
      raise errors.UserError(
        f'prompts[{i}] holds {len(texts)} strings, targets[{i}] '
        f'{len(targets[i])}: give each prompt one target.'
      )
  if choices is None:
    return
  if isinstance(choices, str) or len(choices) != len(prompts):
    raise errors.UserError(
      f'There are {len(prompts)} inputs and {len(choices)} lists of choices: '
      'give each input a list, with the choices of each of its prompts.'
    )
  for i, (texts, lists) in enumerate(zip(prompts, choices, strict=True)):
    check_choices(texts, lists, f'[{i}]')


def check_input(text: str) -> None:
  """Raises UserError unless an input is a text that is not blank."""
  if not isinstance(text, str) or not text.strip():
    raise errors.UserError(
      f'inputs must be a text that is not empty. Got {text!r:.80}.'
    )


def check_prompts(prompts: Sequence[str], place: str = '') -> None:
  """Checks that an input has prompts, none of them blank.

  Args:
    prompts: of the input.
    place: of the input among others, such as '[3]', for messages.

  Raises:
    UserError: saying which entry is wrong.
  """
  name = f'prompts{place}'
  _check_strings(name, prompts)
  if not prompts:
    raise errors.UserError(
      f'{name} is empty: give inputs{place} at least one prompt.'
    )
  for u, prompt in enumerate(prompts):
    if not prompt.strip():
      raise errors.UserError(
        f'{name}[{u}] is empty: the model needs one to know what to do.'
      )


def check_choices(
  prompts: Sequence[str],
  choices: Sequence[Sequence[str] | None],
  place: str = '',
) -> None:
  """Checks that each prompt of an input has an entry for its choices.

  Args:
    prompts: of the input, checked already.
    choices: for each prompt a list or None; see `Tokenizer.encode_choices`.
    place: of the input among others, such as '[3]', for messages.

  Raises:
    UserError: saying which entry is wrong.
  """
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


def _check_strings(name: str, values: Sequence[str]) -> None:
  if (
    isinstance(values, str)
    or not isinstance(values, Iterable)
    or not all(isinstance(x, str) for x in values)
  ):
    raise errors.UserError(
      f'{name} must be a list of strings. Got {values!r:.80}.'
    )


class Tokenizer:
  """Texts to ids and back, through a vocabulary and the newline sentinel.

  Attributes:
    vocabulary: ours, or one of SeqIO's.
    newline: the sentinel that newlines are written as, or None.
    unknown: counts the characters that are lost, if asked to.
  """

  def __init__(
    self,
    vocabulary: AnyVocabulary,
    newline: str | None = None,
    unknown: 'UnknownCharacterCounter | None' = None,
  ):
    self.vocabulary, self.newline, self.unknown = vocabulary, newline, unknown
    self._choices: dict[Any, batching.TokenSequences] = {}  # By strings.

  def encode(self, text: str, name: str = 'the text') -> list[int]:
    """Returns the ids of a text, without EOS.

    Args:
      text: the text.
      name: what to call it in messages.

    Raises:
      UserError: it holds `newline`, or half of a character.
    """
    text = newlines.mark(text, self.newline, name)
    try:
      text.encode()
    except UnicodeEncodeError as e:
      raise errors.UserError(
        f'{name} holds {text[e.start]!r}, half of a surrogate pair, which is '
        'no character: decode the text again, or take it out.'
      ) from e
    ids = self.vocabulary.encode(text)
    if self.unknown is not None:
      self.unknown.count(text, ids)
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text of ids, up to EOS."""
    return newlines.restore(self.vocabulary.decode(ids), self.newline)

  def encode_choices(
    self,
    strings: Sequence[str],
    name: str,
    max_new_tokens: int | None = None,
  ) -> batching.TokenSequences:
    """Checks the choices of a prompt and tokenises them, equal lists once.

    Args:
      strings: at least one, all different.
      name: what to call them in messages.
      max_new_tokens: where outputs are cut, if one of the strings is to be
        generated; None: they are only scored.

    Returns:
      The ids of each string, without EOS. The same object for equal lists.

    Raises:
      UserError: there is no string, one twice, or something else; or one to be
        generated is too long, or the vocabulary cannot write it.
    """
    _check_strings(name, strings)
    strings = tuple(strings)
    key = strings, max_new_tokens
    if key not in self._choices:
      if len(self._choices) == _NUM_CHOICE_LISTS:
        self._choices.pop(next(iter(self._choices)))  # The oldest.
      self._choices[key] = self._encode_choices(strings, name, max_new_tokens)
    return self._choices[key]

  def _encode_choices(
    self, strings: tuple[str, ...], name: str, max_new_tokens: int | None
  ) -> batching.TokenSequences:
    if not strings:
      raise errors.UserError(f'{name} is empty: give at least one choice.')
    if len(set(strings)) < len(strings):
      twice, _ = collections.Counter(strings).most_common(1)[0]
      raise errors.UserError(f'{name} holds a string twice: {twice!r}.')
    ids_of_strings = tuple(tuple(self.encode(text, name)) for text in strings)
    if max_new_tokens is None:
      return ids_of_strings
    for text, ids in zip(strings, ids_of_strings, strict=True):
      written = self.decode(ids)
      if written != text:
        raise errors.UserError(
          f'{name} holds {text!r}, which the vocabulary cannot write: it would '
          f'read {written!r}. Take it out, or put it in other characters.'
        )
    longest = max(range(len(strings)), key=lambda i: len(ids_of_strings[i]))
    needed = len(ids_of_strings[longest]) + 1
    if needed > max_new_tokens:
      raise errors.UserError(
        f'{name} holds {strings[longest]!r}, which takes {needed} tokens with '
        f'EOS: raise max_new_tokens, now {max_new_tokens}, or take it out.'
      )
    return ids_of_strings


class UnknownCharacterCounter:
  """Counts what texts lose on their way through a vocabulary.

  T5's has no braces, no newline and few letters of most scripts: the model
  never sees them, and never says so.
  """

  def __init__(self, vocabulary: AnyVocabulary):
    self._vocabulary = vocabulary
    self._lost: collections.Counter[str] = collections.Counter()
    self._num_texts = self._num_with_unknown = 0

  def count(self, text: str, ids: Sequence[int]) -> None:
    """Adds a text to the count.

    Args:
      text: the text.
      ids: what the vocabulary made of it.
    """
    self._num_texts += 1
    lost: collections.Counter[str] = collections.Counter()
    if self._vocabulary.unk_id in ids:
      lost = self._vocabulary.lost(text)  # Tokenises again, to name them.
    elif self._loses_newlines and '\n' in text:
      lost['\n'] = text.count('\n')
    self._lost += lost
    self._num_with_unknown += bool(lost)

  @functools.cached_property
  def _loses_newlines(self) -> bool:
    return bool(self._vocabulary.lost('\n'))

  def warn(self) -> None:
    """Logs one warning, if anything was lost."""
    if not self._lost:
      return
    most = self._lost.most_common(8)
    told = [f'{character!r} ({times})' for character, times in most]
    logger.warning(
      '%d of %d texts have characters that the vocabulary does not: the model '
      'does not see them. %s%s',
      self._num_with_unknown,
      self._num_texts,
      ', '.join(told),
      ', ...' if len(self._lost) > 8 else '',
    )
