# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""RadQA and SQuAD on small files in the published format."""

import functools
import json
import random
import sys
import types

import pytest
import seqio
import tensorflow_datasets as tfds
from toys import tasks_data

from pid_jax import errors
from pid_jax.subtasks import metrics
from pid_jax.tasks import prepared
from pid_jax.tasks import reading
from pid_jax.tasks import web
from pid_jax.tasks.reading import reader
from pid_jax.tasks.reading import windows

FIXTURES = tasks_data.FIXTURES / 'reading'
NONE = reading.UNANSWERABLE


@pytest.fixture(scope='module', autouse=True, name='data_dir')
def _data_dir():
  with tasks_data.prepared(reader.Radqa, reader.SquadV2) as data_dir:
    yield data_dir


def _examples(split, data='radqa', **options):
  return [
    example
    for record in prepared.records(data, reading.DATA[data], split)
    for example in reading.examples(record, **options)
  ]


def test_examples():
  first, second, third = _examples('train')
  assert first == {
    'example_id': '1-1',
    'inputs': '  FINDINGS:\nThe lungs are clear.\nThere is a 3 mm nodule in '
    'the\nleft upper lobe, unchanged.\nNo effusion.',
    'subtasks': ['R1_1', 'R1_2'],
    'prompts': ['Is there a nodule?', 'Is there pneumonia?'],
    'targets': ['There is a 3 mm nodule in the\nleft upper lobe', NONE],
    'answers': [
      '["There is a 3 mm nodule in the\\nleft upper lobe", "3 mm nodule"]',
      '[]',
    ],
  }
  # What is called impossible has an answer all the same.
  assert second['targets'] == ['No nodule', 'No acute disease']
  assert second['subtasks'] == ['R1_1', 'R1_2']  # As in the other context.
  # The second "the nodule" is nearer to where the file says.
  assert third['targets'] == ['the nodule']
  assert metrics.gold_answers(third) == [['the nodule', 'the node']]
  (record,) = list(prepared.records('radqa', reader.Radqa, 'train'))[2:]
  assert record['questions']['answers']['start'] == [[25, reader.NOT_FOUND]]


def test_report_of_what_was_read(data_dir):
  account = reader.Radqa(data_dir=data_dir).info.metadata['splits']['train']
  assert account == {
    'counts': {
      'contexts': 3,
      'questions': 5,
      'questions without an answer': 1,
      'questions with the id of another': 2,
      'questions called impossible that have answers': 1,
      'answers moved': 1,
      'answers that are not in the context': 1,
      'answers without text': 1,
    },
    'missing': [],
    'skipped': [
      {
        'file': 'train.json',
        'record': 'paragraph 1-3 (R1)',
        'why': 'has no question',
      },
      {
        'file': 'train.json',
        'record': 'paragraph 2-1 (R2), question R2_1',
        'why': 'has no text',
      },
      {
        'file': 'train.json',
        'record': 'paragraph 2-2 (R2)',
        'why': 'has no context',
      },
    ],
  }
  (example,) = _examples('test')
  assert example['targets'] == ['Clear']  # Of an article without a title.


def test_squad_2_with_several_answers():
  (example,) = _examples('validation', 'squad_v2')
  assert example['prompts'] == ['What sinks in water?', 'What is it less of?']
  assert example['targets'] == [NONE, 'dense']
  assert metrics.gold_answers(example) == [[], ['dense', 'less dense']]


def test_data_prepared_by_tfds_replaces_downloads(tmp_path, monkeypatch):
  want = tasks_data.prepare(
    reader.SquadV1, tmp_path / 'files', FIXTURES / 'squad'
  )

  def unreachable(*args, **kwargs):
    raise OSError('no route to host')

  monkeypatch.setattr(web, 'fetch', unreachable)
  with pytest.raises(errors.UserError, match='no route to host.*dev-v1.1.json'):
    tasks_data.prepare(reader.SquadV1, tmp_path / 'tfds')
  # tfds asks for this package, and does not require it.
  resources = types.SimpleNamespace(abc=types.SimpleNamespace(Traversable=str))
  monkeypatch.setitem(sys.modules, 'importlib_resources', resources)
  monkeypatch.setattr(
    tfds.download.DownloadManager,
    'download_and_extract',
    lambda self, urls: {
      k: str(FIXTURES / 'squad' / url.rpartition('/')[2])
      for k, url in urls.items()
    },
  )
  tfds.builder('squad/v1.1', data_dir=tmp_path / 'tfds').download_and_prepare()
  found = tasks_data.prepare(reader.SquadV1, tmp_path / 'tfds')

  def contexts(builder, split):
    records = tfds.as_numpy(builder.as_dataset(split=split))
    records = [prepared.to_python(record) for record in records]
    return {
      (r['title'], r['context']): sorted(
        zip(
          r['questions']['id'],
          r['questions']['question'],
          r['questions']['answers']['text'],
          r['questions']['answers']['start'],
          strict=True,
        )
      )
      for r in records
    }

  for split in ('train', 'validation'):
    assert contexts(found, split) == contexts(want, split)
    counts = [b.info.metadata['splits'][split]['counts'] for b in (found, want)]
    assert counts[0] == counts[1]
  # But not if a folder was given and lacks the files.
  (tmp_path / 'none').mkdir()
  (tmp_path / 'none/notes.txt').write_text('not yet')
  with pytest.raises(errors.UserError, match='none of its files is in'):
    tasks_data.prepare(reader.SquadV1, tmp_path / 'other', tmp_path / 'none')


