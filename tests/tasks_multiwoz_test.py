# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""MultiWOZ 2.4 on small files in the distributor's format."""

import json
import random
import shutil
import zipfile

import pytest
from toys import tasks_data

from pid_jax import errors
from pid_jax.subtasks import slot_strings
from pid_jax.tasks import multiwoz
from pid_jax.tasks.multiwoz import builder as builder_lib
from pid_jax.tasks.multiwoz import ontology
from pid_jax.tasks.multiwoz import reader

FOLDER = tasks_data.FIXTURES / 'multiwoz24/MULTIWOZ2.4'


@pytest.fixture(scope='module', autouse=True, name='data_dir')
def _data_dir():
  with tasks_data.prepared(builder_lib.Multiwoz24) as data_dir:
    yield data_dir


def _filled(example):
  """Of each filled slot of an example its value, or the list of all values."""
  slots = zip(
    example['subtasks'],
    example['targets'],
    example['answers'],
    strict=True,
  )
  return {
    name: json.loads(several) if several else value
    for name, value, several in slots
    if several or value != 'none'
  }


def test_states_after_each_user_turn():
  train = tasks_data.examples('multiwoz24_slot', 'train')
  assert list(train) == [
    f'{name}.json-{turn}' for name in ('SNG9001', 'MUL9006') for turn in (1, 2)
  ]
  first, second = train['SNG9001.json-1'], train['SNG9001.json-2']
  assert first['inputs'] == "user: i'm looking for a cheap room in the north."
  assert second['inputs'] == (
    "user: i'm looking for a cheap room in the north. "
    'system: any star rating? '
    "user: i don't care. it must have parking, for two nights from friday."
  )
  assert first['subtasks'] == list(ontology.SLOT_NAMES)
  assert _filled(first) == {
    'hotel-pricerange': 'cheap',
    'hotel-area': 'north',
  }
  # Neither 'none' nor what was booked is a wish; capitals and spellings go.
  assert _filled(second) == {
    'hotel-pricerange': 'cheap',
    'hotel-area': 'north',
    'hotel-stars': 'dontcare',
    'hotel-parking': 'yes',
    'hotel-book stay': '2',
    'hotel-book day': 'friday',
  }
  # A key that is missing is empty; a time stays as it was written.
  assert _filled(train['MUL9006.json-1']) == {
    'train-destination': 'leeds',
    'train-leaveat': '9:00',
  }
  assert _filled(train['MUL9006.json-2'])['train-book people'] == '3'


def test_several_values_may_be_right():
  found = tasks_data.examples('multiwoz24_slot', 'validation')
  assert _filled(found['PMUL9011.json-1']) == {
    'attraction-type': ['museum', 'college'],
    'restaurant-book time': ['17:30', '16:30'],
    'restaurant-food': 'dontcare',
  }
  second = found['PMUL9011.json-2']
  assert _filled(second) == {
    'attraction-type': ['museum', 'college'],
    'restaurant-book time': ['17:30', '16:30'],
    'restaurant-food': 'dontcare',
    'restaurant-pricerange': ['cheap', 'none'],
  }
  place = second['subtasks'].index('restaurant-pricerange')
  assert second['targets'][place] == 'cheap'


@pytest.mark.parametrize(
  'annotated, want',
  [
    ('', []),
    ('not mentioned', []),
    ('None', []),
    ('not mentioned|none', []),
    ("Don't  Care", ['dontcare']),
    ('dont care|dontcare', ['dontcare']),
    ('a<b>c|a', ['a', 'b', 'c']),
    ('none|north', ['north', 'none']),
    ('9:00', ['9:00']),
    ('not(hamilton lodge)', ['not(hamilton lodge)']),
    ('Saint John\u2019s', ["saint john's"]),
  ],
)
def test_values(annotated, want):
  assert reader.values_of(annotated) == want


