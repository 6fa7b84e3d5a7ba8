# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The error type for mistakes that the user can fix.

The library raises `UserError` for invalid input; the commands print its one
line and exit with status 2. Every other exception keeps its traceback.
"""

from collections.abc import Iterable
import difflib


class UserError(ValueError):
  """Invalid input, in one line: what was found, where, and the remedy."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
  """Returns the error for an unknown name.

  Args:
    kind: of thing that the name refers to, such as 'task'.
    name: the unknown name, or what was given for one.
    known: all valid names.

  Returns:
    A `UserError`, to be raised by the caller, with the most similar names, or
    the first few known ones if none is similar.
  """
  known = sorted(set(known))
  text = str(name)[:60]
  near = difflib.get_close_matches(text, known, n=3, cutoff=0.6)
  if near:
    hint = f'did you mean {_or(near)}?'
  elif known:
    more = ', ...' if len(known) > 8 else ''
    hint = f'known: {", ".join(known[:8])}{more}'
  else:
    hint = 'none is known'
  more = '...' if len(str(name)) > len(text) else ''
  return UserError(f'unknown {kind} {text!r}{more}; {hint}')


def _or(names: list[str]) -> str:
  return ' or '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)