def test_radqa_says_how_to_get_it(tmp_path):
  with pytest.raises(errors.UserError, match='physionet.org'):
    tasks_data.prepare(reader.Radqa, tmp_path / 'data')
  assert not reader.Radqa.URLS


def _broken(change):
  content = json.loads((FIXTURES / 'radqa/dev.json').read_text())
  change(content, content['data'][0]['paragraphs'][0])
  return json.dumps(content)


@pytest.mark.parametrize(
  'content, message',
  [
    (
      lambda: (FIXTURES / 'radqa/dev.json').read_text()[:500],
      'dev.json: malformed JSON .* 500',
    ),
    (lambda: '[]', 'dev.json: must hold a JSON object, not a list'),
    (
      lambda: _broken(lambda whole, _: whole.pop('data')),
      "dev.json, the whole file: lacks 'data'",
    ),
    (
      lambda: _broken(lambda whole, _: whole['data'][0].pop('paragraphs')),
      "dev.json, article 1: lacks 'paragraphs'",
    ),
    (
      lambda: _broken(lambda _, p: p.pop('context')),
      r"dev.json, paragraph 1-1 \(R3\): lacks 'context'",
    ),
    (
      lambda: _broken(lambda _, p: p['qas'][1].pop('question')),
      r"paragraph 1-1 \(R3\), question R3_2: lacks 'question'",
    ),
    (
      lambda: _broken(lambda _, p: p['qas'][2].pop('id')),
      r"paragraph 1-1 \(R3\): lacks 'id'",
    ),
    (
      lambda: _broken(lambda _, p: p['qas'][0].update(answers=None)),
      'question R3_1: .*TypeError',
    ),
    (
      lambda: _broken(lambda _, p: p['qas'][0]['answers'][0].update(text=3)),
      "question R3_1: .*'text' must be a string, not 3",
    ),
    (
      lambda: _broken(lambda _, p: p.update(qas=[])),
      'no record of the split validation .*: 1 were skipped',
    ),
  ],
)
def test_invalid_files_are_named_and_leave_nothing(tmp_path, content, message):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in/dev.json').write_text(content())
  tasks_data.assert_refused(
    reader.Radqa, tmp_path / 'data', tmp_path / 'in', message
  )


def test_windows_by_brute_force():
  rng = random.Random(0)
  for _ in range(300):
    size, words = rng.randint(0, 30), rng.randint(1, 9)
    overlap = rng.randint(0, words - 1)
    context = ' ' * rng.randint(0, 2) + '\n '.join(
      'abcdefg'[: rng.randint(1, 7)] for _ in range(size)
    )
    found = windows.split(context, words, overlap)
    texts = [context[w.start : w.end] for w in found]
    assert all(len(text.split()) <= max(words, 0) for text in texts)
    assert all(
      w.index == i and w.count == len(found) for i, w in enumerate(found)
    )
    read = [] if size else context.split()
    for number, text in enumerate(texts):
      own = text.split()
      shared = overlap if number else 0
      assert number == 0 or read[-overlap:] == own[:overlap] or overlap == 0
      assert len(own) > shared or not size
      read += own[shared:]
    assert read == context.split()
    # Any answer of `overlap` + 1 words lies whole in some window.
    starts = [i for i, c in enumerate(context) if c == 'a' and len(context) > i]
    for first in range(len(starts) - overlap):
      end = starts[first + overlap] + 1
      assert any(w.contains(starts[first], end) for w in found)


def test_windows_hold_the_answers_that_lie_in_them():
  (whole,) = _examples('validation')
  assert whole['targets'] == ['w0 w1', 'w200 w201', 'the end', NONE]
  first, second = _examples('validation', window_words=256, overlap_words=64)
  assert [first['example_id'], second['example_id']] == ['1-1#1/2', '1-1#2/2']
  assert first['inputs'].split() == whole['inputs'].split()[:256]
  assert second['inputs'].split() == whole['inputs'].split()[192:]
  assert first['targets'] == ['w0 w1', 'w200 w201', NONE, NONE]
  assert second['targets'] == [NONE, 'w200 w201', 'the end', NONE]
  assert first['answers'] == second['answers'] == whole['answers']
  # Half of the first answer is cut off; the second lies in the window.
  _, third, *_ = _examples('validation', window_words=201, overlap_words=0)
  assert third['targets'] == [NONE, 'w201', 'the end', NONE]
  (short,) = _examples('test', window_words=9, overlap_words=0)
  assert short['example_id'] == '1-1#1/1'