def test_last_turns_and_emptied_states():
  """A turn with nothing in its state has that state, not the one before."""
  test = tasks_data.examples('multiwoz24_slot', 'test')
  states = [_filled(test[f'MUL9021.json-{turn}']) for turn in (1, 2, 3, 4)]
  food = {'restaurant-food': 'indian', 'restaurant-area': 'east'}
  assert states == [
    food,
    {**food, 'restaurant-name': 'curry garden'},
    {'taxi-leaveat': '9:00'},
    {},
  ]
  assert _filled(test['SNG9022.json-1']) == {}
  assert list(test)[-1] == 'SNG9022.json-2'
  gold = {name: list(e['targets']) for name, e in test.items()}
  score = lambda answers: tasks_data.score('multiwoz24_slot', 'test', answers)[
    'joint_goal_accuracy_any_alternative'
  ]
  assert score(gold) == 1
  # The taxi of the turn before is not true any more.
  stale = {**gold, 'MUL9021.json-4': gold['MUL9021.json-3']}
  assert score(stale) == pytest.approx(5 / 6)
  for place, value in [('hotel-name', 'the moon'), ('hotel-name', 'gables')]:
    wrong = list(gold['SNG9022.json-2'])
    wrong[ontology.SLOT_NAMES.index(place)] = value
    assert score({**gold, 'SNG9022.json-2': wrong}) == pytest.approx(5 / 6)
  # Nor is a time forgiven that is written in another way, or an invention.
  for place, value in [('taxi-leaveat', '09:00'), ('taxi-arriveby', 'purple')]:
    wrong = list(gold['MUL9021.json-3'])
    wrong[ontology.SLOT_NAMES.index(place)] = value
    assert score({**gold, 'MUL9021.json-3': wrong}) == pytest.approx(5 / 6)


def test_prompts_and_domains():
  (example, *_) = tasks_data.examples('multiwoz24_slot', 'test').values()
  prompts = dict(zip(example['subtasks'], example['prompts'], strict=True))
  assert len(set(prompts.values())) == 30
  assert prompts['hotel-pricerange'] == (
    'hotel price range: how much a room may cost (cheap, moderate, expensive)'
  )
  assert prompts['taxi-leaveat'] == 'taxi leave at: the time to be picked up'
  for name, prompt in zip(
    ontology.SLOT_NAMES, ontology.slot_prompts(False), strict=True
  ):
    assert prompts[name].startswith(prompt) and '(' not in prompt

  domains = tasks_data.examples('multiwoz24_domain', 'validation')
  second = domains['PMUL9011.json-2']
  assert second['subtasks'] == [
    'hotel', 'train', 'attraction', 'restaurant', 'taxi',
  ]  # fmt: skip
  assert second['targets'] == [
    'none',
    'none',
    'type = museum',
    'book time = 17:30 | food = dontcare | pricerange = cheap',
    'none',
  ]
  assert second['prompts'][3] == (
    'restaurant: book people, book day, book time, food, pricerange, name, area'
  )
  assert '(cheap, moderate, expensive)' in ontology.domain_prompts(True)[0]


def _states(seed):
  """Random predictions of the test split, near the gold and far from it."""
  rng = random.Random(seed)
  gold = tasks_data.examples('multiwoz24_slot', 'test')
  states = {}
  for name, example in gold.items():
    answer = list(example['targets'])
    for index in range(len(answer)):
      if rng.random() < rng.choice([0, 0.05, 0.4]):
        answer[index] = rng.choice(['none', 'east', 'dontcare', '9:00', 'x y'])
    states[name] = answer
  return states


def _by_domain(answer):
  filled = {
    name: value
    for name, value in zip(ontology.SLOT_NAMES, answer, strict=True)
    if value != 'none'
  }
  return [
    slot_strings.format_slots(
      {s: filled[f'{d}-{s}'] for s in slots if f'{d}-{s}' in filled}
    )
    for d, slots in ontology.DOMAINS.items()
  ]


def test_figures_are_the_same_by_slot_and_domain_in_all_layouts():
  seed = 1
  slots = _states(seed)
  domains = {name: _by_domain(answer) for name, answer in slots.items()}
  want = tasks_data.score('multiwoz24_slot', 'test', slots)
  assert 0 < want['slot_accuracy'] < 1
  assert 'active_domain_accuracy_any_alternative/taxi' in want
  for task, answers in [
    ('multiwoz24_slot', slots),
    ('multiwoz24_domain', domains),
  ]:
    for layout in ('', '_pie', '_joint'):
      found = tasks_data.score(task + layout, 'test', answers, seed=seed)
      assert found == want


@pytest.mark.parametrize('task', ['multiwoz24_slot', 'multiwoz24_domain'])
def test_missing_rows_are_missing_predictions(task):
  examples = tasks_data.examples(task, 'validation')
  gold = {name: list(e['targets']) for name, e in examples.items()}

  def score(drop, **kwargs):
    holes = {name: list(answer) for name, answer in gold.items()}
    for name, index in drop:
      holes[name][index] = None
    return [
      tasks_data.score(task, 'validation', holes),
      tasks_data.score(
        f'{task}_pie',
        'validation',
        gold,
        keep=lambda row: (
          (row['example_id'].decode(), row['subtask_index']) not in drop
        ),
        **kwargs,
      ),
    ]

  for seed in (None, 1):
    want, got = score(
      {('PMUL9011.json-1', 3), ('PMUL9011.json-1', 2), ('SNG9012.json-1', 4)},
      seed=seed,
    )
    assert got == want and got['missing_predictions'] == 3
    assert got['joint_goal_accuracy_any_alternative'] == pytest.approx(1 / 3)
    # With the first row goes the name of what is missing, and what was wanted.
    want, got = score({('PMUL9011.json-2', 0), ('PMUL9011.json-2', 3)})
    for name in (
      'joint_goal_accuracy',
      'joint_goal_accuracy_any_alternative',
      'missing_predictions',
      'slot_accuracy',
      'slot_accuracy_any_alternative',
      'slot_precision_any_alternative',
    ):
      assert got[name] == want[name]


