# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""ACI-Bench on files of our own in the form of the authors' repository."""

import pathlib
import shutil

import layout_scoring
import numpy as np
import prepared_data
import pytest
from rouge_score import rouge_scorer
import seqio
import tensorflow_datasets as tfds

from pid_jax import errors
from pid_jax.tasks import aci_bench
from pid_jax.tasks import prepared
from pid_jax.tasks.aci_bench import divisions
from pid_jax.tasks.aci_bench import reader

FIXTURES = pathlib.Path(__file__).parent / 'fixtures/aci_bench'
CSV = FIXTURES / 'data/challenge_data'


class AciBenchTest(tfds.testing.DatasetBuilderTestCase):
  """tfds's own checks of a builder."""

  DATASET_CLASS = reader.AciBench
  EXAMPLE_DIR = str(FIXTURES)
  DL_EXTRACT_RESULT = {
    name: f'data/challenge_data/{name}' for name in reader.AciBench.URLS
  }
  SPLITS = {'train': 3, 'validation': 1, 'test1': 1, 'test2': 1, 'test3': 1}


@pytest.fixture(scope='module', name='data_dir')
def _data_dir(tmp_path_factory):
  """Where the fixtures are prepared, for this module alone."""
  with prepared_data.folder(tmp_path_factory.mktemp('data')) as data_dir:
    prepared_data.prepare(reader.AciBench, data_dir, FIXTURES)
    yield data_dir


def _examples(split):
  return [
    example
    for record in prepared.records('aci_bench', reader.AciBench, split)
    for example in aci_bench.examples(record)
  ]


def test_examples(data_dir):
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
  # Saved by a program that writes a byte order mark, and \r\n.
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


def test_every_word_of_a_note_is_in_one_division(data_dir):
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
      'valid.csv, row 1, from line 2: malformed CSV .* is the file complete',
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
def test_what_is_wrong_is_named_and_leaves_nothing(tmp_path, content, message):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in/valid.csv').write_text(content(), newline='')
  with pytest.raises(errors.UserError, match=message):
    prepared_data.prepare(reader.AciBench, tmp_path / 'data', tmp_path / 'in')
  assert not [p for p in (tmp_path / 'data').rglob('*') if p.is_file()]


def test_a_folder_with_files_missing_is_worked_on(tmp_path):
  shutil.copytree(CSV, tmp_path / 'in')
  (tmp_path / 'in/clef_taskC_test3.csv').unlink()
  builder = prepared_data.prepare(
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


def test_the_files_are_those_of_one_commit():
  for name, url in reader.AciBench.URLS.items():
    info = reader.AciBench.url_infos[url]
    assert info.filename == name and info.size > 100_000


def test_three_layouts_through_seqio(data_dir):
  second = _examples('train')[1]
  encode = (
    seqio.TaskRegistry.get('aci_bench').output_features['inputs'].vocabulary
  ).encode
  lines = lambda text: encode(text.replace('\n', ' <extra_id_99> '))
  rows = {
    name: list(
      seqio.get_mixture_or_task(name)
      .get_dataset(None, split='train', shuffle=False)
      .as_numpy_iterator()
    )
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

  seqio.test_utils.assert_dataset(
    seqio.TaskRegistry.get('aci_bench')
    .source.get_dataset('train', shuffle=False)
    .skip(1)
    .take(1),
    [second],
  )


def test_figures_are_the_same_in_all_layouts(data_dir):
  examples = _examples('train')
  answers = {
    e['example_id']: [
      # Another example's, or one's own with its lines from last to first.
      other if u + i == 1 else '\n'.join(reversed(text.split('\n')))
      for u, (text, other) in enumerate(
        zip(e['targets'], examples[i - 1]['targets'], strict=True)
      )
    ]
    for i, e in enumerate(examples)
  }
  pid, pie, joint = (
    layout_scoring.score(f'aci_bench{layout}', 'train', answers, seed=seed)
    for seed, layout in enumerate(('', '_pie', '_joint'))
  )
  assert pid == pytest.approx(pie) and pid == pytest.approx(joint)

  # Lines were kept, or ROUGE-Lsum would be ROUGE-L.
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
  # Absent on both sides: perfect. On one: nothing.
  answers = {e['example_id']: e['targets'] for e in examples}
  third = answers['D2N903-virtscribe']
  assert third[2] == 'none'
  third[2] = 'RESULTS'
  figures = layout_scoring.score('aci_bench_joint', 'train', answers)
  assert figures['rouge1_objective_results'] == pytest.approx(2 / 3)
  assert figures['rouge2_objective_exam'] == figures['rouge2_subjective'] == 1


@pytest.mark.parametrize('lost', [0, 3])
def test_a_division_that_was_not_predicted_is_wrong(data_dir, lost):
  answers = {e['example_id']: e['targets'] for e in _examples('train')}
  figures = layout_scoring.score(
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
  # A note that lacks a division is no note.
  assert figures['whole_rouge1'] == pytest.approx(2 / 3)
