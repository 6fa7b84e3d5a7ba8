# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of dialogue states, against figures worked out by hand."""

import random

import pytest

from pid_jax.subtasks import metrics
from pid_jax.subtasks import slot_strings
from pid_jax.subtasks.metrics import schema_guided

SLOTS = ('hotel-area', 'hotel-type', 'hotel-stars', 'taxi-leaveat', 'taxi-to')
# The gold state of three turns; lists are of values that are all right.
STATES = [
  ['north', ['hotel', 'guesthouse'], 'none', '9:00', 'none'],
  ['dontcare', ['hotel', 'none'], '4', 'none', 'none'],
  ['none'] * 5,
]


def _targets(states):
  return [
    {
      'subtasks': list(SLOTS),
      'targets': [v if isinstance(v, str) else v[0] for v in state],
      'answers': [
        '' if isinstance(v, str) else metrics.join_answers(v) for v in state
      ],
    }
    for state in states
  ]


def _figures(predictions, states=STATES):
  figures = {}
  for metric in (
    *metrics.SLOT_METRICS,
    metrics.active_domain_accuracy_any_alternative,
  ):
    figures.update(metric(_targets(states), predictions))
  return figures


def test_each_rule_by_hand():
  got = _figures(
    [
      ['north', 'guesthouse', 'none', '9:00', 'none'],  # All right.
      ['dontcare', 'none', '3', 'none', 'york'],  # Wrong: 3, york.
      ['none', 'none', 'none', 'none', 'none'],
    ]
  )
  assert got == {
    # guesthouse is not the first value: only the empty turn is exact.
    'joint_goal_accuracy': pytest.approx(1 / 3),
    'joint_goal_accuracy_any_alternative': pytest.approx(2 / 3),
    'slot_accuracy': pytest.approx((4 + 2 + 5) / 15),
    'slot_accuracy_any_alternative': pytest.approx((5 + 3 + 5) / 15),
    # Claimed: north, guesthouse, 9:00; dontcare, 3, york.
    # Wanted: north, hotel, 9:00; dontcare, hotel, 4.
    'slot_precision': pytest.approx(3 / 6),
    'slot_recall': pytest.approx(3 / 6),
    'slot_f1': pytest.approx(3 / 6),
    # The type of the second turn may be empty, and is.
    'slot_precision_any_alternative': pytest.approx(4 / 6),
    'slot_recall_any_alternative': pytest.approx(4 / 5),
    'slot_f1_any_alternative': pytest.approx(8 / 11),
    # In play: hotel and taxi in the first turn, and in the second, where the
    # taxi is made up. In the third, none.
    'active_domain_accuracy_any_alternative': pytest.approx(2 / 4),
    'active_domain_accuracy_any_alternative/hotel': pytest.approx(1 / 2),
    'active_domain_accuracy_any_alternative/taxi': pytest.approx(1 / 2),
  }


@pytest.mark.parametrize(
  'turn, slot, value',
  [
    (0, 3, '09:00'),  # Another time, as far as strings go.
    (0, 3, '9 00'),
    (0, 0, 'Purple'),  # In no ontology.
    (0, 0, 'North'),
    (0, 2, 'dontcare'),  # Is not empty,
    (1, 0, 'none'),  # nor the reverse.
    (1, 4, 'none york'),
    (2, 1, 'hotel'),  # True two turns ago.
    (2, 4, ''),  # The empty string is not the empty value.
    (2, 4, None),
  ],
)
def test_nothing_is_forgiven(turn, slot, value):
  right = [t['targets'] for t in _targets(STATES)]
  assert _figures(right)['joint_goal_accuracy'] == 1
  wrong = [list(answer) for answer in right]
  wrong[turn][slot] = value
  figures = _figures(wrong)
  for name in ('joint_goal_accuracy', 'joint_goal_accuracy_any_alternative'):
    assert figures[name] == pytest.approx(2 / 3)
  for name in ('slot_accuracy', 'slot_accuracy_any_alternative'):
    assert figures[name] == pytest.approx(14 / 15)
  assert figures['active_domain_accuracy_any_alternative'] < 1