def test_account_and_archive(tmp_path, data_dir):
  """The zip file in the distributor's repository reads like the folder."""
  (tmp_path / 'MultiWOZ2.4/data').mkdir(parents=True)
  with zipfile.ZipFile(
    tmp_path / 'MultiWOZ2.4/data/MULTIWOZ2.4.zip', 'w'
  ) as archive:
    for path in FOLDER.iterdir():
      archive.write(path, f'MULTIWOZ2.4/{path.name}')
  for folder in (tmp_path, tmp_path / 'MultiWOZ2.4'):
    made = tasks_data.prepare(
      builder_lib.Multiwoz24, tmp_path / folder.name / 'prepared', folder
    )
    splits = made.info.metadata['splits']
    assert (
      splits
      == (builder_lib.Multiwoz24(data_dir=data_dir).info.metadata['splits'])
    )
  assert splits['train']['counts'] == {
    'dialogues in the files': 6,
    'filled slots': 2 + 6 + 2 + 3,
    'filled slots beyond the 30, left out': 1 + 1,
    'dialogues': 2,
    'turns': 4,
  }
  skipped = splits['train']['skipped']
  assert {s['record']: s['why'] for s in skipped} == {
    'dialogue MUL9002.json': 'has an odd number of turns',
    'dialogue WOZ9003.json': 'has broken text: a turn of more than 50 words',
    'dialogue PMUL9004.json': 'has broken text: characters beyond ASCII',
    'dialogue SNG9005.json': 'has a turn without a state',
  }
  assert splits['test']['counts']['turns'] == 6


def _changed(change):
  def write(folder):
    data = json.loads((folder / 'data.json').read_text())
    change(data)
    (folder / 'data.json').write_text(json.dumps(data))

  return write


def _list(text):
  return lambda folder: (folder / 'valListFile.json').write_text(text)


@pytest.mark.parametrize(
  'break_it, message',
  [
    (
      lambda folder: (folder / 'data.json').write_text(
        (folder / 'data.json').read_text()[:9000]
      ),
      'data.json: malformed JSON .* 9000',
    ),
    (
      lambda folder: (folder / 'testListFile.json').unlink(),
      'testListFile.json is missing',
    ),
    (_list(''), 'valListFile.json is empty'),
    (
      _list('PMUL9011.json\nSNG1.json\n'),
      "valListFile.json, id 2: 'SNG1.json'",
    ),
    (_list('["PMUL9011.json"]'), 'id 1: .*PMUL9011.json'),
    (
      _list('MUL9021.json\n'),
      "testListFile.json, id 1: 'MUL9021.json' .* validation",
    ),
    (
      _changed(lambda data: data['SNG9012.json'].pop('log')),
      "data.json, dialogue SNG9012.json: lacks 'log'",
    ),
    (
      _changed(lambda data: data['SNG9012.json']['log'][0].pop('text')),
      "dialogue SNG9012.json: lacks 'text'",
    ),
    (
      _changed(
        lambda data: data['SNG9012.json']['log'][1]['metadata']['taxi'].pop(
          'semi'
        )
      ),
      "dialogue SNG9012.json: lacks 'semi'",
    ),
    (
      _changed(
        lambda data: data['SNG9012.json']['log'][1]['metadata']['taxi'][
          'semi'
        ].update(leaveAt=['9:00'])
      ),
      'dialogue SNG9012.json: .*AttributeError',
    ),
  ],
)
def test_invalid_files_are_named_and_leave_nothing(tmp_path, break_it, message):
  folder = tmp_path / 'MULTIWOZ2.4'
  shutil.copytree(FOLDER, folder)
  break_it(folder)
  tasks_data.assert_refused(
    builder_lib.Multiwoz24, tmp_path / 'prepared', tmp_path, message
  )


def test_registering_twice():
  assert multiwoz.register('multiwoz24_slot') == 'multiwoz24_slot'
  with pytest.raises(errors.UserError, match='other arguments'):
    multiwoz.register('multiwoz24_slot', possible_values=False)
  with pytest.raises(errors.UserError, match="'slots'; did you mean slot"):
    multiwoz.register('other', granularity='slots')
