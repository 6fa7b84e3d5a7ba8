# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a page of predictions counts, and its data in little space.

A thousand inputs with 30 subtasks repeat few strings many times: each is kept
once, and examples hold indices. assets/predictions_data.js reads them.
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from collections.abc import Sequence
import dataclasses
from typing import Any

from pid_jax.viewer import comparing
from pid_jax.viewer import dialogues
from pid_jax.viewer import records

Kind = comparing.Kind

# Kind -> its name on the page, and what it means.
LABELS = {
  Kind.RIGHT: ('right', 'equal to a right value, up to white space'),
  Kind.MISSED: ('missed', 'there is a value, and none is predicted'),
  Kind.INVENTED: ('invented', 'there is none, and one is predicted'),
  Kind.WRONG: ('wrong value', 'another value than the right one'),
  Kind.NEAR_MISS: (
    'near miss',
    'a value that looks like the right one; see below',
  ),
  Kind.ABSENT: ('no prediction', 'the model gave no output for it'),
  Kind.UNJUDGED: ('no gold', 'nothing to compare with'),
}
NEAR_MISS_RULE = (
  f'A near miss looks like a right value: 1 - d / n is {comparing.NEAR} or '
  'more, with d the least number of characters to insert, delete or replace, '
  'and n the length of the longer text. Case, punctuation and the articles a, '
  'an, the are left aside first; digits must be the same. Saying "nothing" in '
  'another word is a near miss too. Some metrics count a part of these as '
  'right.'
)

# Of an example in the page's data, in order.
_FIELDS = (
  'id',
  'task',
  'inputs',
  'schema',  # Names and prompts.
  'targets',
  'predictions',  # 0: as the targets.
  'kinds',
  'scores',  # 0: none.
  'is_truncated',
  'alternatives',  # 0: none; else place -> strings.
)


@dataclasses.dataclass(frozen=True)
class Table:
  """Predictions compared with gold.

  Attributes:
    examples: as they were read.
    kinds: [N][U], of each subtask.
    dialogues: among the examples.
    empty_words: as they were compared with.
  """

  examples: Sequence[records.Example]
  kinds: Sequence[Sequence[Kind]]
  dialogues: Sequence[dialogues.Dialogue]
  empty_words: Collection[str]

  @property
  def has_gold(self) -> bool:
    return any(kind is not Kind.UNJUDGED for row in self.kinds for kind in row)

  def counts(self) -> collections.Counter[Kind]:
    """How many subtasks are of each kind."""
    return collections.Counter(kind for row in self.kinds for kind in row)

  def counts_by_name(self) -> dict[str, collections.Counter[Kind]]:
    """The same for each name of a subtask, in the order of appearance."""
    counts = {}
    for example, row in zip(self.examples, self.kinds, strict=True):
      for name, kind in zip(example.names, row, strict=True):
        counts.setdefault(name, collections.Counter())[kind] += 1
    return counts

  def num_right(self) -> int:
    """The number of examples with gold, all of whose subtasks are right."""
    return sum(
      Kind.RIGHT in row and not any(kind.is_error for kind in row)
      for row in self.kinds
    )

  def num_judged(self) -> int:
    """The number of examples with gold."""
    return sum(
      any(kind is not Kind.UNJUDGED for kind in row) for row in self.kinds
    )


def compare(
  examples: Sequence[records.Example], empty_words: Collection[str]
) -> Table:
  """Compares all predictions; see `comparing.compare`."""
  known = {}

  def kind(golds: Sequence[str], prediction: str | None) -> Kind:
    key = (*golds, prediction)
    if key not in known:
      known[key] = comparing.compare(golds, prediction, empty_words)
    return known[key]

  kinds = [
    [kind(x.golds(u), text) for u, text in enumerate(x.predictions)]
    for x in examples
  ]
  return Table(examples, kinds, dialogues.find(examples), empty_words)


class Strings:
  """Numbers strings in the order in which they are first asked for."""

  def __init__(self):
    self._indices: dict[str, int] = {}

  def index(self, text: str | None) -> int:
    """The number of a string, -1 of None."""
    if text is None:
      return -1
    return self._indices.setdefault(text, len(self._indices))

  def indices(self, texts: Sequence[str | None]) -> list[int]:
    return [self.index(text) for text in texts]

  def all(self) -> list[str]:
    return list(self._indices)


def to_data(table: Table, strings: Strings) -> dict[str, Any]:
  """Makes the page's data.

  Args:
    table: what to show.
    strings: may know strings that the page's markup refers to.

  Returns:
    What JSON can write.
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