@pytest.mark.parametrize(
  'answers, want',
  [
    ([NONE, 'north', NONE], 'north'),
    (['north', 'The North!', 'east'], 'north'),
    (['east', 'north', 'the north'], 'north'),
    (['east', 'north'], 'east'),
    ([NONE, '', 'Unanswerable.'], NONE),
    ([None, NONE], None),
    ([None, 'east'], 'east'),
    ([None], None),
  ],
)
def test_the_rule_of_merging(answers, want):
  assert windows.merge(answers, NONE) == want


def test_merged_windows_score_as_whole_contexts():
  rng = random.Random(1)
  texts = ['north', 'the north', 'east end', NONE, '', 'end']
  wholes, whole_predictions, rows = [], [], []
  for number in range(250):
    size, count = rng.randint(1, 5), rng.randint(1, 4)
    golds = [rng.choices(texts[:3], k=rng.randint(0, 2)) for _ in range(size)]
    answers = [rng.choices(texts, k=count) for _ in range(size)]
    lost = rng.random() < 0.1 and count > 1
    wholes.append(
      {
        'subtasks': [f'q{u}' for u in range(size)],
        'targets': [(own or [NONE])[0] for own in golds],
        'answers': [metrics.join_answers(own) for own in golds],
      }
    )
    whole_predictions.append(
      [
        windows.merge([None, *own[1:]] if lost else own, NONE)
        for own in answers
      ]
    )
    for w in range(lost, count):
      target = {
        **wholes[-1],
        'example_id': f'c{number}#{w + 1}/{count}',
        'targets': [NONE] * size,  # Of the window alone.
      }
      rows.append((target, [own[w] for own in answers]))
  rng.shuffle(rows)
  metric = windows.merged(metrics.squad, NONE)
  found = metric([t for t, _ in rows], [p for _, p in rows])
  assert found.pop('missing_windows') > 5
  assert found == pytest.approx(metrics.squad(wholes, whole_predictions))


def test_figures_are_the_same_in_all_layouts_whole_and_in_windows():
  answers = {
    '1-1': ['w0', 'w201', NONE, 'w3'],
    '1-1#1/2': ['w0', 'w201', NONE, NONE],
    '1-1#2/2': [NONE, 'w200', '', 'w3'],
  }
  want = {
    'squad_exact_match': 1 / 4,
    'squad_f1': (2 / 3 + 1) / 4,
    'has_answer_exact_match': 1 / 3,
    'has_answer_f1': (2 / 3 + 1) / 3,
    'no_answer_exact_match': 0,
    'missing_predictions': 0,
    'surplus_predictions': 0,
  }
  score = functools.partial(
    tasks_data.score, split='validation', answers=answers
  )
  for seed, layout in enumerate(('', '_pie', '_joint')):
    found = score(f'radqa{layout}', seed=seed)
    assert found == pytest.approx(want)
    found = score(f'radqa_windows{layout}', seed=seed)
    assert found == pytest.approx({**want, 'missing_windows': 0})


def test_rows_of_windows_that_are_missing():
  answers = {
    '1-1#1/2': ['w0 w1', 'w201', NONE, NONE],
    '1-1#2/2': [NONE, 'w200', 'the end', NONE],
  }
  score = functools.partial(
    tasks_data.score, 'radqa_windows_pie', 'validation', answers
  )
  window = lambda row: row['example_id'].decode()[-3:]
  # Of the second window, nothing but its last question.
  found = score(keep=lambda row: (window(row), row['subtask_index']) in [
    *[('1/2', u) for u in range(4)], ('2/2', 3)
  ])  # fmt: skip
  assert found['missing_predictions'] == 3
  assert found['missing_windows'] == 0
  # w0 w1 and w201 stand; "the end" is lost; that 4 has no answer is known.
  assert found['has_answer_exact_match'] == pytest.approx(2 / 3)
  assert found['no_answer_exact_match'] == 1
  # A window that is not there at all might have had any answer.
  for name in ('radqa_windows', 'radqa_windows_pie', 'radqa_windows_joint'):
    found = tasks_data.score(
      name, 'validation', answers, keep=lambda row: window(row) == '1/2'
    )
    assert found['missing_windows'] == 1
    assert found['has_answer_exact_match'] == pytest.approx(2 / 3)
    assert found['no_answer_exact_match'] == 0


def test_dataset_of_the_task():
  found = tasks_data.examples('squad_v2', 'validation')
  assert list(found.values()) == _examples('validation', 'squad_v2')
  (row, *_) = tasks_data.rows('radqa_pie', 'train')
  assert row['answers'].decode().startswith('["There is a 3 mm nodule')


def test_registering_windows():
  register = reading.register
  for _ in range(2):
    name = register('own_windows', data='radqa', window_words=9)
    assert name in seqio.TaskRegistry.names()
  with pytest.raises(errors.UserError, match='other arguments'):
    register('own_windows', data='radqa', window_words=8)
  with pytest.raises(errors.UserError, match='overlap by 9'):
    register('bad_windows', data='radqa', window_words=9, overlap_words=9)
  with pytest.raises(errors.UserError, match="'squad'; did you mean squad_v"):
    register('bad_windows', data='squad')
