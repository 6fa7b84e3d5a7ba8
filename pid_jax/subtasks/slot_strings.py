# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Several slots as one string, for subtasks that answer a group of slots.

  area = north | stars = 4    two slots are filled, all others are empty
  none                        all slots are empty

These characters are in T5's vocabulary (braces and newlines are not), and ';'
is left to the joint layout. `parse_slots` accepts any model output: parts that
are not pairs are returned too, so that a metric can count them as errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence

EMPTY = 'none'
_SLOT_SEPARATOR = '|'
_VALUE_SEPARATOR = '='


def format_slots(values: Mapping[str, str]) -> str:
  """Formats the filled slots of a group, in the given order.

  Args:
    values: slot name -> value; runs of white space become single spaces.

  Returns:
    A string that `parse_slots` inverts.

  Raises:
    ValueError: a name or value is blank, or contains a separator.
  """
  pairs = []
  for name, value in values.items():
    name, value = _unify(name), _unify(value)
    if (
      not name
      or not value
      or _SLOT_SEPARATOR in name + value
      or _VALUE_SEPARATOR in name
    ):
      raise ValueError(
        f'a slot needs a name without {_SLOT_SEPARATOR} and {_VALUE_SEPARATOR},'
        f' and a value without {_SLOT_SEPARATOR}. Got {name!r} with {value!r}.'
      )
    pairs.append(f'{name} {_VALUE_SEPARATOR} {value}')
  return f' {_SLOT_SEPARATOR} '.join(pairs) or EMPTY


def parse_slots(text: str) -> tuple[dict[str, str], list[str]]:
  """Parses a group of slots, as formatted or as predicted.

  Args:
    text: of any form.

  Returns:
    Slot name -> value; and the parts that are not valid pairs: without a name,
    a value or a separator, or a repeated slot. An empty `text` is one invalid
    part, the empty string.
  """
  values, invalid = {}, []
  if text.split() == [EMPTY]:
    return values, invalid
  for part in text.split(_SLOT_SEPARATOR):
    name, _, value = part.partition(_VALUE_SEPARATOR)
    name, value = _unify(name), _unify(value)
    if name and value and name not in values:
      values[name] = value
    else:
      invalid.append(_unify(part))
  return values, invalid


def gold_values(target: str, pairs: Sequence[str]) -> dict[str, list[str]]:
  """Returns all gold values of the filled slots of a group.

  Args:
    target: of the group, from `format_slots`.
    pairs: 'name = value' for each gold value of the slots that have several.
  """
  values = {name: [value] for name, value in parse_slots(target)[0].items()}
  alternatives = {}
  for pair in pairs:
    for name, value in parse_slots(pair)[0].items():
      alternatives.setdefault(name, []).append(value)
  return values | alternatives


def _unify(text: str) -> str:
  return ' '.join(text.split())
