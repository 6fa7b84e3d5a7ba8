# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A group of slots as one string, for subtasks that answer several at once.

  area = north | stars = 4    two slots are filled, all others are empty
  none                        all are empty

T5's vocabulary has these characters (it has no braces and no line breaks), and
';' is left to the joint layout. Whatever a model writes can be read: what is no
pair is handed back, so that a metric can count it as the mistake it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

EMPTY = 'none'
_BETWEEN_SLOTS = '|'
_BETWEEN_NAME_AND_VALUE = '='


def write(values: Mapping[str, str]) -> str:
  """Writes the filled slots of a group in the order given.

  Args:
    values: by the name of a slot; runs of white space become single spaces.

  Returns:
    A string that `read` takes apart again.

  Raises:
    ValueError: a name or value is blank, or holds a character that would be
      read as a separator.
  """
  pairs = []
  for name, value in values.items():
    name, value = ' '.join(name.split()), ' '.join(value.split())
    is_wrong = (
      not name
      or not value
      or _BETWEEN_SLOTS in name + value
      or _BETWEEN_NAME_AND_VALUE in name
    )
    if is_wrong:
      raise ValueError(
        f'a slot of a group needs a name without {_BETWEEN_SLOTS} and '
        f'{_BETWEEN_NAME_AND_VALUE}, and a value without {_BETWEEN_SLOTS}. '
        f'Got {name!r} with {value!r}.'
      )
    pairs.append(f'{name} {_BETWEEN_NAME_AND_VALUE} {value}')
  return f' {_BETWEEN_SLOTS} '.join(pairs) or EMPTY


def read(text: str) -> tuple[dict[str, str], list[str]]:
  """Reads what `write` wrote, or what a model made of it.

  Args:
    text: of a group.

  Returns:
    The values by the names of their slots, and the parts that are none: without
    a name, a value or the sign between them, or of a slot that was read before.
    Of an empty `text` that is the empty string.
  """
  values, rest = {}, []
  if text.split() == [EMPTY]:
    return values, rest
  for part in text.split(_BETWEEN_SLOTS):
    name, _, value = part.partition(_BETWEEN_NAME_AND_VALUE)
    name, value = ' '.join(name.split()), ' '.join(value.split())
    if name and value and name not in values:
      values[name] = value
    else:
      rest.append(' '.join(part.split()))
  return values, rest


def right_values(target: str, pairs: Sequence[str]) -> dict[str, list[str]]:
  """Returns all right values of the filled slots of a group.

  Args:
    target: of the group, as `write` wrote it.
    pairs: 'name = value' for each right value of slots that have several.
  """
  values = {name: [value] for name, value in read(target)[0].items()}
  several = {}
  for pair in pairs:
    for name, value in read(pair)[0].items():
      several.setdefault(name, []).append(value)
  return values | several
