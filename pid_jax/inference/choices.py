# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Outputs that are one of given strings.

`build` makes tries of them, to generate one; `compare` answers with the
likeliest, when all have been scored.

Prompts that are asked of many inputs have the same strings each time: those are
tokenised once, and share a trie.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence

import numpy as np

from pid_jax import errors
from pid_jax.decoding import constraints as tries_lib
from pid_jax.inference import text as texts_lib


def build(
  prompts: Sequence[Sequence[str]],
  choices: Sequence[Sequence[Sequence[str] | None]] | None,
  *,
  encode: Callable[[str, str], list[int]],
  decode: Callable[[Iterable[int]], str],
  max_new_tokens: int,
) -> tuple[tries_lib.Tries | None, list[list[int]] | None]:
  """Checks choices and makes tries of them.

  Args:
    prompts: [N][U], checked already.
    choices: [N][U], strings or None: any output; or None: all are.
    encode: maps a string, and what to call it in messages, to ids without EOS.
    decode: maps ids to a string.
    max_new_tokens: of the job.

  Returns:
    The table; and the root of each prompt's trie, [N][U], tries.FREE for None.
    Twice None where nothing is constrained.

  Raises:
    UserError: see texts.check_choices; or the vocabulary cannot write a string,
      or it is too long.
  """
  if choices is None:
    return None, None
  texts_lib.check_choices(prompts, choices, are_optional=True)
  sets: list[tuple[tuple[int, ...], ...]] = []
  # Each list, and lists of equal strings, are looked at once.
  root_of_list: dict[int, tuple[Sequence[str], int]] = {}  # By id.
  root_of_strings: dict[tuple[str, ...], int] = {}

  def root(strings: Sequence[str] | None, name: str) -> int:
    if strings is None:
      return tries_lib.FREE
    if id(strings) not in root_of_list:
      key = tuple(strings)
      if key not in root_of_strings:
        sets.append(encode_set(key, name, encode, decode, max_new_tokens))
        root_of_strings[key] = tries_lib.root(len(sets) - 1)
      root_of_list[id(strings)] = strings, root_of_strings[key]
    return root_of_list[id(strings)][1]

  roots = [
    [root(strings, f'choices[{i}][{u}]') for u, strings in enumerate(own)]
    for i, own in enumerate(choices)
  ]
  return (tries_lib.build(sets), roots) if sets else (None, None)


def compare(
  choices: Sequence[Sequence[Sequence[str]]], rows: Sequence[np.ndarray]
) -> tuple[list[str], list[list[float]]]:
  """Answers with the likeliest choices.

  Args:
    choices: [N][U][K].
    rows: for every prompt in order the log-probabilities of its choices, [K].

  Returns:
    For every prompt in order the answer, and the probabilities of its choices,
    whose sum is 1.
  """
  flat = [own for lists in choices for own in lists]
  answers, probabilities = [], []
  for own, log_probs in zip(flat, rows, strict=True):
    weights = np.exp(log_probs.astype(np.float64) - log_probs.max())
    answers.append(own[int(np.argmax(log_probs))])
    probabilities.append((weights / weights.sum()).tolist())
  return answers, probabilities


def encode_set(
  strings: Sequence[str],
  name: str,
  encode: Callable[[str, str], list[int]],
  decode: Callable[[Iterable[int]], str],
  max_new_tokens: int,
) -> tuple[tuple[int, ...], ...]:
  """Tokenises the choices of a prompt, all of which an output can be.

  Args:
    strings: all different.
    name: what to call them in messages.
    encode: as in `build`, like all that follow.
    decode: maps ids to a string.
    max_new_tokens: of the job.

  Raises:
    UserError: the vocabulary cannot write a string, or it is too long.
  """
  ids_of_strings = tuple(tuple(encode(text, name)) for text in strings)
  for text, ids in zip(strings, ids_of_strings, strict=True):
    written = decode(ids)
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
