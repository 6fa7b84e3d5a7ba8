# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""TODSum's metric of facts: do summaries hold the values of the state?

A gold tuple is (domain, intent, slot, value): the intent is `book` for slots of
a booking, else `inform`. A summary claims tuples too. Of one dialogue,
precision is the share of claimed tuples that are gold, recall the share of gold
tuples that are claimed. Source: Zhao et al. (arXiv 2110.12680), as described in
the repository pris-nlp/TODSum.

What a summary claims:
  - A sentence is taken apart from others at full stops, and belongs to the
    domain of the subtask that it was generated for.
  - It is a request when it asks for something that no state holds (words of
    _REQUEST); a request claims nothing. Else its intent is `book` where it
    books (words of _BOOK), else `inform`.
  - In it, a value is any value of that domain and intent in the gold states of
    all examples evaluated, found as whole words, the longest first and none
    inside another; case and hyphens are ignored.
  - Of a hotel, parking and internet are claimed as `yes` by their names.
  - A number of a hotel, or a time of a taxi, must be that of the right slot,
    told by the words beside it; elsewhere the value alone decides. Each gold
    tuple is met once.

Where this differs from the repository's program:
  - domains come from the subtasks, where that program guesses them from words;
  - values come from the gold states, where it reads a list of MultiWOZ's values
    (of all domains together, matched inside of words too);
  - parking and internet can be met: the list holds no such words, so that it
    counts them as gold and never finds them;
  - a sentence that books and asks is a booking, and is a request there;
  - a value claimed twice counts twice in precision, where it counts once.
Like that program, means are taken over the dialogues that have a tuple on the
side in question, and F1 is that of the two means.
"""

from __future__ import annotations

import collections
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import re
from typing import Any

from pid_jax.subtasks import metrics

Key = tuple[str, str]  # Domain and intent.
RunLock = tuple[str | None, str]  # Slot, or None where any will do; and value.

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
  """Precision, recall and F1 of the tuples that summaries claim.

  The rule is that of the module. A missing prediction claims nothing.

  Args:
    targets: N whole examples, with `subtasks` (domains), and the filled slots
      of the state as four lists `state_domain`, `state_kind`, `state_slot` and
      `state_value`.
    predictions: [N][U].

  Returns:
    `slot_consistency_precision`, `slot_consistency_recall` and
    `slot_consistency_f1`; 0 where nothing is claimed, or nothing is gold.
  """
  golds = [gold_tuples(target) for target in targets]
  known = collections.defaultdict(set)
  for gold in golds:
    for key, claims in gold.items():
      known[key].update(value for _, value in claims)
  patterns = {key: _any_of(values) for key, values in known.items()}
  precisions, recalls = [], []
  for target, prediction, gold in zip(targets, predictions, golds, strict=True):
    claimed = met = 0
    left = {key: list(claims) for key, claims in gold.items()}
    for domain, text in zip(target['subtasks'], prediction, strict=True):
      for key, claim in claims_of(domain, text or '', patterns):
        claimed += 1
        met += _take(left.get(key, []), claim)
    wanted = sum(map(len, gold.values()))
    if claimed:
      precisions.append(met / claimed)
    if wanted:
      recalls.append(met / wanted)
  precision, recall = _mean(precisions), _mean(recalls)
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


def claims_of(
  domain: str, text: str, patterns: Mapping[Key, re.Pattern[str]]
) -> Iterator[tuple[Key, RunLock]]:
  """Yields what a text claims of a domain.

  Args:
    domain: of the text.
    text: one or more sentences.
    patterns: by domain and intent, what matches a value of it.
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
  """The slot that the words beside a value tell, where values are alike."""
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


def _take(gold: list[tuple[str, str]], claim: RunLock) -> bool:
  """Takes the gold tuple that a claim meets off the list, if there is one."""
  slot, value = claim
  for i, (gold_slot, gold_value) in enumerate(gold):
    if value == gold_value and slot in (None, gold_slot):
      del gold[i]
      return True
  return False


def _any_of(values: set[str]) -> re.Pattern[str]:
  """What matches any of the values as whole words, the longest first."""
  ordered = sorted(values - {'yes', 'no'}, key=lambda v: (-len(v), v))
  choice = '|'.join(map(re.escape, ordered)) or r'(?!)'
  return re.compile(rf'(?<!\w)(?:{choice})(?!\w)')


def _normalize(text: str) -> str:
  return ' '.join(text.lower().replace('-', ' ').split())


def _mean(values: Sequence[float]) -> float:
  return sum(values) / len(values) if values else 0.0
