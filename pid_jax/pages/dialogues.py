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
import re

from pid_jax.pages import records

_ID = re.compile(r'(?P<dialogue>.+)-(?P<turn>\d+)(?:-(?P<track>\D.*))?', re.S)


def find(examples: Sequence[records.Example]) -> list[list[int]]:
  """Finds dialogues of two turns or more.

  Args:
    examples: in any order.

  Returns:
    For each dialogue, in the order in which its first turn appears, the indices
    of its examples by rising turn.
  """
  turns = {}
  for index, example in enumerate(examples):
    match = _ID.fullmatch(example.example_id)
    if match:
      key = example.task, match['dialogue'], match['track']
      turns.setdefault(key, []).append((int(match['turn']), index))
  dialogues = []
  for found in turns.values():
    indices = [index for _, index in sorted(found)]
    texts = [examples[index].inputs for index in indices]
    grows = all(
      len(later) > len(earlier) > 0 and later.startswith(earlier)
      for earlier, later in zip(texts, texts[1:], strict=False)
    )
    if len(indices) > 1 and grows:
      dialogues.append(indices)
  return sorted(dialogues, key=min)
