# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the distributor's files of MultiWOZ 2.4.

data.json maps the id of a dialogue to its `log`, in which user (even) and
system (odd) take turns; the `metadata` of a system's turn is the state after
the user's turn before it. testListFile.json and valListFile.json are plain
text, one id a line, despite their names; all other dialogues are for training.

What is made of it, as is usual for this data set:
- Text and values are in lower case, so that a value can be copied: in that of
  the distributor, capitals are anyone's guess.
- A value with `|`, `<` or `>` in it is several, of which any is right. Nothing
  else is done to a value; above all, no time of day is rewritten.
- A dialogue is left out if it has an odd number of turns, or broken text:
  characters beyond ASCII (after typographic quotes are made plain), or a turn
  of more than 50 words and punctuation marks. The distributor's create_data.py
  does the same. Beyond that, one is left out that has a turn without a state.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

from pid_jax import errors
from pid_jax.tasks import records
from pid_jax.tasks.multiwoz import ontology

DATA_FILE = 'data.json'
LIST_FILES = {
  'validation': 'valListFile.json',
  'test': 'testListFile.json',
}
MOST_WORDS = 50

_EMPTY = ('none', 'not mentioned')
_DONTCARE = ('dont care', 'dontcare', "don't care", 'do not care')
_QUOTES = str.maketrans('‘’“”', '\'\'""')
# As create_data.py counts: a mark is a word of its own, but in 3.50.
_WORDS = re.compile(r'[?.,!](?!\d)|(?:[^\s?.,!]|[?.,!](?=\d))+')

# By the full name of a slot that is filled, its right values.
State = dict[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Turn:
  """What user and system say in turn, and the state in between.

  Attributes:
    user: what the user says.
    system: what the system answers.
    state: after the user has spoken, of the 30 slots.
  """

  user: str
  system: str
  state: State


def read(
  split: str,
  data_file: records.Path,
  list_files: dict[str, records.Path],
  account: records.Account,
) -> Iterator[tuple[str, list[Turn]]]:
  """Reads the dialogues of a split.

  Args:
    split: 'train', 'validation' or 'test'.
    data_file: of all dialogues.
    list_files: by split, that of each of LIST_FILES.
    account: to count in, and to note what is left out.

  Yields:
    The id of each dialogue, and its turns.

  Raises:
    UserError: a file, or a record of it, is not of the distributor's form.
  """
  data = records.read_json(data_file, dict)
  split_of = _read_lists(list_files, data, data_file)
  for name, dialogue in data.items():
    if split_of.get(name, 'train') != split:
      continue
    where = f'dialogue {name}'
    account.count('dialogues in the files')
    with account.record(data_file, where):
      log = [_Entry.of(turn) for turn in dialogue['log']]
      why = _why_to_skip(log)
      turns = [] if why else _turns(log, account)
    if why:
      account.skip(data_file, where, why)
    else:
      account.count('dialogues')
      account.count('turns', len(turns))
      yield name, turns


def values_of(annotated: str) -> list[str]:
  """Returns the right values of a slot, the first of which is the target.

  Args:
    annotated: as it stands in the file, 'cheap|moderate'.

  Returns:
    Each once, in lower case; 'dontcare' for all ways to write it. An empty list
    if the slot is empty. If it may be empty as well, 'none' comes last.
  """
  values = []
  for value in re.split('[|<>]', annotated.lower().translate(_QUOTES)):
    value = ' '.join(value.split())
    if value in _DONTCARE:
      value = ontology.DONTCARE
    if value:
      values.append(ontology.NONE if value in _EMPTY else value)
  filled = [value for value in values if value != ontology.NONE]
  if filled and len(filled) < len(values):
    filled.append(ontology.NONE)
  return list(dict.fromkeys(filled))


@dataclasses.dataclass(frozen=True)
class _Entry:
  """One turn of a log: its text, unified, and its metadata."""

  text: str
  metadata: dict[str, Any]

  @classmethod
  def of(cls, turn: dict[str, Any]) -> _Entry:
    text = ' '.join(turn['text'].translate(_QUOTES).lower().split())
    return cls(text, turn['metadata'])


def _why_to_skip(log: list[_Entry]) -> str | None:
  if len(log) % 2 or not log:
    return 'has an odd number of turns' if log else 'has no turns'
  if any(not entry.text.isascii() for entry in log):
    return 'has broken text: characters beyond ASCII'
  if any(len(_WORDS.findall(entry.text)) > MOST_WORDS for entry in log):
    return f'has broken text: a turn of more than {MOST_WORDS} words'
  if any(not entry.metadata for entry in log[1::2]):
    return 'has a turn without a state'
  return None


def _turns(log: list[_Entry], account: records.Account) -> list[Turn]:
  return [
    Turn(user.text, system.text, _state(system.metadata, account))
    for user, system in zip(log[::2], log[1::2], strict=True)
  ]


def _state(metadata: dict[str, Any], account: records.Account) -> State:
  """Reads the 30 slots of a state; counts what others are filled."""
  found = {}
  for domain, parts in metadata.items():
    for prefix, part in [('', 'semi'), ('book ', 'book')]:
      for slot, annotated in parts[part].items():
        if prefix and slot == 'booked':  # What was booked, not what is wanted.
          continue
        found[f'{domain}-{prefix}{slot}'.lower()] = values_of(annotated)
  state = {}
  for name in ontology.SLOT_NAMES:
    if values := found.pop(name, None):
      state[name] = values
      account.count('filled slots')
  account.count(
    'filled slots beyond the 30, left out', sum(map(bool, found.values()))
  )
  return state


def _read_lists(
  list_files: dict[str, records.Path],
  data: dict[str, Any],
  data_file: records.Path,
) -> dict[str, str]:
  """Returns the split of each dialogue that is listed."""
  split_of = {}
  for split, path in list_files.items():
    names = records.read_lines(path)
    if not names:
      raise errors.UserError(
        f'{path} is empty; it needs one dialogue id a line'
      )
    for number, name in enumerate(names, start=1):
      if name not in data:
        raise errors.UserError(
          f'{path}, id {number}: {name!r} is no dialogue of {data_file}; are '
          'both of the same release, and the list one id a line?'
        )
      if name in split_of:
        raise errors.UserError(
          f'{path}, id {number}: {name!r} is listed for {split_of[name]} '
          'already; a dialogue belongs to one split'
        )
      split_of[name] = split
  return split_of
