# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Groups examples that are turns of one dialogue.

In dialogue state tracking an example is a dialogue up to some turn. Its id ends
in the number of the turn, in SGD followed by a service: 'bookings-test-4-2',
'1_00000-4-Hotels_1'. Other ids may have this form by chance, so the text of
each turn must also begin with that of the turn before.
"""

from __future__ import annotations

from collections.abc import Sequence
import dataclasses
import re

from pid_jax.viewer import records

_ID = re.compile(r'(?P<dialogue>.+)-(?P<turn>\d+)(?:-(?P<service>\D.*))?', re.S)


@dataclasses.dataclass(frozen=True)
class Dialogue:
  """Examples that are turns of one dialogue.

  Attributes:
    name: common beginning of their ids.
    service: whose state they have; '' without services.
    turns: indices of the examples, by ascending turn; at least two.
  """

  name: str
  service: str
  turns: Sequence[int]


def find(examples: Sequence[records.Example]) -> list[Dialogue]:
  """Finds dialogues of at least two turns.

  Args:
    examples: in any order.

  Returns:
    Dialogues, ordered by the first of their examples.
  """
  turns = {}
  for index, example in enumerate(examples):
    match = _ID.fullmatch(example.example_id)
    if match:
      key = example.task, match['dialogue'], match['service'] or ''
      turns.setdefault(key, []).append((int(match['turn']), index))
  dialogues = []
  for (_, name, service), found in turns.items():
    indices = [index for _, index in sorted(found)]
    texts = [examples[index].inputs for index in indices]
    grows = all(
      len(later) > len(earlier) > 0 and later.startswith(earlier)
      for earlier, later in zip(texts, texts[1:], strict=False)
    )
    if len(indices) > 1 and grows:
      dialogues.append(Dialogue(name, service, indices))
  return sorted(dialogues, key=lambda dialogue: min(dialogue.turns))
