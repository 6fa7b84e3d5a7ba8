# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Domains, slots and values of the generated booking dialogues.

Open values (names of venues, streets, times of day) are divided into disjoint
pools for training, validation and test, so that a model is evaluated on unseen
values, which it must copy.
"""

import dataclasses
import functools
import hashlib
import random

NONE = 'none'
DONTCARE = 'dontcare'
SPLITS = ('train', 'validation', 'test')

# Domain -> slot -> kind of value. The prompt of a slot is 'domain slot'.
DOMAINS = {
  'restaurant': {
    'food': 'food',
    'area': 'area',
    'price': 'price',
    'name': 'name',
    'day': 'day',
    'time': 'time',
    'people': 'people',
  },
  'hotel': {
    'type': 'lodging',
    'area': 'area',
    'price': 'price',
    'stars': 'stars',
    'parking': 'parking',
    'internet': 'internet',
    'name': 'name',
    'day': 'day',
    'nights': 'nights',
    'people': 'people',
  },
  'train': {
    'departure': 'town',
    'destination': 'town',
    'day': 'day',
    'leave': 'time',
    'arrive': 'time',
    'people': 'people',
  },
  'taxi': {
    'departure': 'street',
    'destination': 'street',
    'leave': 'time',
    'arrive': 'time',
  },
  'attraction': {
    'type': 'sight',
    'area': 'area',
    'name': 'name',
  },
}
SLOTS = tuple((d, s) for d, slots in DOMAINS.items() for s in slots)
SLOT_NAMES = tuple(f'{domain}-{slot}' for domain, slot in SLOTS)
PROMPTS = tuple(f'{domain} {slot}' for domain, slot in SLOTS)

AREAS = ('north', 'south', 'east', 'west', 'centre')
PRICES = ('cheap', 'moderate', 'expensive')
FOODS = (
    'african', 'british', 'chinese', 'french', 'greek', 'indian', 'italian',
    'japanese', 'korean', 'lebanese', 'mexican', 'polish', 'portuguese',
    'spanish', 'thai', 'turkish', 'vegetarian', 'vietnamese',
)  # fmt: skip
LODGINGS = ('hotel', 'guesthouse')
SIGHTS = (
    'museum', 'park', 'theatre', 'cinema', 'gallery', 'church', 'pool',
    'market', 'castle', 'zoo',
)  # fmt: skip
DAYS = (
    'monday', 'tuesday', 'wednesday', 'thursday', 'friday', 'saturday',
    'sunday',
)  # fmt: skip
TOWNS = (
    'cambridge', 'london', 'oxford', 'leeds', 'york', 'bristol', 'bath',
    'norwich', 'ely', 'stevenage', 'leicester', 'derby', 'exeter', 'durham',
    'lincoln', 'chester', 'preston', 'truro', 'ripon', 'wells',
)  # fmt: skip
NUMBER_WORDS = {
    '1': 'one', '2': 'two', '3': 'three', '4': 'four', '5': 'five',
    '6': 'six', '7': 'seven', '8': 'eight',
}  # fmt: skip

ADJECTIVES = (
    'amber', 'ancient', 'azure', 'blue', 'bold', 'brave', 'bronze', 'calm',
    'clever', 'copper', 'coral', 'crimson', 'crystal', 'dancing', 'dusty',
    'emerald', 'fancy', 'flying', 'gentle', 'giant', 'golden', 'green',
    'happy', 'hidden', 'humble', 'ivory', 'jolly', 'laughing', 'little',
    'lucky', 'merry', 'misty', 'noble', 'old', 'orange', 'proud', 'purple',
    'quiet', 'rapid', 'red', 'royal', 'rusty', 'scarlet', 'silver', 'sleepy',
    'smiling', 'velvet', 'white', 'wild', 'yellow',
)  # fmt: skip
NOUNS = (
    'anchor', 'apple', 'badger', 'barrel', 'bear', 'bell', 'bridge', 'candle',
    'cherry', 'crown', 'dolphin', 'dragon', 'eagle', 'feather', 'fiddle',
    'fountain', 'fox', 'garden', 'goose', 'hammer', 'harbour', 'harp', 'hawk',
    'horse', 'island', 'jewel', 'kettle', 'lantern', 'leaf', 'lion', 'maple',
    'meadow', 'mill', 'moon', 'mountain', 'oak', 'owl', 'pearl', 'pepper',
    'pigeon', 'raven', 'river', 'rose', 'sail', 'shell', 'swan', 'tiger',
    'tower', 'violin', 'willow',
)  # fmt: skip
VENUE_ENDINGS = {
  'restaurant': ('', '', 'kitchen', 'grill', 'bistro'),
  'hotel': ('', '', 'lodge', 'inn', 'house'),
  'attraction': ('', '', 'hall', 'gardens', 'rooms'),
}
STREET_ENDINGS = ('street', 'road', 'lane', 'square')


@dataclasses.dataclass(frozen=True)
class Pools:
  """The open values of one split.

  Attributes:
    names: (adjective, noun) pairs of venues.
    streets: names of streets.
    times: of day, 'hh:mm'.
  """

  names: tuple[tuple[str, str], ...]
  streets: tuple[str, ...]
  times: tuple[str, ...]

  @classmethod
  @functools.cache
  def of(cls, split: str) -> 'Pools':
    """Returns the pools of a split, disjoint from those of other splits."""
    names = [(a, n) for a in ADJECTIVES for n in NOUNS]
    streets = [f'{n} {e}' for n in NOUNS for e in STREET_ENDINGS]
    times = [f'{h:02}:{m:02}' for h in range(5, 24) for m in range(0, 60, 5)]
    keep = lambda values: tuple(v for v in values if _split_of(v) == split)
    return cls(keep(names), keep(streets), keep(times))

  def sample(self, kind: str, domain: str, rng: random.Random) -> str:
    """Draws a value of a kind for a slot of a domain."""
    if kind == 'name':
      ending = rng.choice(VENUE_ENDINGS[domain])
      return ' '.join([*rng.choice(self.names), ending]).strip()
    if kind == 'street':
      return rng.choice(self.streets)
    if kind == 'time':
      return rng.choice(self.times)
    return rng.choice(CLOSED[kind])


CLOSED = {
  'area': AREAS,
  'price': PRICES,
  'food': FOODS,
  'lodging': LODGINGS,
  'sight': SIGHTS,
  'day': DAYS,
  'town': TOWNS,
  'stars': ('2', '3', '4', '5'),
  'people': tuple(NUMBER_WORDS),
  'nights': ('1', '2', '3', '4', '5', '6'),
  'parking': ('yes', 'no'),
  'internet': ('yes', 'no'),
}


def _split_of(value) -> str:
  """Assigns an open value to a split, 70/15/15, on any machine the same."""
  byte = hashlib.sha256(repr(value).encode()).digest()[0]
  if byte < 180:
    return 'train'
  return 'validation' if byte < 218 else 'test'
