# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The error type for mistakes that the user can fix.

The library raises `UserError` for invalid input; the commands print its one
line and exit with status 2. Every other exception keeps its traceback.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import difflib
import functools
from typing import Any, TypeVar

_Function = TypeVar('_Function', bound=Callable[..., Any])


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


class UnknownArgument(UserError, TypeError):
  """An argument that a function does not have, as Python's TypeError is."""


def unknown_argument(
  function: str,
  name: str,
  known: Iterable[str],
  other_names: Mapping[str, str],
) -> UnknownArgument:
  """Returns the error for an argument that a function does not have.

  Args:
    function: its name.
    name: of the argument.
    known: all arguments of the function.
    other_names: other libraries' names of arguments -> what to write instead.

  Returns:
    To be raised by the caller.
  """
  known = set(known)
  near = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)
  remedy = other_names.get(name)
  if remedy is not None and remedy.partition('=')[0] in known:
    hint = f'use {remedy}'
  elif near:
    hint = f'did you mean {_or(near)}?'
  else:
    hint = f'its arguments are {", ".join(sorted(known))}'
  return UnknownArgument(f'{function} has no argument {name!r}; {hint}')


def unwrapped(function: _Function) -> _Function:
  """Decorates a function that calls what raises other errors from UserErrors.

  Returns:
    The function, which raises such a UserError itself.
  """

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    try:
      return function(*args, **kwargs)
    except Exception as e:
      cause: BaseException | None = e
      while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
      if cause is None or cause is e:
        raise
      raise cause from e

  return call


def _or(names: list[str]) -> str:
  return ' or '.join([', '.join(names[:-1]), names[-1]] if names[1:] else names)
