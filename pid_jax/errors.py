# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one error type that means "you can mend this", not "we have a bug".

The library raises `UserError` for bad input; the commands print its one line
and end with status 2. Every other exception keeps its traceback.
"""

from collections.abc import Iterable
import difflib


class UserError(ValueError):
  """Bad input, told in one line: what, where, and how to mend it."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
  """Returns the error for a name that is not among the known ones.

  Args:
    kind: what the name stands for, such as 'task'.
    name: the name that was asked for.
    known: all names that would have been right.

  Returns:
    A `UserError` (to be raised by the caller) that shows the nearest names,
    or the first few known ones when none is near.
  """
  known = sorted(set(known))
  near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
  if near:
    hint = f'did you mean {_or(near)}?'
  elif known:
    more = ', ...' if len(known) > 8 else ''
    hint = f'known: {", ".join(known[:8])}{more}'
  else:
    hint = 'none is known'
  return UserError(f'unknown {kind} {name!r}; {hint}')


def _or(names: list[str]) -> str:
  return ' or '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)
