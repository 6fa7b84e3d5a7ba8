# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The five domains and 30 slots that MultiWOZ is evaluated on, and prompts.

Names of slots are those of the distributor's ontology.json. Descriptions are
ours. Values are listed for slots that have few; the data has other values, too,
and the lists do not restrict them.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses

NONE = 'none'
DONTCARE = 'dontcare'


@dataclasses.dataclass(frozen=True)
class Slot:
  """A slot of the dialogue state.

  Attributes:
    phrase: its name in plain words.
    description: its meaning.
    values: its usual values, if they are few; else ().
  """

  phrase: str
  description: str
  values: tuple[str, ...] = ()


_AREAS = ('centre', 'east', 'north', 'south', 'west')
_DAYS = (
    'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday',
    'sunday',
)  # fmt: skip
_PEOPLE = ('1', '2', '3', '4', '5', '6', '7', '8')
_PRICES = ('cheap', 'moderate', 'expensive')
_SIGHTS = (
    'architecture', 'boat', 'cinema', 'college', 'concerthall',
    'entertainment', 'museum', 'multiple sports', 'night club', 'park',
    'swimming pool', 'theatre',
)  # fmt: skip
_YES_NO = ('yes', 'no')

DOMAINS: Mapping[str, Mapping[str, Slot]] = {
  'hotel': {
    'pricerange': Slot('price range', 'how much a room may cost', _PRICES),
    'type': Slot('type', 'what kind of lodging', ('hotel', 'guesthouse')),
    'parking': Slot('parking', 'whether guests can park a car', _YES_NO),
    'book stay': Slot(
      'booking stay', 'how many nights to book', tuple('12345678')
    ),
    'book day': Slot('booking day', 'the day of arrival', _DAYS),
    'book people': Slot('booking people', 'how many guests', _PEOPLE),
    'area': Slot('area', 'in which part of town it lies', _AREAS),
    'stars': Slot('stars', 'how many stars it has', tuple('012345')),
    'internet': Slot('internet', 'whether there is internet', _YES_NO),
    'name': Slot('name', 'what the lodging is called'),
  },
  'train': {
    'destination': Slot('destination', 'the town that the train goes to'),
    'day': Slot('day', 'the day of the journey', _DAYS),
    'departure': Slot('departure', 'the town that the train starts from'),
    'arriveby': Slot('arrive by', 'the time to be there at the latest'),
    'book people': Slot('booking people', 'how many tickets', _PEOPLE),
    'leaveat': Slot('leave at', 'the time to set off at the earliest'),
  },
  'attraction': {
    'type': Slot('type', 'what kind of sight', _SIGHTS),
    'area': Slot('area', 'in which part of town it lies', _AREAS),
    'name': Slot('name', 'what the sight is called'),
  },
  'restaurant': {
    'book people': Slot('booking people', 'for how many the table is', _PEOPLE),
    'book day': Slot('booking day', 'the day of the meal', _DAYS),
    'book time': Slot('booking time', 'the time of the meal'),
    'food': Slot('food', 'which cuisine'),
    'pricerange': Slot('price range', 'how much a meal may cost', _PRICES),
    'name': Slot('name', 'what the restaurant is called'),
    'area': Slot('area', 'in which part of town it lies', _AREAS),
  },
  'taxi': {
    'leaveat': Slot('leave at', 'the time to be picked up'),
    'destination': Slot('destination', 'where the ride ends'),
    'departure': Slot('departure', 'where the ride begins'),
    'arriveby': Slot('arrive by', 'the time to be there at the latest'),
  },
}
SLOTS = tuple((d, s) for d, slots in DOMAINS.items() for s in slots)
SLOT_NAMES = tuple(f'{domain}-{slot}' for domain, slot in SLOTS)


def slot_prompts(possible_values: bool = True) -> list[str]:
  """Returns the prompt of each of SLOTS, such as 'taxi leave at: the time ...'.

  Args:
    possible_values: whether to list the values of slots that have few.
  """
  return [
    f'{domain} {_described(DOMAINS[domain][slot], possible_values)}'
    for domain, slot in SLOTS
  ]


def domain_prompts(possible_values: bool = False) -> list[str]:
  """Returns the prompt of each of DOMAINS: the names of its slots.

  Args:
    possible_values: whether to list the values of slots that have few, which
      makes the prompt of hotels ten times as long.
  """
  return [
    f'{domain}: '
    + ', '.join(
      f'{name}{_listed(slot.values)}' if possible_values else name
      for name, slot in slots.items()
    )
    for domain, slots in DOMAINS.items()
  ]


def _described(slot: Slot, possible_values: bool) -> str:
  listed = _listed(slot.values) if possible_values else ''
  return f'{slot.phrase}: {slot.description}{listed}'


def _listed(values: tuple[str, ...]) -> str:
  return f' ({", ".join(values)})' if values else ''
