# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Types of flags: each checks its value before any large library is loaded.

argparse calls a type with the text of a flag. `int` and `float` would accept
'1_0', digits of other scripts, 'nan' and any size; these go by `checks`, as the
dataclasses of settings do, and fail in argparse's one line.
"""

import argparse
from collections.abc import Callable
from collections.abc import Collection
import os
import re
from typing import Any

from pid_jax import checks
from pid_jax import errors
from pid_jax import files

_INTEGER = re.compile(r'[+-]?[0-9]{1,30}')
_NUMBER = re.compile(
  r'[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})(e[+-]?[0-9]{1,4})?', re.I
)
_VALUE = 'the value'


def integer(
  least: int | None = None, most: int | None = None
) -> Callable[[str], int]:
  """Returns the type of a whole number; limits as in `checks.integer`."""

  def parse(text: str) -> int:
    value = int(text) if _INTEGER.fullmatch(text) else text
    return _checked(checks.integer, value, least, most)

  return parse


def number(
  *limits: float | None, **more: float | None
) -> Callable[[str], float]:
  """Returns the type of a finite number; limits as in `checks.number`."""

  def parse(text: str) -> float:
    value = float(text) if _NUMBER.fullmatch(text) else text
    return _checked(checks.number, value, *limits, **more)

  return parse


def path(text: str) -> str:
  """The type of a path: '~' is expanded."""
  try:
    return os.fspath(files.path(text, _VALUE))
  except errors.UserError as e:
    raise argparse.ArgumentTypeError(str(e).rstrip('.')) from e


def paths(text: str) -> list[str]:
  """The type of a list of paths, separated by commas."""
  return [path(element) for element in comma_separated('path')(text)]


def name(text: str) -> str:
  """The type of a name: anything but spaces alone."""
  return _checked(checks.string, text)


def lengths(text: str) -> dict[str, int]:
  """The type of feature lengths: 'inputs=512,targets=64' -> a dict."""
  found = {}
  for part in filter(None, text.split(',')):
    feature, _, tokens = part.partition('=')
    if not re.fullmatch('0*[1-9][0-9]{0,9}', tokens) or not feature.strip():
      raise argparse.ArgumentTypeError(
        f'cannot read the feature length {checks.shown(part)}; write '
        'NAME=TOKENS, such as inputs=512,targets=64'
      )
    found[feature.strip()] = int(tokens)
  return found


def comma_separated(
  kind: str, choices: Collection[str] = ()
) -> Callable[[str], list[str]]:
  """Returns the type of a list: 'a,b' -> ['a', 'b'].

  Args:
    kind: what an element is, such as 'layout', for the message.
    choices: all elements that there are; none: anything.
  """

  def parse(value: str) -> list[str]:
    names = [part.strip() for part in value.split(',')]
    for element in names:
      if choices and element not in choices:
        raise argparse.ArgumentTypeError(
          str(errors.unknown(kind, element, choices))
        )
      if not element:
        raise argparse.ArgumentTypeError(
          f'a {kind} is empty in {checks.shown(value)}'
        )
    return names

  return parse


def integers(least: int, most: int) -> Callable[[str], list[int]]:
  """Returns the type of a list of whole numbers: '1,10' -> [1, 10]."""
  one = integer(least, most)
  return lambda text: [one(part) for part in comma_separated('number')(text)]


def _checked(check: Callable[..., Any], value: Any, *limits, **more) -> Any:
  try:
    return check(_VALUE, value, *limits, **more)
  except errors.UserError as e:
    raise argparse.ArgumentTypeError(str(e).rstrip('.')) from e
