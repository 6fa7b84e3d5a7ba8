# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks of single values, by type and range, in one line.

Dataclasses of settings call these in `__post_init__`, functions at their start:
a value is checked once, where it enters. Each returns the value as the plain
Python type.
"""

from collections.abc import Collection
from collections.abc import Mapping
from collections.abc import Sequence
import math
import numbers
from typing import Any

from pid_jax import errors

# Limits of what users set, far beyond what is of use; the memory of a batch is
# checked where it is known.
MOST_TOKENS = 1 << 20
MOST_INPUTS = 1 << 20  # Of a batch.
MOST_DEVICES = 1 << 20
MOST_BEAMS = 1 << 12
MOST_EXTRA_IDS = 100_000  # Sentinels of a vocabulary.
MOST_SEED = (1 << 32) - 1
TEMPERATURES = (1e-6, 1e6)  # Beyond, float32 logits overflow or vanish.
# A penalty of 1e5 would turn all scores into infinities.
LENGTH_PENALTIES = (-2.0, 5.0)

_MAX_SHOWN = 60


def shown(value: Any) -> str:
  """Returns `repr(value)` on one line, cut where it is long."""
  try:
    text = ' '.join(repr(value).split())
  except Exception:  # Of any type; of an integer with too many digits, too.
    text = f'<{type(value).__name__}>'
  return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + '...'


def integer(
  name: str, value: Any, least: int | None = None, most: int | None = None
) -> int:
  """Returns a whole number.

  Args:
    name: of the setting, for the message.
    value: an int or NumPy integer; a bool is none.
    least: smallest value that is allowed.
    most: largest value that is allowed.

  Raises:
    UserError: it is no whole number, or out of range.
  """
  allowed = f'a whole number{_range(least, most)}'
  if isinstance(value, bool) or not isinstance(value, numbers.Integral):
    raise _wrong(name, value, allowed)
  value = int(value)
  if (least is not None and value < least) or (
    most is not None and value > most
  ):
    raise _wrong(name, value, allowed)
  return value


def number(
  name: str,
  value: Any,
  least: float | None = None,
  most: float | None = None,
  *,
  above: float | None = None,
  below: float | None = None,
) -> float:
  """Returns a finite number.

  Args:
    name: of the setting, for the message.
    value: an int, float or NumPy scalar; a bool is none.
    least: smallest value that is allowed.
    most: largest value that is allowed.
    above: value that it must exceed.
    below: value that it must not reach.

  Raises:
    UserError: it is no number, not finite, or out of range.
  """
  allowed = f'a finite number{_range(least, most, above, below)}'
  if isinstance(value, bool) or not isinstance(value, numbers.Real):
    raise _wrong(name, value, allowed)
  try:
    value = float(value)
  except OverflowError as e:
    raise _wrong(name, value, allowed) from e
  if (
    not math.isfinite(value)
    or (least is not None and value < least)
    or (most is not None and value > most)
    or (above is not None and value <= above)
    or (below is not None and value >= below)
  ):
    raise _wrong(name, value, allowed)
  return value


def boolean(name: str, value: Any) -> bool:
  """Returns True or False; raises UserError for anything else, also 0 and 1."""
  if not isinstance(value, bool):
    raise _wrong(name, value, 'True or False')
  return value


def string(name: str, value: Any, *, allow_empty: bool = False) -> str:
  """Returns a string; raises UserError for other types, and for a blank one.

  And for one with half of a surrogate pair, which no file can hold.
  """
  is_text = isinstance(value, str) and (allow_empty or bool(value.strip()))
  if not is_text or has_surrogate(value):
    raise _wrong(name, value, 'a string')
  return value


def has_surrogate(text: str) -> bool:
  """Whether a string holds half of a surrogate pair, which is no character."""
  try:
    text.encode()
  except UnicodeEncodeError:
    return True
  return False


def one_of(name: str, value: Any, choices: Collection[Any]) -> Any:
  """Returns a value that is one of some; raises UserError if it is not."""
  if not isinstance(value, str | int | float | None) or value not in choices:
    raise _wrong(name, value, 'one of ' + ', '.join(map(repr, choices)))
  return value


def mapping(
  name: str, value: Any, allowed: str = 'an object'
) -> Mapping[Any, Any]:
  """Returns a mapping; raises UserError for anything else."""
  if not isinstance(value, Mapping):
    raise _wrong(name, value, allowed)
  return value


def sequence(name: str, value: Any, allowed: str = 'a list') -> Sequence[Any]:
  """Returns a list or tuple; raises UserError for anything else."""
  if not isinstance(value, list | tuple):
    raise _wrong(name, value, allowed)
  return value


def _range(
  least: float | None,
  most: float | None,
  above: float | None = None,
  below: float | None = None,
) -> str:
  bounds = [
    words.format(_digits(bound))
    for bound, words in (
      (least, 'at least {}'),
      (above, 'above {}'),
      (most, 'at most {}'),
      (below, 'below {}'),
    )
    if bound is not None
  ]
  return f', {" and ".join(bounds)}' if bounds else ''


def _digits(value: float) -> str:
  return f'{value:,}' if isinstance(value, int) else f'{value:g}'


def _wrong(name: str, value: Any, allowed: str) -> errors.UserError:
  return errors.UserError(f'{name} must be {allowed}; got {shown(value)}.')
