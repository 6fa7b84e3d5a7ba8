# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Which examples are turns of one dialogue.

In tasks of dialogue state tracking an example is a dialogue up to some turn.
Its id ends in the turn's number, and in SGD in the service whose state is asked
for besides: 'bookings-test-4-2', '1_00000-4-Hotels_1'. Other ids may look like
this, so the texts must agree: each turn's begins with the one before.
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
    name: what their ids begin with.
    service: whose state they ask for, '' if there is one state.
    turns: their indices, by rising turn; at least two.
  """

  name: str
  service: str
  turns: Sequence[int]


def find(examples: Sequence[records.Example]) -> list[Dialogue]:
  """Finds dialogues of two turns or more.

  Args:
    examples: in any order.

  Returns:
    Dialogues, in the order in which the first of their examples appears.
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
