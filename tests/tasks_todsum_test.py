# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""TODSum on small files in the format of the authors' repository."""

import json

import pytest
from toys import tasks_data

from pid_jax import errors
from pid_jax.tasks import prepared
from pid_jax.tasks import todsum
from pid_jax.tasks.todsum import consistency
from pid_jax.tasks.todsum import domains
from pid_jax.tasks.todsum import reader

FIXTURES = tasks_data.FIXTURES / 'todsum'


@pytest.fixture(scope='module', autouse=True, name='data_dir')
def _data_dir():
  with tasks_data.prepared(reader.Todsum) as data_dir:
    yield data_dir


def _examples(split, **options):
  return {
    example['example_id']: example
    for record in prepared.records('todsum_domain', reader.Todsum, split)
    for example in todsum.examples(record, **options)
  }


def test_examples():
  found = _examples('validation')
  assert list(found) == ['MUL9001.json', 'SNG9002.json', 'PMUL9003.json']
  first = found['MUL9001.json']
  assert first['inputs'] == (
    'user: Hello, I need a train to Leeds on monday. '
    'system: Sure. Where from? '
    'user: From York, and a cheap room near the station with parking. '
    'system: The Gables is cheap. Shall I book? '
    'user: For two nights and 3 people, from monday. '
    'system: Booking completed!'
  )
  assert first['subtasks'] == ['train', 'hotel']  # As the dialogue does.
  assert first['prompts'] == ['summary of the train:', 'summary of the hotel:']
  assert first['targets'] == [
    'the user asks the duration of the train. this train departs from york '
    'and arrives at leeds on monday.',
    'the user asks if there is a hotel that can accommodate 3 people for 2 '
    'days, and he plans to stay on monday. the hotel is cheap and has parking.',
  ]
  assert list(zip(first['state_domain'], first['state_slot'], strict=True)) == [
    *[('hotel', s) for s in ('people', 'day', 'stay')],
    *[('hotel', s) for s in ('name', 'parking', 'pricerange')],
    *[('train', s) for s in ('destination', 'day', 'departure')],
  ]
  taxi = found['SNG9002.json']
  assert dict(zip(taxi['subtasks'], taxi['targets'], strict=True)) == {
    'taxi': "the user wants to know the car type and the driver's phone number."
    ' this train leaves at 10:15, from the red lion to museum.',
    'attraction': 'none',
  }
  by_state = dict(
    zip(
      found['PMUL9003.json']['subtasks'],
      found['PMUL9003.json']['targets'],
      strict=True,
    )
  )
  assert by_state['restaurant'].endswith('the name of thai garden.')
  assert by_state['attraction'] == (
    'the user wants to know the area. it is in the east.'
  )


def test_states_are_appended_to_the_dialogue(tmp_path):
  gold = _examples('train', states=todsum.GOLD)['SNG9022.json']
  assert gold['inputs'] == (
    'user: Any parks in the north? system: No. '
    'state: attraction type park, attraction area north'
  )
  file = tmp_path / 'states.jsonl'
  file.write_text(
    '{"id": "SNG9021.json", "state": {"restaurant": {"people": 3}}}\n\n'
    '{"id": "SNG9022.json", "state": {}}\n'
  )
  found = _examples('train', states=str(file))
  assert found['SNG9021.json']['inputs'].endswith(
    "on friday at Mario's. system: It is booked. user: Thanks. "
    'state: restaurant people 3'
  )
  assert found['SNG9022.json']['inputs'].endswith('system: No. state: ')
  with pytest.raises(errors.UserError, match='no state of the dialogue MUL90'):
    _examples('validation', states=str(file))
  file = tmp_path / 'broken.jsonl'
  file.write_text('{"id": "SNG9021.json"}')
  with pytest.raises(errors.UserError, match="line 1: lacks 'state'"):
    _examples('train', states=str(file))


def test_report_of_what_was_read(data_dir):
  builder = reader.Todsum(data_dir=data_dir)
  account = builder.info.metadata
  assert account['folder'] == str(FIXTURES / 'todsum')
  assert account['splits']['test'] == {
    'counts': {
      'dialogues': 2,
      'sentences': 5,
      'summaries of two sentences a domain': 0,
      'pairs told by: alone': 3,
      'pairs told by: first': 1,
    },
    'missing': [],
    'skipped': [
      {
        'file': 'test.json',
        'record': 'dialogue SNG9012.json',
        'why': 'no summary',
      }
    ],
  }
  counts = account['splits']['validation']['counts']
  assert counts['summaries of two sentences a domain'] == 2
  assert counts['pairs told by: first'] == 3
  assert counts['pairs told by: second'] == 1
  assert counts['pairs told by: left over'] == 1


@pytest.mark.parametrize(
  'summary, state, want, branches',
  [
    (['the hotel.', 'x.'], [], 'hotel hotel', 'first'),
    (['the hotel or train.', 'the hotel.'], [], 'hotel hotel', 'second'),
    (['x.', 'x.', 'the taxi.', 'x.'], ['taxi', 'train'],
     'train train taxi taxi', 'left over,first'),
    (['the taxi.', 'x.', 'x.', 'x.'], ['taxi'], 'taxi taxi taxi taxi',
     'first,left over'),
    (['x.', 'x.'], [], 'attraction attraction', 'left over'),
    (['x.', 'the train.', 'x.'], ['hotel'], 'hotel train train',
     'alone,alone,alone'),
    ([], ['hotel'], '', ''),
  ],
)  # fmt: skip
def test_the_rule_of_sentences(summary, state, want, branches):
  found = domains.assign(summary, state)
  assert found == (want.split(), branches.split(',') if branches else [])


