# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""SGD on small files in the distributor's format."""

import json
import random
import shutil
import zipfile

import pytest
import seqio
from toys import tasks_data

from pid_jax import errors
from pid_jax.tasks import prepared
from pid_jax.tasks import sgd
from pid_jax.tasks.sgd import builder as builder_lib

FIXTURES = tasks_data.FIXTURES / 'sgd'


@pytest.fixture(scope='module', autouse=True, name='data_dir')
def _data_dir():
  with tasks_data.prepared(builder_lib.SchemaGuided) as data_dir:
    yield data_dir


def test_a_frame_is_an_example():
  train = tasks_data.examples('sgd_slot', 'train')
  assert list(train) == [
    '1_00000-0-Restaurants_1',
    '1_00000-2-Restaurants_1',
    '1_00001-0-Restaurants_1',
    '1_00001-0-Taxis_1',
    '1_00001-2-Taxis_1',
    '3_00001-0-Taxis_1',
  ]
  assert train['1_00000-2-Restaurants_1'] == {
    'example_id': '1_00000-2-Restaurants_1',
    'inputs': 'user: A table in York for two. system: At 7 | Heaven? '
    'user: Yes, and wine or not, I do not mind.',
    # The number to call can be asked for, but is in no state.
    'subtasks': ['restaurant_name', 'city', 'party_size', 'serves_alcohol'],
    'prompts': [
      'Finds and books tables. restaurant name: Name of the place',
      'Finds and books tables. city: Town in which to eat',
      'Finds and books tables. party size: How many people eat (1, 2, 3)',
      'Finds and books tables. serves alcohol: Whether wine is served '
      '(True, False)',
    ],
    'targets': ['7 | Heaven', 'York', '2', 'dontcare'],
    'answers': ['["7 | Heaven", "Seven | Heaven"]', '', '', ''],
    'is_categorical': [0, 0, 1, 1],
    'is_seen': 1,
    'service': 'Restaurants_1',
  }
  # What differs in white space alone is the same.
  assert train['1_00001-0-Taxis_1']['answers'] == ['["the station", "station"]']


def test_unseen_services_and_odd_texts():
  dev = tasks_data.examples('sgd_slot', 'validation')
  media = dev['1_00000-2-Media_2']
  assert media['inputs'] == ('user: Play Up without subtitles. system: user:')
  assert media['targets'] == ['Up', 'None']
  assert media['prompts'][1] == (
    'Films to watch at home. subtitle language: Language of subtitles, or None '
    '(None, English)'
  )
  assert media['is_seen'] == 0
  assert dev['1_00001-2-Restaurants_1']['is_seen'] == 1
  assert dev['1_00001-0-Restaurants_1']['targets'] == ['none'] * 4
  assert list(dev)[-1] == '1_00001-2-Media_2'  # The last turn, both frames.


def test_other_prompts():
  record = next(
    iter(prepared.records('sgd_slot', builder_lib.SchemaGuided, 'train'))
  )
  options = dict(possible_values=False, service_description=False)
  first, _ = sgd.examples(record, **options, schema_in_inputs=False)
  assert first['prompts'][2:] == [
    'party size: How many people eat',
    'serves alcohol: Whether wine is served',
  ]
  # After the dialogue, since its beginning is truncated.
  first, _ = sgd.examples(record, **options, schema_in_inputs=True)
  assert first['inputs'] == (
    'user: A table in York for two. service: Finds and books tables. '
    'restaurant name: Name of the place; city: Town in which to eat; '
    'party size: How many people eat; serves alcohol: Whether wine is served'
  )


def test_report(data_dir):
  splits = builder_lib.SchemaGuided(data_dir=data_dir).info.metadata['splits']
  assert splits['train']['counts'] == {
    'services': 2,
    'services unseen in training': 0,
    'slots': 5,
    'dialogues': 3,
    'turns': 7,
    'frames': 6,
    'filled slots': 2 + 4 + 1 + 1 + 1 + 1,
  }
  assert len(splits['train']['missing']) == 125
  assert splits['train']['missing'][0] == 'train/dialogues_002.json'
  assert splits['train']['skipped'] == [
    {
      'file': 'dialogues_003.json',
      'record': 'dialogue 3_00000',
      'why': "has a value 'none', which means empty",
    }
  ]
  assert splits['validation']['counts']['services unseen in training'] == 1
  (skipped,) = splits['validation']['skipped']
  assert skipped['record'] == 'dialogue 1_00002'


def _answers(seed, split='validation'):
  """Random predictions, near the gold and far from it."""
  rng = random.Random(seed)
  answers = {}
  for name, example in tasks_data.examples('sgd_slot', split).items():
    answers[name] = [
      rng.choice(['none', 'None', 'Up', 'the film', 'york', 'York', '2'])
      if rng.random() < 0.4
      else target
      for target in example['targets']
    ]
  return answers


