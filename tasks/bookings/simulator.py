# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Simulates dialogues of a user and a booking system.

The state has the user's wishes. Every phrase has one meaning, so the state
after each user turn is unambiguous:

- a wish sets its slot; "any" sets it to `dontcare`;
- an offer of the system counts once the user accepts it; other information of
  the system never counts;
- a later change replaces a value, a withdrawal clears it;
- "the same day as the hotel" copies the current value of the hotel;
- a mere mention ("my sister lives in the north") is not a wish.
"""

import collections
import dataclasses
import functools
import random

from pid_jax.tasks.bookings import ontology
from pid_jax.tasks.bookings import phrases

# Slots that may come before the noun in the noun phrase of a request.
_ADJECTIVE_SLOTS = ('price', 'food')
_ALTERNATIVE_SLOTS = ('area', 'food', 'price', 'day', 'time', 'leave')
# The slot of another domain that an indirect mention refers to.
_INDIRECT_SOURCES = {
  'day': ('day', ('restaurant', 'hotel', 'train')),
  'people': ('people', ('restaurant', 'hotel', 'train')),
  'area': ('area', ('restaurant', 'hotel', 'attraction')),
  'price': ('price', ('restaurant', 'hotel')),
  'departure': ('name', ('restaurant', 'hotel', 'attraction')),
  'destination': ('name', ('restaurant', 'hotel', 'attraction')),
  'arrive': ('time', ('restaurant',)),
}


@dataclasses.dataclass(frozen=True)
class Level:
  """Length and difficulty of dialogues.

  Attributes:
    num_domains: weights of 1, 2, ... domains in a dialogue.
    slots_per_domain: minimum and maximum number of slots with a wish.
    max_words: of a history; the dialogue ends before it is exceeded.
    distraction: probability that a user turn mentions a value that is no wish.
    change: probability that a user turn changes or withdraws an earlier wish.
  """

  num_domains: tuple[float, ...]
  slots_per_domain: tuple[int, int]
  max_words: int
  distraction: float
  change: float


LEVELS = {
  'bookings': Level((0.0, 0.35, 0.45, 0.2), (2, 7), 150, 0.2, 0.2),
  'bookings_short': Level((0.5, 0.5), (2, 4), 70, 0.5, 0.2),
}


@dataclasses.dataclass(frozen=True)
class Turn:
  """A dialogue up to and including one user turn.

  Attributes:
    history: the text so far, each turn after 'user:' or 'system:'.
    state: (domain, slot) -> value, of the slots that are not empty.
    phenomena: how often each phenomenon of `Simulator` has occurred so far.
  """

  history: str
  state: dict[tuple[str, str], str]
  phenomena: dict[str, int]


def simulate(level: str, split: str, seed: int, index: int) -> list[Turn]:
  """Returns the user turns of one dialogue.

  The same arguments give the same dialogue on every machine.

  Args:
    level: a key of `LEVELS`.
    split: determines the pools of open values.
    seed: of the data set.
    index: of the dialogue.
  """
  rng = random.Random(f'{level}/{split}/{seed}/{index}')
  return Simulator(LEVELS[level], ontology.Pools.of(split), rng).run()


class Simulator:
  """Simulates one dialogue.

  `phenomena` counts accepted and refused offers, changed and withdrawn wishes,
  `dontcare`, indirect mentions, and distractors.
  """

  def __init__(self, level: Level, pools: ontology.Pools, rng: random.Random):
    self.level = level
    self.pools = pools
    self.rng = rng
    self.state = {}
    self.history = []
    self.turns = []
    self.phenomena = collections.Counter()
    self.active = None  # The current domain.

  def run(self) -> list[Turn]:
    """Simulates the dialogue to its end, or to the maximum length."""
    rng = self.rng
    weights = self.level.num_domains
    number = rng.choices(range(1, len(weights) + 1), weights)[0]
    domains = rng.sample(tuple(ontology.DOMAINS), number)
    # A taxi often connects earlier bookings.
    if 'taxi' in domains and rng.random() < 0.7:
      domains.sort(key=lambda d: d == 'taxi')
    for domain in domains:
      if not self._talk_about(domain):
        break
    return self.turns

  def _talk_about(self, domain: str) -> bool:
    """Adds the turns about one domain; False at the maximum length."""
    rng = self.rng
    fewest, most = self.level.slots_per_domain
    slots = list(ontology.DOMAINS[domain])
    wishes = rng.sample(slots, min(len(slots), rng.randint(fewest, most)))
    system = self._more() if self.turns else None
    self.active = domain
    first = [wishes.pop() for _ in range(min(len(wishes), rng.randint(1, 3)))]
    if not self._turn(system, self._open(first)):
      return False
    for _ in range(2 * len(wishes) + 1):
      if not wishes and rng.random() < 0.4:
        return True
      action = rng.random()
      if 'name' in wishes and action < 0.5:
        wishes.remove('name')
        done = self._offer()
      elif wishes and action < 0.55:
        done = self._request(wishes.pop(), wishes)
      elif action < 0.8 and self._can_offer_alternative():
        done = self._offer_alternative()
      else:
        wanted = [
          wishes.pop() for _ in range(min(len(wishes), rng.randint(1, 2)))
        ]
        done = self._turn(self._more(), functools.partial(self._inform, wanted))
      if not done:
        return False
    return True

  # --- turns -----------------------------------------------------------------

  def _turn(self, system, user) -> bool:
    """Adds the system's text and that of `user()`; False if too long."""
    rng = self.rng
    before = dict(self.state), collections.Counter(self.phenomena)
    sentences = [user()]
    if self.turns and rng.random() < self.level.change:
      sentences += self._change()
    if rng.random() < self.level.distraction:
      where = rng.randrange(2) and len(sentences)
      sentences.insert(where, self._distraction())
    said = ' '.join(s if s.endswith('?') else f'{s}.' for s in sentences)
    new = ([f'system: {system}'] if system else []) + [f'user: {said}']
    history = ' '.join(self.history + new)
    if self.turns and len(history.split()) > self.level.max_words:
      self.state, self.phenomena = before
      return False
    self.history += new
    self.turns.append(Turn(history, dict(self.state), dict(self.phenomena)))
    return True

  def _more(self) -> str:
    code = f'{self.rng.randrange(10**4):04}'
    text = self.rng.choice(phrases.PROMPTS_FOR_MORE)
    return text.format(n=self.rng.randint(2, 30), code=code)

  def _open(self, slots: list[str]):
    """The first request for the active domain."""
    rng = self.rng
    domain = self.active

    def say():
      before, after = [], []
      noun = rng.choice(phrases.NOUNS[domain])
      for slot in sorted(slots, key=lambda s: rng.random()):
        if slot in _ADJECTIVE_SLOTS and rng.random() < 0.6:
          before.append(self._word(self._set(slot)))
        elif slot == 'type' and rng.random() < 0.8:
          noun = self._word(self._set(slot))
        else:
          after.append(self._wish(slot))
      words = ' '.join([*before, noun, *after])
      article = 'an' if words[0] in 'aeiou' else 'a'
      opening = phrases.SWITCHES if self.turns else phrases.OPENINGS
      return rng.choice(opening).format(np=f'{article} {words}')

    return say

  def _inform(self, slots: list[str]) -> str:
    """States wishes for the active domain, or asks for something else."""
    if not slots:
      return self.rng.choice(phrases.ANSWERS_NO_MORE)
    wishes = ' and '.join(self._wish(slot) for slot in slots)
    return self.rng.choice(phrases.FOLLOW_UPS).format(f=wishes)

  def _request(self, slot: str, others: list[str]) -> bool:
    """The system asks for a slot; the user answers, and may add a wish."""
    rng = self.rng
    yes_no = slot in ('parking', 'internet')
    asking = phrases.YES_NO_REQUESTS if yes_no else phrases.REQUESTS
    word = rng.choice(phrases.SLOT_WORDS[slot])
    system = rng.choice(asking).format(slot=word)

    def answer():
      chance = rng.random()
      if chance < 0.08:
        said = rng.choice(phrases.ANSWERS_UNSURE)
      elif chance < 0.28:
        self.state[self.active, slot] = ontology.DONTCARE
        self.phenomena['dontcare'] += 1
        said = rng.choice(phrases.ANSWERS_DONTCARE)
      elif yes_no:
        value = self._set(slot)
        yes = value == 'yes'
        said = rng.choice(phrases.ANSWERS_YES if yes else phrases.ANSWERS_NO)
      elif chance < 0.5:
        said = self._wish(slot)
      else:
        said = rng.choice(phrases.ANSWERS).format(v=self._word(self._set(slot)))
      if others and rng.random() < 0.3:
        said = f'{said}, and {self._wish(others.pop())}'
      return said

    return self._turn(system, answer)

  def _offer(self) -> bool:
    """The system offers one or two venues; the user takes one or none."""
    rng = self.rng
    name = self._value('name')
    if rng.random() < 0.6:
      system = rng.choice(phrases.OFFERS).format(
        name=name,
        price=self._value('price'),
        area=self._value('area'),
        time=self._value('time'),
      )
      options = ((phrases.ACCEPTS, name), (phrases.REFUSES, None))
      said, chosen = rng.choices(options, (0.65, 0.35))[0]
      said = rng.choice(said)
    else:
      other = self._value('name')
      system = rng.choice(phrases.CHOICES).format(a=name, b=other)
      options = (
        (phrases.FIRST, name),
        (phrases.SECOND, other),
        (phrases.NEITHER, None),
      )
      said, chosen = rng.choices(options, (0.4, 0.4, 0.2))[0]
      said = rng.choice(said).format(a=name, b=other)

    def answer():
      self.phenomena['accepted' if chosen else 'refused'] += 1
      if chosen:
        self.state[self.active, 'name'] = chosen
      return said

    return self._turn(system, answer)

  def _can_offer_alternative(self) -> bool:
    return bool(self._alternatives())

  def _alternatives(self) -> list[str]:
    return [
        s for s in _ALTERNATIVE_SLOTS
        if self.state.get((self.active, s), ontology.DONTCARE)
        != ontology.DONTCARE
    ]  # fmt: skip

  def _offer_alternative(self) -> bool:
    """The system has no venue with a value, and offers another value."""
    rng = self.rng
    slot = rng.choice(self._alternatives())
    old = self.state[self.active, slot]
    new = self._other_value(slot, old)
    system = rng.choice(phrases.ALTERNATIVES).format(
      old=self._fragment(slot, old), new=self._fragment(slot, new)
    )

    def answer():
      chance = rng.random()
      if chance < 0.5:
        self.phenomena['accepted'] += 1
        self.state[self.active, slot] = new
        return rng.choice(phrases.ACCEPTS)
      self.phenomena['refused'] += 1
      if chance < 0.75:
        return rng.choice(phrases.KEEPS)
      self.phenomena['changed'] += 1
      third = self._other_value(slot, old)
      self.state[self.active, slot] = third
      return rng.choice(phrases.COUNTERS).format(f=self._fragment(slot, third))

    return self._turn(system, answer)

  def _change(self) -> list[str]:
    """Changes or withdraws a wish of an earlier turn, if there is one."""
    rng = self.rng
    earlier = self.turns[-1].state
    known = [
      key for key, value in earlier.items() if self.state.get(key) == value
    ]
    if not known:
      return []
    domain, slot = rng.choice(known)
    elsewhere = domain != self.active
    if rng.random() < 0.65:
      old = self.state[domain, slot]
      new = self._other_value(slot, old, domain)
      self.state[domain, slot] = new
      self.phenomena['changed'] += 1
      text = phrases.CHANGES_ELSEWHERE if elsewhere else phrases.CHANGES
      text = rng.choice(text)
      return [text.format(f=self._fragment(slot, new), domain=domain)]
    if slot in phrases.DONTCARE and rng.random() < 0.4:
      self.state[domain, slot] = ontology.DONTCARE
      self.phenomena['dontcare'] += 1
      text = rng.choice(phrases.LOOSENINGS)
    else:
      del self.state[domain, slot]
      self.phenomena['withdrawn'] += 1
      text = rng.choice(phrases.WITHDRAWALS)
    text = text.format(slot=rng.choice(phrases.SLOT_WORDS[slot]))
    if elsewhere:
      text = rng.choice(phrases.OF_DOMAIN).format(text=text, domain=domain)
    return [text]

  def _distraction(self) -> str:
    self.phenomena['distractor'] += 1
    # Mostly of a kind that could be mistaken for a wish of the active domain.
    kinds = set(ontology.DOMAINS[self.active].values())
    likely = [k for k in phrases.DISTRACTORS if k in kinds]
    rest = tuple(phrases.DISTRACTORS)
    kind = self.rng.choice(likely if self.rng.random() < 0.8 else rest)
    domain = self.rng.choice(tuple(ontology.VENUE_ENDINGS))
    value = self.pools.sample(kind, domain, self.rng)
    return self.rng.choice(phrases.DISTRACTORS[kind]).format(v=value)

  # --- wishes ----------------------------------------------------------------

  def _wish(self, slot: str) -> str:
    """Sets a slot of the active domain; returns words for it."""
    rng = self.rng
    source = self._indirect_source(slot)
    if source and rng.random() < 0.75:
      domain, value = source
      self.state[self.active, slot] = value
      self.phenomena['indirect'] += 1
      return rng.choice(phrases.INDIRECT[slot]).format(domain=domain)
    if slot in phrases.DONTCARE and rng.random() < 0.08:
      self.state[self.active, slot] = ontology.DONTCARE
      self.phenomena['dontcare'] += 1
      return rng.choice(phrases.DONTCARE[slot])
    return self._fragment(slot, self._set(slot))

  def _indirect_source(self, slot: str):
    """Returns another domain whose value this slot can copy, and the value."""
    if slot not in _INDIRECT_SOURCES:
      return None
    if slot in ('departure', 'destination') and self.active != 'taxi':
      return None
    if slot == 'arrive' and self.active != 'taxi':
      return None
    source_slot, domains = _INDIRECT_SOURCES[slot]
    options = [
      (d, self.state[d, source_slot])
      for d in domains
      if d != self.active
      and self.state.get((d, source_slot), ontology.DONTCARE)
      != ontology.DONTCARE
      # A taxi must not go from a place to the same place.
      and self.state[d, source_slot]
      not in (
        self.state.get(('taxi', 'departure')),
        self.state.get(('taxi', 'destination')),
      )
    ]
    return self.rng.choice(options) if options else None

  def _set(self, slot: str) -> str:
    value = self._value(slot)
    self.state[self.active, slot] = value
    return value

  def _value(self, slot: str, domain: str = '') -> str:
    """Draws a value of a slot; where the domain lacks it, by its name."""
    domain = domain or self.active
    kind = ontology.DOMAINS[domain].get(slot, slot)
    return self.pools.sample(kind, domain, self.rng)

  def _other_value(self, slot: str, old: str, domain: str = '') -> str:
    while True:
      value = self._value(slot, domain)
      if value != old:
        return value

  def _word(self, value: str) -> str:
    if value in ontology.NUMBER_WORDS and self.rng.random() < 0.4:
      return ontology.NUMBER_WORDS[value]
    return self.rng.choice(phrases.SYNONYMS.get(value, (value,)))

  def _fragment(self, slot: str, value: str) -> str:
    if slot in ('parking', 'internet'):
      return self.rng.choice(phrases.YES_NO_FRAGMENTS[slot, value])
    return self.rng.choice(phrases.FRAGMENTS[slot]).format(v=self._word(value))