def test_without_further_values_both_rules_agree():
  targets = [{'targets': ['north', 'none']}, {'targets': ['a', 'b']}]
  predictions = [['north', 'none'], ['a', 'c']]
  for exact, any_of in [
    (metrics.joint_goal_accuracy, metrics.joint_goal_accuracy_any_alternative),
    (metrics.slot_accuracy, metrics.slot_accuracy_any_alternative),
    (metrics.slot_f1, metrics.slot_f1_any_alternative),
  ]:
    assert list(exact(targets, predictions).values()) == list(
      any_of(targets, predictions).values()
    )


# Groups of slots.


def _by_group(state):
  """Targets of the example of groups that has this state by slots."""
  several = [[], []]
  filled = [{}, {}]
  for name, value in zip(SLOTS, state, strict=True):
    group, _, slot = name.partition('-')
    which = ['hotel', 'taxi'].index(group)
    if isinstance(value, list):
      several[which] += [slot_strings.format_slots({slot: v}) for v in value]
      value = value[0]
    if value != 'none':
      filled[which][slot] = value
  return {
    'subtasks': ['hotel', 'taxi'],
    'targets': [slot_strings.format_slots(values) for values in filled],
    'pairs': [metrics.join_answers(x) if x else '' for x in several],
  }


def _wrong(rng, state):
  """Values of a state, some of them wrong."""
  return [
    rng.choice(['none', 'north', 'hotel', 'dontcare', '9:00', 'x = y'])
    if rng.random() < 0.2
    else (value if isinstance(value, str) else rng.choice(value))
    for value in state
  ]


def test_groups_score_as_their_slots_do():
  rng = random.Random(0)
  for _ in range(200):
    states = [
      _wrong(rng, rng.choice(STATES)) if rng.random() < 0.5 else state
      for state in STATES
    ]
    said = [_wrong(rng, state) for state in states]
    in_groups = []
    for state in said:
      strings = _by_group(state)['targets']
      if rng.random() < 0.5:  # In any order.
        strings = [' | '.join(s.split(' | ')[::-1]) for s in strings]
      in_groups.append(strings)
    for name, metric in [
      ('joint_goal_accuracy', metrics.joint_goal_accuracy),
      ('any', metrics.joint_goal_accuracy_any_alternative),
      ('slot', metrics.slot_accuracy_any_alternative),
      ('f1', metrics.slot_f1_any_alternative),
      ('domain', metrics.active_domain_accuracy_any_alternative),
    ]:
      grouped = metrics.for_slot_groups(metric, SLOTS)
      assert grouped([_by_group(s) for s in states], in_groups) == (
        metric(_targets(states), said)
      ), name


@pytest.mark.parametrize(
  'said',
  [
    'area = north | type = hotel | food = thai',  # Of another domain.
    'area = north | type = hotel | area = south',
    'area = north | type = hotel | area = north',
    'area = north | type = hotel | north',
    'area = north | type = hotel |',
    'area = north | type = hotel | = 4',
    'area = north | type = hotel | stars =',
    'area = north | type = hotel | none',
    'area = north, type = hotel',
    'none',
    '',
    None,
  ],
)
def test_invalid_parts_of_a_group_are_wrong(said):
  target = {
    'subtasks': ['hotel', 'taxi'],
    'targets': ['area = north | type = hotel', 'none'],
  }
  right = [' type = hotel |  area =  north', 'none']
  jga = metrics.for_slot_groups(metrics.joint_goal_accuracy, SLOTS)
  f1 = metrics.for_slot_groups(metrics.slot_f1, SLOTS)
  domain = metrics.for_slot_groups(
    metrics.active_domain_accuracy_any_alternative, SLOTS
  )
  assert jga([target], [right]) == {'joint_goal_accuracy': 1}
  assert f1([target], [right])['slot_f1'] == 1
  assert jga([target], [[said, 'none']]) == {'joint_goal_accuracy': 0}
  assert f1([target], [[said, 'none']])['slot_f1'] < 1
  assert set(domain([target], [[said, 'none']]).values()) == {0}
  assert jga.__name__ == 'joint_goal_accuracy'


def test_a_group_without_a_name_is_wrong_in_all_its_slots():
  """As of `group_by_example` if the first row and others are missing."""
  target = {'subtasks': ['', 'taxi'], 'targets': ['', 'to = york']}
  prediction = [None, 'to = york']
  score = lambda metric: metrics.for_slot_groups(metric, SLOTS)(
    [target], [prediction]
  )
  assert score(metrics.joint_goal_accuracy)['joint_goal_accuracy'] == 0
  assert score(metrics.slot_accuracy)['slot_accuracy'] == 2 / 5


