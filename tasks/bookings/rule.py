# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A rule-based baseline: the last mention of each slot.

It knows the ontology and all spellings of values, tracks the current domain,
reads answers to the system's questions, and accepts an offer that is followed
by a yes. In each slot, the last mention wins. It does not recognise mentions
that are no wishes, withdrawals, or references such as "the same". A data set
that such a rule solves would not be worth training on.
"""

import re

from pid_jax.tasks.bookings import ontology
from pid_jax.tasks.bookings import phrases

_DIGITS = {word: digit for digit, word in ontology.NUMBER_WORDS.items()}
_NUMBER = '|'.join([*ontology.NUMBER_WORDS, *_DIGITS])
_CLOSED_WORDS = {
  kind: {
    word: value
    for value in ontology.CLOSED[kind]
    for word in phrases.SYNONYMS.get(value, (value,))
  }
  for kind in ('area', 'price', 'food', 'lodging', 'sight', 'day', 'town')
}
_ADJECTIVE = '|'.join(ontology.ADJECTIVES)
_NOUN = '|'.join(ontology.NOUNS)
_ENDING = '|'.join(
  sorted({e for ends in ontology.VENUE_ENDINGS.values() for e in ends if e})
)
_PATTERNS = {
  'name': rf'\b(?:{_ADJECTIVE}) (?:{_NOUN})(?: (?:{_ENDING}))?\b',
  'street': rf'\b(?:{_NOUN}) (?:{"|".join(ontology.STREET_ENDINGS)})\b',
  'time': r'\b\d\d:\d\d\b',
  'stars': rf'\b({_NUMBER}) stars',
  'nights': rf'\b({_NUMBER}) nights',
  'people': rf'(?:party of ({_NUMBER})|\b({_NUMBER}) (?:people|of us))',
  **{
    kind: rf'\b(?:{"|".join(sorted(words, key=len, reverse=True))})\b'
    for kind, words in _CLOSED_WORDS.items()
  },
}
_DOMAIN_WORDS = {
  'restaurant': ('restaurant', 'to eat', 'for dinner'),
  'hotel': ('hotel', 'room', 'to stay', 'to sleep', 'guesthouse'),
  'train': ('train',),
  'taxi': ('taxi', 'cab'),
  'attraction': ('attraction', 'to visit', 'to see', *ontology.SIGHTS),
}
# A mention belongs to the slot of its kind with the nearest preceding cue.
_CUES = {
  'departure': ('from', 'starting at'),
  'destination': ('to',),
  'leave': ('leaving', 'departing', 'leaves'),
  'arrive': ('arriving', 'be there', 'getting in'),
}


def predict(history: str) -> dict[tuple[str, str], str]:
  """Returns the state that the rule extracts from a history."""
  state = {}
  active, asked, offered = None, None, {}
  for speaker, text in re.findall(
    r'(user|system): (.*?)(?= (?:user|system): |$)', history
  ):
    if speaker == 'system':
      asked = _asked_slot(text, active)
      offered = dict(_mentions(text, active))
      continue
    active = _domain(text) or active
    mentions = dict(_mentions(text, active))
    if offered and re.match('(yes|great|perfect|okay|sounds)', text):
      name = {k: v for k, v in offered.items() if k[1] == 'name'}
      state.update(name or offered)
    if asked and not mentions:
      answer = _bare_answer(text, asked)
      if answer:
        state[asked] = answer
    state.update(mentions)
    asked, offered = None, {}
  return state


def _domain(text: str) -> str | None:
  found = [
    (text.rfind(word), domain)
    for domain, words in _DOMAIN_WORDS.items()
    for word in words
    if re.search(rf'\b{word}\b', text)
  ]
  return max(found)[1] if found else None


def _mentions(text: str, domain: str | None):
  """Yields ((domain, slot), value) in the order of the text."""
  for slot, kind in ontology.DOMAINS.get(domain, {}).items():
    if kind in ('parking', 'internet'):
      words = phrases.SLOT_WORDS[kind]
      if any(word in text for word in words):
        negated = re.search(rf'(without|no) ({"|".join(words)})', text)
        yield (domain, slot), 'no' if negated else 'yes'
      continue
    for match in re.finditer(_PATTERNS[kind], text):
      value = next((g for g in match.groups() if g), match.group())
      if slot in _CUES and _cue(text[: match.start()], domain, kind) != slot:
        continue
      value = _CLOSED_WORDS.get(kind, _DIGITS).get(value, value)
      yield (domain, slot), value


def _cue(before: str, domain: str, kind: str) -> str | None:
  rivals = [s for s, k in ontology.DOMAINS[domain].items() if k == kind]
  if len(rivals) == 1:
    return rivals[0]
  places = [
    (match.start(), slot)
    for slot in rivals
    for cue in _CUES[slot]
    for match in re.finditer(rf'\b{cue}\b', before)
  ]
  return max(places)[1] if places else None


def _asked_slot(text: str, domain: str | None):
  for slot in ontology.DOMAINS.get(domain, {}):
    if any(f' {word}' in text for word in phrases.SLOT_WORDS[slot]):
      return domain, slot
  return None


def _bare_answer(text: str, asked: tuple[str, str]) -> str | None:
  domain, slot = asked
  kind = ontology.DOMAINS[domain][slot]
  if any(words in text for words in phrases.ANSWERS_DONTCARE):
    return ontology.DONTCARE
  if kind in ('parking', 'internet'):
    return 'no' if text.startswith(('no', 'not')) else 'yes'
  if kind in ('stars', 'people', 'nights'):
    match = re.search(rf'\b({_NUMBER})\b', text)
    return _DIGITS.get(match.group(), match.group()) if match else None
  match = re.search(_PATTERNS[kind], text)
  if not match:
    return None
  return _CLOSED_WORDS.get(kind, {}).get(match.group(), match.group())
