# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""TODSum's factual metric: do summaries contain the values of the state?

A gold tuple is (domain, intent, slot, value): the intent is `book` for slots of
a booking, else `inform`. The tuples of a summary are extracted from its text.
Of one dialogue, precision is the share of extracted tuples that are gold,
recall the share of gold tuples that are extracted. Source: Zhao et al. (arXiv
2110.12680), as described in the repository pris-nlp/TODSum.

Extraction:
  - Sentences end at full stops, and have the domain of their subtask.
  - A sentence is a request if it asks for something that is not in states
    (words of _REQUEST); requests are ignored. Else its intent is `book` if it
    books something (words of _BOOK), else `inform`.
  - Values of a sentence are all values of its domain and intent in the gold
    states of all evaluated examples, found as whole words, longest first and
    without overlap; case and hyphens are ignored.
  - The words parking and internet, of a hotel, have the value `yes`.
  - A number of a hotel, or a time of a taxi, must match the slot indicated by
    the words beside it; other values match any slot. Each gold tuple is matched
    at most once.

Differences from the repository's program:
  - Domains are those of the subtasks; the program guesses them from words.
  - Values are those of the gold states; it reads a list of MultiWOZ's values
    (of all domains together, and matches them inside words, too).
  - Parking and internet can be matched; its list has no such words, so they
    count as gold and are never found.
  - A sentence that books and asks is a booking; there it is a request.
  - A repeated value counts each time in precision; there it counts once.
As there, means are over the dialogues with at least one tuple on that side, and
F1 is computed from the two means.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from collections.abc import Mapping
import re
from typing import Any

from pid_jax.subtasks import metrics
from pid_jax.subtasks.metrics import base

Key = tuple[str, str]  # Domain and intent.
Fact = tuple[str | None, str]  # Slot, or None for any slot; and value.

_BOOK = re.compile(
  r'\bbook|reserve|\bbuy\b|p[ue]rchase|accommodate|ticket|plans to stay'
)
_REQUEST = re.compile(
  r'postcode|phone|address|check|sea?r?ch\b|train ?id|duration|entrance fee|'
  r'wants to know|asks for|wonders|possible to find|get the information|'
  r'car type|asks (?:the|its|when|what|how)'
)
_NUMBER = re.compile(r'\d+')
_TIME = re.compile(r'\d{1,2}[:;.]\d\d')
_SLOTS_OF_NUMBERS = {
  'people': re.compile(r'people|persons?|guests?'),
  'stay': re.compile(r'days?|nights?'),
  'stars': re.compile(r'stars?'),
}
_SLOTS_OF_TIMES = {
  'leaveAt': re.compile(r'leav|depart(?!ure)|pick'),
  'arriveBy': re.compile(r'arriv'),
}
_YES = {
  'parking': re.compile(r'(?<!no )(?<!without )\bparking'),
  'internet': re.compile(r'(?<!no )(?<!without )\b(?:internet|wi ?fi)'),
}


def slot_consistency(
  targets: metrics.Targets, predictions: metrics.Predictions
) -> dict[str, float]:
  """Precision, recall and F1 of the tuples in summaries; see the module.

  A missing prediction has no tuples.

  Args:
    targets: N whole examples, with `subtasks` (domains), and the filled slots
      of the state as four lists `state_domain`, `state_kind`, `state_slot` and
      `state_value`.
    predictions: [N][U].

  Returns:
    `slot_consistency_precision`, `slot_consistency_recall` and
    `slot_consistency_f1`; 0 without extracted or gold tuples.
  """
  golds = [gold_tuples(target) for target in targets]
  known = collections.defaultdict(set)
  for gold in golds:
    for key, facts in gold.items():
      known[key].update(value for _, value in facts)
  patterns = {key: _any_of(values) for key, values in known.items()}
  precisions, recalls = [], []
  for target, prediction, gold in zip(targets, predictions, golds, strict=True):
    extracted = matched = 0
    unmatched = {key: list(facts) for key, facts in gold.items()}
    for domain, text in zip(target['subtasks'], prediction, strict=True):
      for key, fact in extract(domain, text or '', patterns):
        extracted += 1
        matched += _match(unmatched.get(key, []), fact)
    num_gold = sum(map(len, gold.values()))
    if extracted:
      precisions.append(matched / extracted)
    if num_gold:
      recalls.append(matched / num_gold)
  precision, recall = base.mean(precisions), base.mean(recalls)
  total = precision + recall
  return {
    'slot_consistency_precision': precision,
    'slot_consistency_recall': recall,
    'slot_consistency_f1': 2 * precision * recall / total if total else 0.0,
  }


def gold_tuples(target: Mapping[str, Any]) -> dict[Key, list[tuple[str, str]]]:
  """Returns slots and values of the state by domain and intent."""
  gold = {}
  columns = (target[f'state_{k}'] for k in ('domain', 'kind', 'slot', 'value'))
  for domain, kind, slot, value in zip(*columns, strict=True):
    key = domain, 'book' if kind == 'book' else 'inform'
    gold.setdefault(key, []).append((slot, _normalize(value)))
  return gold


def extract(
  domain: str, text: str, patterns: Mapping[Key, re.Pattern[str]]
) -> Iterator[tuple[Key, Fact]]:
  """Yields the facts in a text, each with its domain and intent.

  Args:
    domain: of the text.
    text: one or more sentences.
    patterns: by domain and intent, a pattern that matches their values.
  """
  for sentence in re.split(r'\.(?!\d)', text):
    sentence = _normalize(sentence)
    is_booking = bool(_BOOK.search(sentence))
    if not is_booking and _REQUEST.search(sentence):
      continue
    key = domain, 'book' if is_booking else 'inform'
    if domain == 'hotel' and not is_booking:
      for slot, pattern in _YES.items():
        if pattern.search(sentence):
          yield key, (slot, 'yes')
    if key in patterns:
      for found in patterns[key].finditer(sentence):
        yield key, (_slot(domain, sentence, found), found.group())


def _slot(domain: str, sentence: str, found: re.Match[str]) -> str | None:
  """Returns the slot by the words beside a value; None if any slot matches."""
  if domain == 'hotel' and _NUMBER.fullmatch(found.group()):
    after = sentence[found.end() :].split()[:1]
    for slot, pattern in _SLOTS_OF_NUMBERS.items():
      if after and pattern.match(after[0]):
        return slot
  if domain == 'taxi' and _TIME.fullmatch(found.group()):
    before = sentence[: found.start()]
    ends = {
      slot: max((m.end() for m in pattern.finditer(before)), default=-1)
      for slot, pattern in _SLOTS_OF_TIMES.items()
    }
    nearest = max(ends, key=ends.__getitem__)
    return nearest if ends[nearest] >= 0 else None
  return None


def _match(gold: list[tuple[str, str]], fact: Fact) -> bool:
  """Removes the first gold tuple that a fact matches, if there is one."""
  slot, value = fact
  for i, (gold_slot, gold_value) in enumerate(gold):
    if value == gold_value and slot in (None, gold_slot):
      del gold[i]
      return True
  return False


def _any_of(values: set[str]) -> re.Pattern[str]:
  """Returns a pattern for any of the values as whole words, longest first."""
  ordered = sorted(values - {'yes', 'no'}, key=lambda v: (-len(v), v))
  choice = '|'.join(map(re.escape, ordered)) or r'(?!)'
  return re.compile(rf'(?<!\w)(?:{choice})(?!\w)')


def _normalize(text: str) -> str:
  return ' '.join(text.lower().replace('-', ' ').split())
