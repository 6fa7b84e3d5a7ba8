# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""ACI-Bench on small files in the format of the authors' repository."""

import shutil

import numpy as np
import pytest
from rouge_score import rouge_scorer
import seqio
from toys import tasks_data

from pid_jax.tasks import aci_bench
from pid_jax.tasks import prepared
from pid_jax.tasks.aci_bench import divisions
from pid_jax.tasks.aci_bench import reader

CSV = tasks_data.FIXTURES / 'aci_bench/data/challenge_data'


@pytest.fixture(scope='module', autouse=True, name='data_dir')
def _data_dir():
  with tasks_data.prepared(reader.AciBench) as data_dir:
    yield data_dir


def _examples(split):
  return [
    example
    for record in prepared.records('aci_bench', reader.AciBench, split)
    for example in aci_bench.examples(record)
  ]


def test_examples():
  first, second, third = _examples('train')
  assert first['example_id'] == 'D2N901-virtassist'
  assert first['inputs'] == (
    '[doctor] hello , ana . any pain ?\n'
    '[patient] yes , my knee , she said "rest it" .\n'
    '[doctor] your pressure is fine . i feel some swelling .'
  )
  assert first['subtasks'] == list(divisions.DIVISIONS)
  assert first['targets'] == [
    'CHIEF COMPLAINT\n\nKnee pain.\n\nPAST HISTORY\n\nMedical\nAsthma; mild.'
    '\n\nVITALS\n\nBP: 120/80.',
    'PHYSICAL EXAM\n\nKnee: Swelling. She was told to "rest it".',
    'RESULTS\n\nX-ray, left knee.\nImpression: Normal joint.',
    'ASSESSMENT\n\n1. Sprain.\n\nPLAN\n\n'
    'Physical exam showed swelling, so we rest the knee.\n\n'
    'Results of the x-ray were discussed.',
  ]
  assert second['targets'] == [
    'Ben is a 60-year-old male who is here to talk about his sugar.\n\n'
    'Review of symptoms\nFatigue.',
    'none',
    'results:\n\nA1c: 9.',
    'assessment and plan\nDiabetes, see table | none ; below.',
  ]
  assert third['targets'] == [
    'CC: Cough.\n\nHPI:\nCoughing since Monday.',
    'Physical Examination\n\nLungs: Clear.',
    'none',
    'IMPRESSION:\n\nCold.\n\nPlan\n\nFluids.',
  ]
  # With a byte order mark and \r\n.
  (example,) = _examples('validation')
  assert example['inputs'] == '[doctor] hi .\n[patient] hi .'
  assert example['targets'][1] == 'EXAM\n\nSkin: Red.'


@pytest.mark.parametrize(
  'note, want',
  [
    ('', ['', '', '', '']),
    ('a\n\n', ['a\n\n', '', '', '']),
    (' \n\nPLAN\nb', ['', '', '', 'PLAN\nb']),
    ('exam\na\nHISTORY OF PRESENT ILLNESS:\nb\nExamination :\nc',
     ['HISTORY OF PRESENT ILLNESS:\nb\n', 'exam\na\nExamination :\nc', '', '']),
    ('Findings\nExam: normal\nPlan of care\nplans\n',
     ['', '', 'Findings\nExam: normal\nPlan of care\nplans\n', '']),
    ('\tAssessment & Plan\na\nFAMILY HISTORY\nb', ['FAMILY HISTORY\nb', '', '',
     '\tAssessment & Plan\na\n']),
  ],
)  # fmt: skip
def test_the_rule_of_divisions(note, want):
  assert list(divisions.divide(note).values()) == want


def test_every_word_of_a_note_is_in_one_division():
  for split in reader.AciBench.FILES:
    for record in prepared.records('aci_bench', reader.AciBench, split):
      texts = divisions.divide(record['note'])
      assert ''.join(texts.values()) == record['note']


def _edit(change, name='valid.csv'):
  return change((CSV / name).read_text(encoding='utf-8-sig'))


@pytest.mark.parametrize(
  'content, message',
  [
    (
      lambda: _edit(lambda text: text[:-40]),
      'valid.csv, row 1, from line 2: malformed CSV',
    ),
    (
      lambda: _edit(lambda text: text.replace(',note', ',text')),
      "valid.csv: lacks the column 'note'; it has 'dataset', 'encounter_id'",
    ),
    (
      lambda: _edit(lambda text: text + 'aci,D2N905,hi'),
      'valid.csv, row 2, from line .*: has 3 fields, and the header 4',
    ),
    (
      lambda: _edit(lambda text: text + 'aci,D2N905,hi," \n"'),
      "valid.csv, encounter D2N905: .*the field 'note' is empty",
    ),
    (
      lambda: _edit(lambda text: text + 'aci,D2N904,hi,there'),
      'D2N904-aci occurs twice in the split validation',
    ),
    (
      lambda: _edit(lambda text: text.splitlines()[0]),
      'no record of the split',
    ),
    (lambda: '', "lacks the column 'dataset', .* it has none"),
  ],
)
def test_invalid_files_are_named_and_leave_nothing(tmp_path, content, message):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in/valid.csv').write_text(content(), newline='')
  tasks_data.assert_refused(
    reader.AciBench, tmp_path / 'data', tmp_path / 'in', message
  )


