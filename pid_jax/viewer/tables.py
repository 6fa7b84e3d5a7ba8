# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts of a page of predictions, and its data in compact form.

A thousand inputs with 30 subtasks repeat few strings many times, so the data
has each string once, and indices. assets/predictions_data.js reads it.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

from pid_jax.viewer import comparing
from pid_jax.viewer import dialogues
from pid_jax.viewer import records

Kind = comparing.Kind

# Kind -> its name on the page, and its meaning.
LABELS = {
  Kind.RIGHT: ('right', 'equal to a gold value, spaces at the ends aside'),
  Kind.MISSED: ('missed', 'gold has a value, the prediction is empty'),
  Kind.INVENTED: ('invented', 'gold is empty, the prediction has a value'),
  Kind.WRONG: ('wrong value', 'a value that is not gold'),
  Kind.NEAR_MISS: ('near miss', 'a value that resembles gold; see below'),
  Kind.ABSENT: ('no prediction', 'the model gave no output'),
  Kind.UNJUDGED: ('no gold', 'nothing to compare with'),
}
NEAR_MISS_RULE = (
  f'A near miss resembles a gold value: 1 - d / n is {comparing.NEAR} or more, '
  'with the number d of characters to insert, delete or replace, and the '
  'length n of the longer text. Case, punctuation and the articles a, an, the '
  'are ignored; digits must be equal. Another word for "nothing" is a near '
  'miss, too. Some metrics count some of these as right.'
)

# Fields of an example in the data, in order.
_FIELDS = (
  'id',
  'task',
  'inputs',
  'schema',  # Names and prompts.
  'targets',
  'predictions',  # 0 if equal to the targets.
  'kinds',
  'scores',  # 0 if there are none.
  'is_truncated',
  'alternatives',  # Subtask index -> strings; 0 if there are none.
)


@dataclasses.dataclass(frozen=True)
class Table:
  """Predictions compared with gold values.

  Attributes:
    examples: [N].
    kinds: [N][U], of each subtask.
    dialogues: among the examples.
    empty_words: words that mean "nothing here".
  """

  examples: Sequence[records.Example]
  kinds: Sequence[Sequence[Kind]]
  dialogues: Sequence[dialogues.Dialogue]
  empty_words: Collection[str]

  @property
  def has_gold(self) -> bool:
    return any(kind is not Kind.UNJUDGED for row in self.kinds for kind in row)

  def counts(self) -> collections.Counter[Kind]:
    """Counts the subtasks of each kind."""
    return collections.Counter(kind for row in self.kinds for kind in row)

  def counts_by_name(self) -> dict[str, collections.Counter[Kind]]:
    """Counts by name of the subtask, in order of appearance."""
    counts = {}
    for example, row in zip(self.examples, self.kinds, strict=True):
      for name, kind in zip(example.names, row, strict=True):
        counts.setdefault(name, collections.Counter())[kind] += 1
    return counts

  def num_right(self) -> int:
    """Number of examples with gold, all of whose subtasks are right."""
    return sum(
      Kind.RIGHT in row and not any(kind.is_error for kind in row)
      for row in self.kinds
    )

  def num_judged(self) -> int:
    """Number of examples with gold."""
    return sum(
      any(kind is not Kind.UNJUDGED for kind in row) for row in self.kinds
    )


def compare(
  examples: Sequence[records.Example], empty_words: Collection[str]
) -> Table:
  """Compares all predictions; see `comparing.compare`."""

  @functools.cache  # Most subtasks repeat.
  def kind(golds: tuple[str, ...], prediction: str | None) -> Kind:
    return comparing.compare(golds, prediction, empty_words)

  kinds = [
    [kind(tuple(x.golds(u)), text) for u, text in enumerate(x.predictions)]
    for x in examples
  ]
  return Table(examples, kinds, dialogues.find(examples), empty_words)


class Strings:
  """Assigns indices to strings, in the order of first use."""

  def __init__(self):
    self._indices: dict[str, int] = {}

  def index(self, text: str | None) -> int:
    """Returns the index of a string; -1 for None."""
    if text is None:
      return -1
    return self._indices.setdefault(text, len(self._indices))

  def indices(self, texts: Sequence[str | None]) -> list[int]:
    return [self.index(text) for text in texts]

  def all(self) -> list[str]:
    return list(self._indices)


def to_data(table: Table, strings: Strings) -> dict[str, Any]:
  """Returns the data of the page, for JSON.

  Args:
    table: what to show.
    strings: with the strings that the markup of the page refers to.
  """
  tasks = list(dict.fromkeys(x.task for x in table.examples))
  schemas, rows = {}, []
  for example, kinds in zip(table.examples, table.kinds, strict=True):
    schema = tuple(example.names), tuple(example.prompts)
    targets = strings.indices(example.targets)
    predictions = strings.indices(example.predictions)
    alternatives = {
      u: strings.indices(texts)
      for u, texts in enumerate(example.alternatives)
      if texts
    }
    scores = example.scores or ()
    rows.append(
      [
        example.example_id,
        tasks.index(example.task),
        example.inputs,
        schemas.setdefault(schema, len(schemas)),
        targets,
        0 if predictions == targets else predictions,
        ''.join(kind.value for kind in kinds),
        [x if x is None else round(x, 4) for x in scores] or 0,
        int(example.is_truncated),
        alternatives or 0,
      ]
    )
  return {
    'fields': _FIELDS,
    'tasks': tasks,
    'schemas': [[strings.indices(part) for part in s] for s in schemas],
    'examples': rows,
    'dialogues': [dataclasses.asdict(d) for d in table.dialogues],
    'strings': strings.all(),
    'kinds': {
      kind.value: label
      for kind, (label, _) in LABELS.items()
      if kind is not Kind.UNJUDGED
    },
    'errors': [kind.value for kind in comparing.ERRORS],
    'empty': sorted(table.empty_words),
    'hasGold': table.has_gold,
    'hasScores': any(example.scores for example in table.examples),
  }