def test_figures_are_the_same_in_all_layouts():
  seed = 1
  answers = _answers(seed)
  want = tasks_data.score('sgd_slot', 'validation', answers)
  assert 0 < want['sgd_average_goal_accuracy'] < 1
  assert 'sgd_joint_goal_accuracy/unseen' in want
  for layout in ('_pie', '_joint'):
    assert want == tasks_data.score(
      f'sgd_slot{layout}', 'validation', answers, seed=seed
    )


def test_archive(tmp_path, data_dir):
  """The zip file that GitHub makes of the repository reads like the folder."""
  name = 'dstc8-schema-guided-dialogue-master'
  with zipfile.ZipFile(tmp_path / f'{name}.zip', 'w') as archive:
    for path in FIXTURES.rglob('*.json'):
      archive.write(path, f'{name}/{path.relative_to(FIXTURES)}')
  made = tasks_data.prepare(
    builder_lib.SchemaGuided, tmp_path / 'prepared', tmp_path
  )
  assert (
    made.info.metadata['splits']
    == (builder_lib.SchemaGuided(data_dir=data_dir).info.metadata['splits'])
  )


def _dev(change):
  def write(folder):
    path = folder / 'dev/dialogues_001.json'
    dialogues = json.loads(path.read_text())
    change(dialogues[0]['turns'])
    path.write_text(json.dumps(dialogues))

  return write


@pytest.mark.parametrize(
  'break_it, message',
  [
    (
      lambda folder: (folder / 'dev/dialogues_001.json').write_text(
        (FIXTURES / 'dev/dialogues_001.json').read_text()[:700]
      ),
      'dev/dialogues_001.json: malformed JSON .* 700',
    ),
    (
      lambda folder: (folder / 'dev/schema.json').unlink(),
      'dev/schema.json is missing',
    ),
    (
      lambda folder: (folder / 'train/schema.json').unlink(),
      'train/schema.json is missing',
    ),
    (
      lambda folder: (folder / 'dev/schema.json').write_text('[]'),
      'dev/schema.json has no services',
    ),
    (
      lambda folder: shutil.copy(
        folder / 'train/schema.json', folder / 'dev/schema.json'
      ),
      "dialogue 1_00000, turn 0: the service 'Media_2' is not in schema",
    ),
    (
      _dev(lambda turns: turns[0]['frames'][0].pop('state')),
      'dialogue 1_00000, turn 0: has no state of Media_2',
    ),
    (
      _dev(
        lambda turns: turns[0]['frames'][0]['state']['slot_values'].update(
          colour=['red']
        )
      ),
      "turn 0: .* Media_2 has no slot 'colour'",
    ),
    (
      _dev(
        lambda turns: turns[0]['frames'][0]['state']['slot_values'].update(
          movie_name=[]
        )
      ),
      'the slot movie_name of Media_2 .* \\[\\]',
    ),
    (
      _dev(lambda turns: turns[1].update(speaker='BOT')),
      "turn 1: the speaker is 'BOT'",
    ),
    (
      _dev(lambda turns: turns[1].pop('utterance')),
      "dialogues_001.json, dialogue 1_00000: lacks 'utterance'",
    ),
  ],
)
def test_invalid_files_are_named_and_leave_nothing(tmp_path, break_it, message):
  folder = tmp_path / 'sgd'
  shutil.copytree(FIXTURES, folder)
  break_it(folder)
  tasks_data.assert_refused(
    builder_lib.SchemaGuided, tmp_path / 'prepared', tmp_path, message
  )


def test_tokens():
  """The text-to-text layout, of the tokens that the vocabulary has."""
  task = seqio.TaskRegistry.get('sgd_slot_pie')
  encode = task.output_features['targets'].vocabulary.encode
  (_, example, *_) = tasks_data.examples('sgd_slot', 'train').values()
  rows = task.get_dataset(None, 'train', shuffle=False).skip(4).take(2)
  seqio.test_utils.assert_dataset(
    rows.map(
      lambda row: {
        k: row[k]
        for k in ('inputs', 'targets', 'answers', 'is_categorical')
      }
    ),
    [
      {
        'inputs': [
          *encode(example['prompts'][i]), *encode(example['inputs']), 1,
        ],
        'targets': encode(example['targets'][i]) + [1],
        'answers': example['answers'][i],
        'is_categorical': example['is_categorical'][i],
      }
      for i in (0, 1)
    ],
  )  # fmt: skip


def test_registering_twice():
  assert sgd.register('sgd_slot') == 'sgd_slot'
  with pytest.raises(errors.UserError, match='other arguments'):
    sgd.register('sgd_slot', service_description=False)
