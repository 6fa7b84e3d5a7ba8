# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The dialogues of this library's tasks are found from their examples."""

import collections
import json

import pytest
from toys import tasks_data

from pid_jax.tasks import bookings
from pid_jax.tasks import multiwoz
from pid_jax.tasks import sgd
from pid_jax.tasks.bookings import simulator
from pid_jax.viewer import dialogues
from pid_jax.viewer import records


@pytest.fixture(scope='module', autouse=True)
def _data():
  with tasks_data.prepared(
    multiwoz.builder.Multiwoz24, sgd.builder.SchemaGuided
  ):
    yield


def _found(examples):
  """Name, service -> number of turns; all that are of two or more."""
  read = [
    records.Example(
      example_id=example['example_id'],
      task='',
      inputs=example['inputs'],
      names=example['subtasks'],
      prompts=example['prompts'],
      targets=example['targets'],
      alternatives=[[]] * len(example['targets']),
      predictions=example['targets'],
    )
    for example in examples
  ]
  return {(d.name, d.service): len(d.turns) for d in dialogues.find(read)}


def test_bookings():
  expected = {
    (f'bookings-test-{index}', ''): len(
      simulator.simulate('bookings', 'test', bookings.SEED, index)
    )
    for index in range(20)
  }
  found = _found(bookings.examples('bookings', 'test', 20))
  assert found == {name: n for name, n in expected.items() if n > 1}
  assert len(found) > 15


@pytest.mark.parametrize('task', ['multiwoz24_slot', 'multiwoz24_domain'])
def test_multiwoz(task):
  found = _found(tasks_data.examples(task, 'train').values())
  folder = tasks_data.FIXTURES / 'multiwoz24/MULTIWOZ2.4'
  elsewhere = [
    name
    for split in ('val', 'test')
    for name in (folder / f'{split}ListFile.json').read_text().split()
  ]
  turns = {
    (name, ''): len(dialogue['log']) // 2  # The user's are every second.
    for name, dialogue in json.loads((folder / 'data.json').read_text()).items()
    if name not in elsewhere
  }
  assert found == {name: n for name, n in turns.items() if n > 1}
  assert found


def test_sgd():
  found = _found(tasks_data.examples('sgd_slot', 'train').values())
  turns = collections.Counter(
    (dialogue['dialogue_id'], frame['service'])
    for path in (tasks_data.FIXTURES / 'sgd/train').glob('dialogues_*.json')
    for dialogue in json.loads(path.read_text())
    for turn in dialogue['turns']
    if turn['speaker'] == 'USER'
    for frame in turn['frames']
  )
  assert found == {name: n for name, n in turns.items() if n > 1}
  assert found
