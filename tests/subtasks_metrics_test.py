# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics against figures worked out by hand."""

import pytest
from rouge_score import rouge_scorer

from pid_jax import errors
from pid_jax.subtasks import metrics

TARGETS = [
  {'targets': ['north', 'none', ' two nights']},
  {'targets': ['none', 'none']},
  {'targets': ['red', '']},
]
PREDICTIONS = [
  ['north', 'cheap', 'two nights\n'],
  ['none', 'none'],
  ['blue', None],
]


def test_state_tracking_by_hand():
  assert metrics.joint_goal_accuracy(TARGETS, PREDICTIONS) == {
    'joint_goal_accuracy': pytest.approx(1 / 3)
  }
  assert metrics.slot_accuracy(TARGETS, PREDICTIONS) == {
    'slot_accuracy': pytest.approx(4 / 7)
  }
  # Wanted: north, two nights, red and the empty string, which is not 'none'.
  # Claimed: north, cheap, two nights, blue.
  assert metrics.slot_f1(TARGETS, PREDICTIONS) == {
    'slot_precision': pytest.approx(2 / 4),
    'slot_recall': pytest.approx(2 / 4),
    'slot_f1': pytest.approx(2 / 4),
  }


def test_case_and_punctuation_count_except_by_the_rule_of_squad():
  targets = [{'targets': ['The Red Inn']}]
  for answer in ('the Red Inn', 'The Red Inn.', 'Red Inn'):
    assert metrics.slot_accuracy(targets, [[answer]])['slot_accuracy'] == 0
    assert metrics.exact_match(targets, [[answer]])['exact_match'] == 0
    assert metrics.squad(targets, [[answer]])['squad_exact_match'] == 1


@pytest.mark.parametrize(
  'wanted, claimed, want',
  [
    ('none', 'none', (1, 1, 1)),
    ('none', 'x', (0, 0, 0)),
    ('x', 'none', (0, 0, 0)),
  ],
)
def test_slot_f1_where_a_side_is_empty(wanted, claimed, want):
  figures = metrics.slot_f1([{'targets': [wanted]}], [[claimed]])
  assert tuple(figures.values()) == want


def test_slot_f1_with_another_empty_target():
  figures = metrics.slot_f1(TARGETS, PREDICTIONS, empty_target='')
  assert figures['slot_recall'] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
  'want, got, exact, f1',
  [
    ('The Red Inn', 'red inn!', 1, 1),
    ("it's 3.5 km", 'its 35 KM', 1, 1),  # Punctuation goes without a gap.
    ('a red inn', 'the inn', 0, 2 / 3),  # red inn; inn.
    ('red red inn', 'red inn inn', 0, 4 / 6),  # A bag, not a set.
    ('anthem', 'them', 0, 0),  # Articles are whole words.
    ('red', 'blue', 0, 0),
    ('', '', 1, 1),
    ('', 'the', 1, 1),
    ('', 'red', 0, 0),
    ('...', 'red', 0, 0),
  ],
)
def test_answers_score_by_the_rule_of_squad(want, got, exact, f1):
  figures = metrics.squad([{'targets': [want]}], [[got]])
  assert figures['squad_exact_match'] == exact
  assert figures['squad_f1'] == pytest.approx(f1)


def test_scores_are_means_over_all_subtasks():
  targets = [{'targets': ['red inn', 'x', 'y']}, {'targets': ['z']}]
  predictions = [['inn', 'x', 'no'], ['no']]
  assert metrics.exact_match(targets, predictions)['exact_match'] == 1 / 4
  assert metrics.example_exact_match(targets, predictions) == {
    'example_exact_match': 0
  }
  some = metrics.example_exact_match(targets, [['inn', 'x', 'no'], ['z']])
  assert some['example_exact_match'] == 1 / 2
  f1 = metrics.token_f1(targets, predictions)['token_f1']
  assert f1 == pytest.approx((2 / 3 + 1) / 4)


def test_rouge_is_the_mean_over_subtasks():
  want, got = 'a red inn\nby the river', 'a red river\nby the inn'
  targets = [{'targets': [want, '', 'x']}, {'targets': ['y']}]
  predictions = [[got, ' . ', ''], [None]]
  figures = metrics.rouge(targets, predictions)
  scorer = rouge_scorer.RougeScorer(list(figures), use_stemmer=False)
  assert set(figures) == {'rouge1', 'rouge2', 'rougeL', 'rougeLsum'}
  for name, score in scorer.score(want, got).items():
    # Where nothing was wanted, ' . ' is something; the others are wrong too.
    assert figures[name] == pytest.approx((score.fmeasure + 0 + 0 + 0) / 4)
  assert figures['rougeLsum'] > figures['rougeL']
  assert metrics.rouge(
    [{'targets': ['inns']}], [['inn']], use_stemmer=True
  ) == (dict.fromkeys(figures, 1.0) | {'rouge2': 0.0})


@pytest.mark.parametrize('name', metrics.names)
def test_a_prediction_that_is_missing_is_never_right(name):
  figures = metrics.by_name(name)([{'targets': ['', 'x']}], [[None, None]])
  assert set(figures.values()) == {0}


@pytest.mark.parametrize('name', metrics.names)
def test_perfect_predictions_score_1(name):
  targets = [{'targets': ['none', 'red inn']}, {'targets': ['two nights']}]
  figures = metrics.by_name(name)(targets, [t['targets'] for t in targets])
  # A single word has no bigrams.
  assert all(figures[k] == 1 for k in figures if k != 'rouge2')


def test_lists_of_unequal_length_are_an_error():
  with pytest.raises(ValueError):
    metrics.slot_accuracy([{'targets': ['x']}], [['x', 'y']])


def test_unknown_metrics_are_named():
  with pytest.raises(
    errors.UserError, match="'token_f2'; did you mean token_f1"
  ):
    metrics.by_name('token_f2')
