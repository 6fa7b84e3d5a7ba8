# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Metrics of answers and texts, against independent scorers."""

import random

import pytest
from rouge_score import rouge_scorer

from pid_jax.subtasks import metrics
from pid_jax.subtasks import postprocessors

WORDS = [
  'the',
  'A',
  'an',
  'Red',
  'red',
  'inn',
  'inn!',
  "it's",
  '3.5',
  'km',
  '-',
]
NONE = 'unanswerable'


def _squad_words(text):
  """SQuAD's published rule, implemented independently."""
  kept = ''.join(
    c for c in text.lower() if c not in r"""!"#$%&'()*+,-./:;<=>?@[\]^_`{|}~"""
  )
  return [word for word in kept.split() if word not in ('a', 'an', 'the')]


def _squad_scores(golds, got):
  """Exact match and F1 of one answer."""
  golds = [g for g in map(_squad_words, golds) if g] or [[]]
  got = _squad_words(got)
  f1s = []
  for gold in golds:
    rest, same = list(gold), 0
    for word in got:
      if word in rest:
        rest.remove(word)
        same += 1
    if not gold or not got:
      f1s.append(float(gold == got))
    elif same == 0:
      f1s.append(0.0)
    else:
      precision, recall = same / len(got), same / len(gold)
      f1s.append(2 * precision * recall / (precision + recall))
  return float(got in golds), max(f1s)


def random_questions(seed, number):
  """Yields gold answers and a prediction of many kinds, near and far."""
  rng = random.Random(seed)
  phrase = lambda: ' '.join(rng.choices(WORDS, k=rng.randint(1, 4)))
  for _ in range(number):
    golds = [phrase() for _ in range(rng.choice([0, 1, 1, 3]))]
    got = rng.choice(
      [phrase(), rng.choice([*golds, 'x']).upper(), '', NONE, 'Unanswerable.']
    )
    yield golds, got


def _example(golds):
  return {
    'targets': [(g or [NONE])[0] for g in golds],
    'answers': [metrics.join_answers(g) for g in golds],
  }


def test_squad_on_random_predictions():
  wants, targets, predictions = [], [], []
  cases = list(random_questions(0, 3000))
  for start in range(0, len(cases), 3):
    some = cases[start : start + 3]
    targets.append(_example([golds for golds, _ in some]))
    predictions.append([got for _, got in some])
    wants += [
      (bool(golds), *_squad_scores(golds, '' if 'nans' in got else got))
      for golds, got in some
    ]
    figures = metrics.squad(targets[-1:], predictions[-1:])
    exact, f1 = [sum(w[i] for w in wants[-3:]) / 3 for i in (1, 2)]
    assert figures['squad_exact_match'] == pytest.approx(exact), some
    assert figures['squad_f1'] == pytest.approx(f1), some
  mean = lambda i, keep: (
    sum(w[i] for w in wants if w[0] in keep) / sum(w[0] in keep for w in wants)
  )
  assert metrics.squad(targets, predictions) == {
    'squad_exact_match': pytest.approx(mean(1, [True, False])),
    'squad_f1': pytest.approx(mean(2, [True, False])),
    'has_answer_exact_match': pytest.approx(mean(1, [True])),
    'has_answer_f1': pytest.approx(mean(2, [True])),
    'no_answer_exact_match': pytest.approx(mean(2, [False])),
  }


@pytest.mark.parametrize(
  'golds, got, exact, f1',
  [
    (['north', 'the north-east'], 'Northeast', 1, 1),  # The best one counts.
    (['red inn', 'inn'], 'a blue inn', 0, 2 / 3),  # inn of blue inn.
    (['red inn by the river', 'inn'], 'red inn', 0, 2 / 3),  # Both: 2/3.
    ([], NONE, 1, 1),
    ([NONE, 'inn'], NONE, 1, 1),  # The word for no answer is one of several.
    ([NONE, 'inn'], 'inn', 1, 1),
    ([], 'UNANSWERABLE!', 1, 1),
    ([], '', 1, 1),
    ([], 'north', 0, 0),
    (['north'], NONE, 0, 0),
    (['The', 'north'], 'the', 0, 0),  # No word is left of the first.
    (['The'], NONE, 1, 1),
    (['north'], None, 0, 0),
    ([], None, 0, 0),
  ],
)
def test_squad_by_hand(golds, got, exact, f1):
  figures = metrics.squad([_example([golds])], [[got]])
  assert figures['squad_exact_match'] == exact
  assert figures['squad_f1'] == pytest.approx(f1)
  kinds = {k.partition('_')[0] for k in figures} - {'squad'}
  assert kinds == ({'has'} if golds else {'no'})


def test_squad_without_lists_of_answers_takes_the_targets():
  targets = [{'targets': ['red', 'none', '']}]
  figures = metrics.squad(targets, [['red', 'none', 'x']], empty_target='none')
  assert figures['has_answer_exact_match'] == 1 / 2
  assert figures['no_answer_exact_match'] == 1


def _random_texts(seed, number):
  rng = random.Random(seed)
  word = lambda: rng.choice(['pain', 'pains', 'no', 'left', 'knee', '2', 'mg,'])
  line = lambda: ' '.join(word() for _ in range(rng.randint(1, 6)))
  text = lambda: '\n'.join(line() for _ in range(rng.randint(1, 4)))
  for _ in range(number):
    want, got = text(), text()
    yield (
      rng.choice([want, want, want, 'none', ' . ']),
      rng.choice([got, got, want, want[:9], 'none', 'None', '', None]),
    )