def test_a_folder_with_missing_files(tmp_path):
  shutil.copytree(CSV, tmp_path / 'in')
  (tmp_path / 'in/clef_taskC_test3.csv').unlink()
  builder = tasks_data.prepare(
    reader.AciBench, tmp_path / 'data', tmp_path / 'in'
  )
  assert set(builder.info.splits) == {'train', 'validation', 'test1', 'test2'}
  account = builder.info.metadata['splits']
  assert account['train'] == {
    'counts': {'notes': 3},
    'missing': [],
    'skipped': [],
  }
  assert account['test3']['missing'] == ['clef_taskC_test3.csv']


def test_the_files_are_of_a_fixed_commit():
  for name, url in reader.AciBench.URLS.items():
    info = reader.AciBench.url_infos[url]
    assert info.filename == name and info.size > 100_000


def test_three_layouts_through_seqio():
  second = _examples('train')[1]
  encode = (
    seqio.TaskRegistry.get('aci_bench').output_features['inputs'].vocabulary
  ).encode
  lines = lambda text: encode(text.replace('\n', ' <extra_id_99> '))
  rows = {
    name: tasks_data.rows(name, 'train')
    for name in ('aci_bench', 'aci_bench_pie', 'aci_bench_joint')
  }
  row = rows['aci_bench'][1]
  assert row['inputs'].tolist() == [*lines(second['inputs']), 1]
  assert [np.trim_zeros(x, 'b').tolist() for x in row['targets']] == [
    [*lines(target), 1] for target in second['targets']
  ]
  assert (row['subtasks'] > 0).tolist() == [False, True, False, False]
  row = rows['aci_bench_pie'][4 + 2]
  assert row['inputs'].tolist() == [
    *encode(second['prompts'][2]), *lines(second['inputs']), 1
  ]  # fmt: skip
  joint = ' <extra_id_98> '.join(second['targets'])
  assert rows['aci_bench_joint'][1]['targets'].tolist() == [*lines(joint), 1]

  found = tasks_data.examples('aci_bench', 'train')
  assert found[second['example_id']] == second


def test_figures_are_the_same_in_all_layouts():
  examples = _examples('train')
  answers = {
    e['example_id']: [
      # Another example's answer, or the gold answer with reversed lines.
      other if u + i == 1 else '\n'.join(reversed(text.split('\n')))
      for u, (text, other) in enumerate(
        zip(e['targets'], examples[i - 1]['targets'], strict=True)
      )
    ]
    for i, e in enumerate(examples)
  }
  pid, pie, joint = (
    tasks_data.score(f'aci_bench{layout}', 'train', answers, seed=seed)
    for seed, layout in enumerate(('', '_pie', '_joint'))
  )
  assert pid == pytest.approx(pie) and pid == pytest.approx(joint)

  # Newlines are preserved, so ROUGE-Lsum differs from ROUGE-L.
  scorer = rouge_scorer.RougeScorer(['rougeL', 'rougeLsum'])
  empty = lambda text: '' if text == 'none' else text
  for kind in ('rougeL', 'rougeLsum'):
    scores = []
    for example in examples:
      want, got = map(
        empty, (example['targets'][0], answers[example['example_id']][0])
      )
      scores.append(scorer.score(want, got)[kind].fmeasure)
    assert pid[f'{kind}_subjective'] == pytest.approx(np.mean(scores))
  assert pid['rougeLsum_subjective'] > pid['rougeL_subjective']
  # Two empty texts score 1, one empty text scores 0.
  answers = {e['example_id']: e['targets'] for e in examples}
  third = answers['D2N903-virtscribe']
  assert third[2] == 'none'
  third[2] = 'RESULTS'
  figures = tasks_data.score('aci_bench_joint', 'train', answers)
  assert figures['rouge1_objective_results'] == pytest.approx(2 / 3)
  assert figures['rouge2_objective_exam'] == figures['rouge2_subjective'] == 1


@pytest.mark.parametrize('lost', [0, 3])
def test_a_division_that_was_not_predicted_is_wrong(lost):
  answers = {e['example_id']: e['targets'] for e in _examples('train')}
  figures = tasks_data.score(
    'aci_bench_pie', 'train', answers,
    keep=lambda row: (row['example_id'], row['subtask_index']) != (
      b'D2N903-virtscribe', lost
    ),
  )  # fmt: skip
  assert figures['missing_predictions'] == 1
  for u, name in enumerate(divisions.DIVISIONS):
    want = 2 / 3 if u == lost else 1
    assert figures[f'rouge1_{name}'] == pytest.approx(want)
  assert figures['rouge1'] == pytest.approx(11 / 12)
  # A note without a division has no score.
  assert figures['whole_rouge1'] == pytest.approx(2 / 3)
