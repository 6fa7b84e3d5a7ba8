# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Predictions with errors of every kind, for tests of the viewer."""

import json
import pathlib
import random

from pid_jax.tasks import bookings

# How often a subtask goes wrong; more than in a trained model.
_MISSED, _INVENTED, _WRONG, _NEAR = 0.06, 0.002, 0.05, 0.05


def bookings_lines(
  split: str, num_dialogues: int, *, level: str = 'bookings', seed: int = 0
) -> list[dict]:
  """Makes lines as `predict` writes them, with gold and scores.

  Args:
    split: of the task.
    num_dialogues: number of dialogues.
    level: the name of the task.
    seed: of the errors.
  """
  rng = random.Random(seed)
  examples = list(bookings.examples(level, split, num_dialogues))
  values = {name: [] for name in examples[0]['subtasks']}
  for example in examples:
    for name, target in zip(
      example['subtasks'], example['targets'], strict=True
    ):
      if target != 'none':
        values[name].append(target)
  lines = []
  for example in examples:
    subtasks = []
    for name, prompt, target in zip(
      example['subtasks'], example['prompts'], example['targets'], strict=True
    ):
      prediction = _predicted(target, values[name], rng)
      sure = 0.01 if prediction == target else 0.7
      subtasks.append(
        {
          'name': name,
          'prompt': prompt,
          'target': target,
          'prediction': prediction,
          'score': round(-sure * rng.random(), 6),
        }
      )
    lines.append(
      {
        'id': example['example_id'],
        'inputs': example['inputs'],
        'subtasks': subtasks,
      }
    )
  return lines


def write(path: pathlib.Path, lines: list[dict]) -> pathlib.Path:
  """Writes JSON lines and returns their path."""
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return path


def _predicted(target: str, others: list[str], rng: random.Random) -> str:
  chance = rng.random()
  if target == 'none':
    return rng.choice(others) if others and chance < _INVENTED else target
  if chance < _MISSED:
    return 'none'
  if chance < _MISSED + _WRONG:
    return rng.choice(others)
  if chance < _MISSED + _WRONG + _NEAR and len(target) > 5:
    place = rng.randrange(len(target))
    return target[:place] + 'x' + target[place + 1 :]
  return target
