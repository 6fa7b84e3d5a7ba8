# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads the distributor's files of MultiWOZ 2.4.

data.json maps the id of a dialogue to its `log`, in which user (even) and
system (odd) take turns; the `metadata` of a system turn is the state after the
preceding user turn. testListFile.json and valListFile.json are plain text with
one id per line, despite their names; all other dialogues are for training.

Processing, as is usual for this data set:
- Text and values are lower-cased, since capitalisation in the files is
  inconsistent and values should be copyable.
- A value with `|`, `<` or `>` is several alternatives, all of them gold. Values
  are otherwise unchanged; in particular, times of day are not rewritten.
- A dialogue is skipped if it has an odd number of turns, or broken text:
  non-ASCII characters (after typographic quotes are replaced), or a turn of
  more than 50 words and punctuation marks, as in the distributor's
  create_data.py; or if a turn has no state.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import re
from typing import Any

from pid_jax import checks
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
# As in create_data.py: punctuation marks count as words, except inside 3.50.
_WORDS = re.compile(r'[?.,!](?!\d)|(?:[^\s?.,!]|[?.,!](?=\d))+')

# Full name of a filled slot -> its gold values.
State = dict[str, list[str]]


@dataclasses.dataclass(frozen=True)
class Turn:
  """A user turn with its state, and the system's answer.

  Attributes:
    user: text of the user.
    system: text of the system.
    state: after the user's text, of the 30 slots.
  """

  user: str
  system: str
  state: State


def read(
  split: str,
  data_file: records.Path,
  list_files: dict[str, records.Path],
  report: records.ReadReport,
) -> Iterator[tuple[str, list[Turn]]]:
  """Reads the dialogues of a split.

  Args:
    split: 'train', 'validation' or 'test'.
    data_file: of all dialogues.
    list_files: by split, the files of LIST_FILES.
    report: for counts, skipped dialogues and errors.

  Yields:
    The id of each dialogue, and its turns.

  Raises:
    UserError: a file or a record does not have the distributor's format.
  """
  data = records.read_json(data_file, dict)
  split_of = _read_lists(list_files, data, data_file)
  for name, dialogue in data.items():
    if split_of.get(name, 'train') != split:
      continue
    where = f'dialogue {name}'
    report.count('dialogues in the files')
    with report.reading(data_file, where):
      log = [_LogEntry.parse(turn) for turn in dialogue['log']]
      why = _why_to_skip(log)
      turns = [] if why else _turns(log, report)
    if why:
      report.skip(data_file, where, why)
    else:
      report.count('dialogues')
      report.count('turns', len(turns))
      yield name, turns


def values_of(annotated: str) -> list[str]:
  """Returns the gold values of a slot, the target first.

  Args:
    annotated: the value in the file, such as 'cheap|moderate'.

  Returns:
    Distinct values in lower case, with 'dontcare' for all its spellings. [] if
    the slot is empty. If it may be empty besides, 'none' is the last value.
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
class _LogEntry:
  """One turn of a log: its normalised text and its metadata."""

  text: str
  metadata: dict[str, Any]

  @classmethod
  def parse(cls, turn: dict[str, Any]) -> _LogEntry:
    text = ' '.join(turn['text'].translate(_QUOTES).lower().split())
    return cls(text, turn['metadata'])


def _why_to_skip(log: list[_LogEntry]) -> str | None:
  """Returns the reason to skip a dialogue, if there is one."""
  if len(log) % 2 or not log:
    return 'has an odd number of turns' if log else 'has no turns'
  if any(not entry.text.isascii() for entry in log):
    return 'has broken text: characters beyond ASCII'
  if any(len(_WORDS.findall(entry.text)) > MOST_WORDS for entry in log):
    return f'has broken text: a turn of more than {MOST_WORDS} words'
  if any(not entry.metadata for entry in log[1::2]):
    return 'has a turn without a state'
  return None


def _turns(log: list[_LogEntry], report: records.ReadReport) -> list[Turn]:
  return [
    Turn(user.text, system.text, _state(system.metadata, report))
    for user, system in zip(log[::2], log[1::2], strict=True)
  ]


def _state(metadata: dict[str, Any], report: records.ReadReport) -> State:
  """Reads the 30 slots of a state; counts the other filled slots."""
  found = {}
  for domain, parts in metadata.items():
    for prefix, part in [('', 'semi'), ('book ', 'book')]:
      for slot, annotated in parts[part].items():
        if prefix and slot == 'booked':  # Results of the booking.
          continue
        found[f'{domain}-{prefix}{slot}'.lower()] = values_of(annotated)
  state = {}
  for name in ontology.SLOT_NAMES:
    if values := found.pop(name, None):
      state[name] = values
      report.count('filled slots')
  report.count(
    'filled slots beyond the 30, left out', sum(map(bool, found.values()))
  )
  return state


def _read_lists(
  list_files: dict[str, records.Path],
  data: dict[str, Any],
  data_file: records.Path,
) -> dict[str, str]:
  """Returns the split of each dialogue in the lists."""
  split_of = {}
  for split, path in list_files.items():
    names = records.read_lines(path)
    if not names:
      raise errors.UserError(
        f'{path} is empty; it needs one dialogue id per line'
      )
    for number, name in enumerate(names, start=1):
      if name not in data:
        raise errors.UserError(
          f'{path}, id {number}: {checks.shown(name)} is not a dialogue of '
          f'{data_file}; are both of the same release, with one id per line of '
          'the list?'
        )
      if name in split_of:
        raise errors.UserError(
          f'{path}, id {number}: {checks.shown(name)} is already listed for '
          f'{split_of[name]}; a dialogue belongs to one split'
        )
      split_of[name] = split
  return split_of