@pytest.mark.parametrize('ascii_words', [False, True])
@pytest.mark.parametrize('use_stemmer', [False, True])
def test_rouge_on_random_predictions(use_stemmer, ascii_words):
  kinds = ['rouge1', 'rouge2', 'rougeL', 'rougeLsum']
  scorer = rouge_scorer.RougeScorer(kinds, use_stemmer=use_stemmer)
  has_words = lambda text: any(c.isalnum() for c in text)

  def score(want, got):
    if got is None:
      return [0.0] * 4
    want, got = (('' if text == 'none' else text) for text in (want, got))
    if not has_words(want) and not has_words(got):
      return [float(want.strip() == got.strip())] * 4
    scores = scorer.score(want, got)
    return [scores[kind].fmeasure for kind in kinds]

  cases = list(_random_texts(use_stemmer, 1200))
  targets, predictions, by_name, wholes_ = [], [], {'s': [], 'o': []}, []
  for (want, got), (want2, got2) in zip(cases[::2], cases[1::2], strict=True):
    names = ['s', 'o'] if len(targets) % 3 else ['o', 's']
    targets.append({'targets': [want, want2], 'subtasks': names})
    predictions.append([got, got2])
    by_name[names[0]].append(score(want, got))
    by_name[names[1]].append(score(want2, got2))
    join = lambda texts: '\n'.join(t for t in texts if t not in ('none', ''))
    wholes_.append(
      score(
        join([want, want2]), None if None in (got, got2) else join([got, got2])
      )
    )
  mean = lambda scores: {
    kind: pytest.approx(sum(s[i] for s in scores) / len(scores))
    for i, kind in enumerate(kinds)
  }
  options = dict(use_stemmer=use_stemmer, empty_target='none')
  options['ascii_words'] = ascii_words
  found = metrics.rouge(targets, predictions, by_subtask=True, **options)
  assert found == {
    **mean([*by_name['s'], *by_name['o']]),
    **{f'{k}_s': value for k, value in mean(by_name['s']).items()},
    **{f'{k}_o': value for k, value in mean(by_name['o']).items()},
  }
  assert metrics.rouge_of_whole(targets, predictions, **options) == {
    f'whole_{kind}': value for kind, value in mean(wholes_).items()
  }


def test_a_whole_text_is_its_parts_line_by_line():
  targets = [
    {'targets': ['a b\n', 'none', '\nc d'], 'subtasks': ['x', 'y', 'z']}
  ]
  whole = lambda *texts: metrics.rouge_of_whole(
    targets, [texts], empty_target='none'
  )
  assert set(whole('a b', 'none', 'c d').values()) == {1}
  assert set(whole('a b\nc d', ' NONE', '').values()) != {1}  # NONE is said.
  assert set(whole('a b\nc d', '', 'none').values()) == {1}
  assert set(whole('a b', None, 'c d').values()) == {0}
  swapped = whole('c d', '', 'a b')
  assert swapped['whole_rougeLsum'] == swapped['whole_rouge1'] == 1
  assert swapped['whole_rougeL'] == 1 / 2


def _rows(example, order):
  """Rows of the baseline's layout as postprocessed, and their indices."""
  for u in order:
    row = {
      'example_id': example['example_id'],
      'index': u,
      'num_subtasks': len(example['targets']),
      'subtask': example['subtasks'][u],
      'target': example['targets'][u],
      'features': {'answers': example['answers'][u]},
    }
    if u == 0:
      row['whole'] = {k: example[k] for k in ('targets', 'subtasks')}
    yield row


@pytest.mark.parametrize('drop', [(), (2,), (0,), (0, 3), (1, 4)])
def test_baseline_rows_in_any_order_score_as_whole_examples(drop):
  rng = random.Random(len(drop))
  cases = list(random_questions(5, 500))
  examples, predictions, rows, outputs = [], [], [], []
  for number, start in enumerate(range(0, len(cases), 5)):
    some = cases[start : start + 5]
    golds = [g for g, _ in some]
    example = _example(golds)
    example['subtasks'] = [f'q{u}' for u in range(5)]
    example['example_id'] = str(number)
    got = [text for _, text in some]
    examples.append(example)
    kept = [u for u in range(5) if number % 2 or u not in drop]
    predictions.append([got[u] if u in kept else None for u in range(5)])
    for row in _rows(example, kept):
      rows.append(row)
      outputs.append(got[row['index']])
  order = rng.sample(range(len(rows)), len(rows))
  regrouped, found = postprocessors.group_by_example(
    [rows[i] for i in order], [outputs[i] for i in order]
  )
  of_squad = metrics.squad(examples, predictions)
  found_squad = metrics.squad(regrouped, found)
  if 0 not in drop:
    assert found_squad == pytest.approx(of_squad)
  # What is lost with the first row, is whether a lost question has an answer.
  for key in ('squad_exact_match', 'squad_f1'):
    assert found_squad[key] == pytest.approx(of_squad[key])
  want = metrics.rouge(examples, predictions, by_subtask=True)
  assert metrics.rouge(regrouped, found, by_subtask=True) == pytest.approx(want)
  want = metrics.rouge_of_whole(examples, predictions)
  assert metrics.rouge_of_whole(regrouped, found) == pytest.approx(want)
