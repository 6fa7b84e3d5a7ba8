# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Generated booking dialogues: state tracking without a download.

`bookings` and `bookings_short` ask for the state of a dialogue, 30 slots of 5
domains, after each user turn. The data is generated from a seed, in any amount.
See simulator.py for what makes it hard, ontology.py for the held-out values
(names of venues, streets and times of the test split do not occur in training),
rule.py for a rule-based baseline, and train_vocabulary.py for the vocabulary.

                                          bookings_short   bookings
  domains in a dialogue                   1 or 2           2 to 4
  turns of a dialogue, mean               2.8              7.4
  words of a history: mean, p95, max      35, 66, 70       74, 141, 150
  slots filled of 30: mean, p95           2.6, 5           4.8, 9
  turns whose history so far has
    values that are no wish               70 %             54 %
    a changed wish; a withdrawn wish      15 %; 5 %        41 %; 14 %
    an accepted offer; a refused offer    14 %; 11 %       39 %; 34 %
    "any will do"                         15 %             33 %
    "the same as the hotel"               2 %              11 %
  joint goal accuracy of rule.py, test    0.45             0.36

`bookings_domain` and `bookings_short_domain` have the same dialogues with one
subtask per domain, whose target is all of its slots in one string of
subtasks/slot_strings.py. They have the same metrics of the same states.
"""

from collections.abc import Iterator
import functools
import os
from typing import Any

import seqio

from pid_jax import subtasks
from pid_jax.subtasks import metrics
from pid_jax.subtasks import slot_strings
from pid_jax.tasks.bookings import ontology
from pid_jax.tasks.bookings import simulator

VOCABULARY_FILE = os.path.join(os.path.dirname(__file__), 'vocabulary.model')
SEED = 0
CONFUSABLE_ODDS = 4  # To 1; see `_with_odds`.
# Dialogues per split; each turn of a dialogue is an example.
NUM_DIALOGUES = {
  'bookings': {'train': 60_000, 'validation': 150, 'test': 300},
  'bookings_short': {'train': 60_000, 'validation': 200, 'test': 700},
}


def examples(
  level: str, split: str, num_dialogues: int
) -> Iterator[dict[str, Any]]:
  """Yields the decomposable examples of a split, in order.

  Args:
    level: 'bookings' or 'bookings_short'.
    split: 'train', 'validation' or 'test'.
    num_dialogues: number of dialogues.
  """
  for index in range(num_dialogues):
    turns = simulator.simulate(level, split, SEED, index)
    for number, turn, odds in _with_odds(turns):
      yield {
        'example_id': f'{level}-{split}-{index}-{number}',
        'inputs': turn.history,
        'subtasks': list(ontology.SLOT_NAMES),
        'prompts': list(ontology.PROMPTS),
        'targets': [turn.state.get(s, ontology.NONE) for s in ontology.SLOTS],
        'subtask_odds': odds,
      }


def domain_examples(
  level: str, split: str, num_dialogues: int
) -> Iterator[dict[str, Any]]:
  """Yields the examples of `examples` with one subtask per domain."""
  for example in examples(level, split, num_dialogues):
    state = {domain: {} for domain in ontology.DOMAINS}
    for (domain, slot), value in zip(
      ontology.SLOTS, example['targets'], strict=True
    ):
      if value != ontology.NONE:
        state[domain][slot] = value
    yield {
      'example_id': example['example_id'],
      'inputs': example['inputs'],
      'subtasks': list(state),
      'prompts': list(state),
      'targets': [slot_strings.format_slots(s) for s in state.values()],
    }


def _with_odds(turns: list[simulator.Turn]):
  """Yields number, turn, and the sampling odds of its slots if empty.

  An empty slot is easily confused with another slot of its kind that is, or
  was, filled: the day of the train with that of the hotel. Training samples
  these more often than slots of other kinds.
  """
  kinds = set()
  for number, turn in enumerate(turns, start=1):
    kinds.update(ontology.DOMAINS[d][s] for d, s in turn.state)
    odds = [
      CONFUSABLE_ODDS if ontology.DOMAINS[d][s] in kinds else 1
      for d, s in ontology.SLOTS
    ]
    yield number, turn, odds


@functools.cache
def vocabulary() -> seqio.Vocabulary:
  """Returns the vocabulary of the generated text."""
  return seqio.SentencePieceVocabulary(VOCABULARY_FILE)


_METRICS = (
  metrics.joint_goal_accuracy,
  metrics.slot_accuracy,
  metrics.slot_f1,
)


def _register(name: str, level: str, make_examples, metric_fns) -> None:
  subtasks.register(
    name,
    source=subtasks.InMemoryDataSource(
      {
        split: functools.partial(make_examples, level, split, number)
        for split, number in NUM_DIALOGUES[level].items()
      }
    ),
    vocabulary=vocabulary(),
    metric_fns=metric_fns,
    empty_target=ontology.NONE,
    long_inputs='keep_end',
  )


for _level in simulator.LEVELS:
  _register(_level, _level, examples, _METRICS)
  _register(
    f'{_level}_domain',
    _level,
    domain_examples,
    [metrics.for_slot_groups(m, ontology.SLOT_NAMES) for m in _METRICS],
  )