def _broken(change):
  dialogues = json.loads((FIXTURES / 'todsum/valid.json').read_text())
  change(dialogues[1])
  return json.dumps(dialogues)


@pytest.mark.parametrize(
  'content, message',
  [
    (
      lambda: (FIXTURES / 'todsum/valid.json').read_text()[:900],
      'valid.json: malformed JSON .* 900',
    ),
    (lambda: '{}', 'valid.json: must hold a JSON list, not an object'),
    (lambda: '[]', 'no record of the split validation in .*valid.json comp'),
    (
      lambda: _broken(lambda d: d.pop('summary')),
      "valid.json, dialogue SNG9002.json: lacks 'summary'",
    ),
    (
      lambda: _broken(lambda d: d['dst']['taxi'].pop('book')),
      "dialogue SNG9002.json: lacks 'book'",
    ),
    (
      lambda: _broken(lambda d: d.pop('dialog_id')),
      "valid.json, dialogue number 2: lacks 'dialog_id'",
    ),
    (
      lambda: _broken(lambda d: d.update(text=[' '])),
      'dialogue SNG9002.json: .*ValueError',
    ),
    (
      lambda: _broken(lambda d: d['dst'].update(bus=d['dst']['taxi'])),
      r"unknown domains \['bus'\]",
    ),
    (
      lambda: _broken(lambda d: d.update(dialog_id='MUL9001.json')),
      'MUL9001.json occurs twice in the split validation of ',
    ),
  ],
)
def test_invalid_files_are_named_and_leave_nothing(tmp_path, content, message):
  (tmp_path / 'todsum').mkdir()
  (tmp_path / 'todsum/valid.json').write_text(content())
  tasks_data.assert_refused(reader.Todsum, tmp_path / 'data', tmp_path, message)


def test_task_in_three_layouts():
  rows = tasks_data.rows('todsum_domain_joint', 'validation')
  examples = _examples('validation')
  assert [r['example_id'].decode() for r in rows] == list(examples)
  assert tasks_data.examples('todsum_domain', 'validation') == examples
  assert todsum.register('todsum_domain') == 'todsum_domain'  # A no-op.
  with pytest.raises(errors.UserError, match='other arguments'):
    todsum.register('todsum_domain', states=todsum.GOLD)


_TARGET = {
  'subtasks': ['hotel', 'taxi'],
  'state_domain': ['hotel'] * 5 + ['taxi', 'taxi'],
  'state_kind': ['book', 'book', 'semi', 'semi', 'semi', 'semi', 'semi'],
  'state_slot': [
    'people', 'stay', 'stars', 'area', 'parking', 'leaveAt', 'arriveBy',
  ],
  'state_value': ['2', '3', '4', 'north', 'yes', '10:00', '11:00'],
}  # fmt: skip


@pytest.mark.parametrize(
  'hotel, taxi, met, claimed',
  [
    (None, None, 0, 0),
    ('none', 'none', 0, 0),
    # Numbers belong to slots: 3 people and 2 days would be swapped.
    ('the user wants to book the hotel for 2 people for 3 days.', '', 2, 2),
    ('the user wants to book the hotel for 3 people for 2 days.', '', 0, 2),
    # Stars belong to no booking.
    ('book the hotel for 4 people.', '', 0, 0),
    ('the 4-star hotel in the north has parking.', '', 3, 3),
    ('the hotel is in the south, without parking.', '', 0, 0),
    # Values of other dialogues' states count, too.
    ('the hotel is cheap. the hotel is in the north.', '', 1, 2),
    # A request claims nothing; a value inside another word neither.
    ('the user wants to know the area, north or not.', '', 0, 0),
    ('the hotel is in northern parts.', '', 0, 0),
    ('', 'the taxi leaves at 10:00 and arrives at 11:00.', 2, 2),
    ('', 'the taxi leaves at 11:00.', 0, 1),
    ('', 'the taxi will arrive by 11:00, 11:00.', 1, 2),
    # Of the other domain.
    ('the hotel is at 10:00.', 'the taxi is in the north.', 0, 0),
  ],
)
def test_slot_consistency(hotel, taxi, met, claimed):
  other = {
    'subtasks': ['hotel'],
    'state_domain': ['hotel'],
    'state_kind': ['semi'],
    'state_slot': ['pricerange'],
    'state_value': ['cheap'],
  }
  found = consistency.slot_consistency(
    [_TARGET, other], [[hotel, taxi], [None]]
  )
  precision = met / claimed if claimed else 0
  recall = (met / 7 + 0) / 2  # The mean over both dialogues.
  total = precision + recall
  assert found == {
    'slot_consistency_precision': pytest.approx(precision),
    'slot_consistency_recall': pytest.approx(recall),
    'slot_consistency_f1': pytest.approx(
      2 * precision * recall / total if total else 0
    ),
  }