def test_strings_of_groups():
  assert slot_strings.format_slots({}) == 'none'
  values = {'area': 'north', 'book day': 'a = b', 'name': "saint  john's; x"}
  text = slot_strings.format_slots(values)
  assert text == "area = north | book day = a = b | name = saint john's; x"
  assert slot_strings.parse_slots(text) == (
    {**values, 'name': "saint john's; x"}, [],
  )  # fmt: skip
  assert (
    slot_strings.parse_slots('none')
    == slot_strings.parse_slots(' none ')
    == ({}, [])
  )
  assert slot_strings.parse_slots('') == ({}, [''])
  assert slot_strings.parse_slots('a = 1 | b | a = 2 | = 3') == (
    {'a': '1'}, ['b', 'a = 2', '= 3'],
  )  # fmt: skip
  for wrong in ({'a': ' '}, {' ': 'a'}, {'a': 'b|c'}, {'a=': 'b'}, {'|': 'b'}):
    with pytest.raises(ValueError, match='a slot needs a name'):
      slot_strings.format_slots(wrong)


# The rule of SGD.


@pytest.mark.parametrize(
  'right, predicted, want',
  [
    # What token_sort_ratio of fuzzywuzzy 0.18.0 gives, without Levenshtein.
    ('New York', 'york new', 100),
    ('7:30 pm', 'half past 7 in the evening', 18),
    ('March 4th', '4th of March', 86),
    ('San Jose', 'San Jos\u00e9', 93),
    ("Joe's Caf\u00e9", 'joes cafe', 89),
    ('\u201c8 pm\u201d', '8 pm', 100),
    ('The Great Wall | Chinese', 'great wall chinese', 90),
    ('2', '2.0', 50),
    ('', '!', 100),
    ('', 'x', 0),
    # By hand: 2 * 2 letters of 6 in common, 67 %; of 5, 80 %.
    ('abc', 'abd', 67),
    ('ab', 'abc', 80),
  ],
)
def test_similarity(right, predicted, want):
  assert schema_guided.similarity(right, predicted) == want / 100


def test_sgd_goal_accuracy_by_hand():
  targets = [
    {
      'targets': ['San Jose', '2', 'none'],
      'answers': [metrics.join_answers(['San Jose', 'abc']), '', ''],
      'is_categorical': [0, 1, 0],
      'is_seen': 1,
    },
    {
      'targets': ['None', 'none'],
      'is_categorical': [1, 0],
      'is_seen': 0,
    },
    {'targets': ['none'], 'is_categorical': [0], 'is_seen': 0},
  ]
  score = lambda *predictions: {
    name.removeprefix('sgd_').replace('_goal_accuracy', ''): value
    for name, value in metrics.sgd_goal_accuracy(targets, predictions).items()
  }
  perfect = score(*(t['targets'] for t in targets))
  assert set(perfect.values()) == {1}
  assert set(perfect) == {
    'joint', 'joint/seen', 'joint/unseen',
    'average', 'average/seen', 'average/unseen',
  }  # fmt: skip
  # abd is nearest to abc, 0.67; a number is right or wrong. The value None and
  # the word for nothing differ by case. The last frame should be empty: right,
  # but without an average.
  assert score(['abd', '2', 'none'], ['none', 'none'], ['none']) == {
    'joint': pytest.approx((0.67 + 0 + 1) / 3),
    'joint/seen': pytest.approx(0.67),
    'joint/unseen': pytest.approx(1 / 2),
    'average': pytest.approx(((0.67 + 1) / 2 + 0) / 2),
    'average/seen': pytest.approx((0.67 + 1) / 2),
    'average/unseen': 0,
  }
  # A slot that should be empty spoils the product, not the average.
  assert score(['abc', '2.0', 'x'], ['None', None], [None]) == {
    'joint': 0,
    'joint/seen': 0,
    'joint/unseen': 0,
    'average': pytest.approx((1 / 2 + 1) / 2),
    'average/seen': 1 / 2,
    'average/unseen': 1,
  }
