# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Labelled files: evaluate, report and hand agree on what is right."""

import json
import pathlib

import gin
import pytest
from toys import configs
from toys import tasks_data
from toys import vocabularies
from toys import weights

from pid_jax import checkpoints
from pid_jax import cli
from pid_jax import errors
from pid_jax import evaluate
from pid_jax import inference
from pid_jax import trainer
from pid_jax import viewer
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.inference import model as model_lib
from pid_jax.inference import results
from pid_jax.inference import text
from pid_jax.subtasks import metrics
from pid_jax.tasks import jsonl
from pid_jax.trainer import evaluation

# (target, further answers, prediction, whether it is right), by example. The
# vocabulary writes NFKC, and has no braces.
CASES = {
  'signs': [
    ('1.5 mg', [], '15 mg', False),
    ('+', [], '-', False),
    ('A', [], 'the', False),
    ('-5', [], '5', False),
  ],
  'devanagari': [('राम्रो छ', [], 'नराम्रो छ', False)],
  'same devanagari': [('राम्रो छ', [], 'राम्रो छ', True)],
  'alternatives': [
    ('inn', ['the inn', 'in 5 m²'], 'the inn', True),
    ('inn', ['the inn'], 'an inn', False),
    ('inn', ['the inn', 'in 5 m²'], 'in 5 m2', True),
  ],
  'superscript': [('31 kg/m²', [], '31 kg/m2', True)],
  'ligature': [('ﬁne', [], 'fine', True), ('ﬁne', [], 'fin', False)],
  'spaces': [('a  b', [], 'a b', True), (' a', [], 'a', True)],
  'unknown': [('{5}', [], '\u2047 5 \u2047', False), ('{', [], '', False)],
  'case': [('Inn', [], 'inn', False), ('none', [], 'none', True)],
}
NUM_RIGHT = sum(x[-1] for subtasks in CASES.values() for x in subtasks)
NUM_SUBTASKS = sum(map(len, CASES.values()))
NUM_WHOLE = sum(all(x[-1] for x in subtasks) for subtasks in CASES.values())
LENGTHS = {'inputs': 24, 'prompts': 4, 'targets': 12, 'subtasks': 4}


def _record(name, subtasks):
  return {
    'id': name,
    'inputs': f'text of {name}',
    'subtasks': [
      {
        'name': f's{u}',
        'prompt': f's{u}:',
        'target': target,
        **({'answers': [target, *answers]} if answers else {}),
      }
      for u, (target, answers, _, _) in enumerate(subtasks)
    ],
  }


@pytest.fixture(scope='module', name='vocabulary')
def _vocabulary():
  sentences = [
    ' '.join([prediction, target, *answers, f'text of {name} s0:'])
    for name, subtasks in CASES.items()
    for target, answers, prediction, _ in subtasks
    if '{' not in target
  ]
  return vocabularies.train(
    (*sentences, 's0: s1: s2: s3: 0123456789'),
    model_type='char',
    vocab_size=200,
    character_coverage=1.0,
    normalization_rule_name='nmt_nfkc',
  )


@pytest.fixture(scope='module', name='file')
def _file(tmp_path_factory):
  path = tmp_path_factory.mktemp('data') / 'cases.jsonl'
  lines = (json.dumps(_record(*item)) + '\n' for item in CASES.items())
  path.write_text(''.join(lines))
  return path


@pytest.fixture(scope='module', name='model_dir')
def _model_dir(tmp_path_factory, vocabulary):
  """A model with random weights as `convert` leaves it: without config.gin."""
  folder = tmp_path_factory.mktemp('model')
  read = vocabulary_lib.Vocabulary(vocabulary)
  config = configs.tiny(vocab_size=128, num_tokens=read.size)
  task = {'name': 'cases', 'layout': 'pid', 'feature_lengths': LENGTHS}
  params = weights.random_params(config, seed=0)
  pretrained = checkpoints.Pretrained(config, params, read, task, step=7)
  checkpoints.save(folder / 'native', pretrained)
  return folder / 'native'


@pytest.fixture(name='scripted')
def _scripted(monkeypatch, vocabulary):
  """The model answers as CASES say."""

  class Model:
    newline = None

    def __init__(self):
      self.vocabulary = vocabulary_lib.Vocabulary(vocabulary)

    def answer(self, inputs, *unused, **kwargs):
      return [
        text.Response(i, [x[2] for x in CASES[line.removeprefix('text of ')]])
        for i, line in enumerate(inputs)
      ]

  monkeypatch.setattr(
    model_lib.PromptInDecoder,
    'from_pretrained',
    lambda *unused, **kwargs: Model(),
  )


def test_a_file_counts_as_by_hand(model_dir, file, scripted, tmp_path):
  names = (*metrics.DEFAULT, 'slot_accuracy_any_alternative', 'rouge')
  values, folder = inference.evaluate_file(
    model_dir, file, names, output_dir=tmp_path / 'out'
  )
  assert values['cases/exact_match'] == pytest.approx(NUM_RIGHT / NUM_SUBTASKS)
  assert values['cases/example_exact_match'] == NUM_WHOLE / len(CASES)
  assert (
    values['cases/slot_accuracy_any_alternative']
    == (values['cases/exact_match'])
  )
  assert values['cases/missing_predictions'] == 0
  assert values['cases/token_f1'] < 1 and values['cases/rouge1'] < 1
  saved = json.loads(pathlib.Path(folder, 'metrics.json').read_text())
  assert saved['metrics'] == values and saved['split'] == 'cases.jsonl'
  summary = viewer.write_report(folder, tmp_path / 'report.html')
  assert summary.num_examples == len(CASES)
  assert summary.num_errors == NUM_SUBTASKS - NUM_RIGHT
  # So does the file alone, and it can be read again.
  summary = viewer.write_report(
    f'{folder}/cases.jsonl', tmp_path / 'report.html'
  )
  assert summary.num_errors == NUM_SUBTASKS - NUM_RIGHT
  again, folder = inference.evaluate_file(
    model_dir,
    f'{folder}/cases.jsonl',
    names,
    layout='pid',
    long_inputs='keep_end',
  )
  assert again == values
  assert folder == f'{model_dir}/evaluation/cases-7-pid-keep_end'


@pytest.mark.parametrize('layout', ['', '_pie'])
def test_a_task_counts_as_by_hand(file, vocabulary, tmp_path, layout):
  name = jsonl.register('counted', test=file, vocabulary=vocabulary)
  predictions = {k: [x[2] for x in rows] for k, rows in CASES.items()}
  targets, outputs = tasks_data.postprocess(name + layout, 'test', predictions)
  writer = evaluation.PredictionsWriter(str(tmp_path))
  task = tasks_data.seqio.TaskRegistry.get(name + layout)
  dataset = task.get_dataset(None, 'test', shuffle=False)
  writer(task.name, 7, {}, dataset, {'prediction': outputs}, targets)
  (metric,) = task.predict_metric_fns
  figures = metric(targets, outputs)
  assert figures['exact_match'] == pytest.approx(NUM_RIGHT / NUM_SUBTASKS)
  assert figures['example_exact_match'] == NUM_WHOLE / len(CASES)
  summary = viewer.write_report(
    tmp_path / f'{task.name}.jsonl', tmp_path / 'report.html'
  )
  assert summary.num_errors == NUM_SUBTASKS - NUM_RIGHT


def test_a_file_and_a_task_of_it_give_the_same_figures(
  model_dir, file, vocabulary, tmp_path, caplog
):
  names, empty = ('rouge', 'token_f1', 'squad'), 'ﬁne'  # Written as 'fine'.
  name = jsonl.register(
    'measured',
    test=file,
    vocabulary=vocabulary,
    metrics=names,
    empty_target=empty,
  )
  cfg = trainer.DatasetConfig(
    name, LENGTHS, 'test', batch_size=4, shuffle=False, pack=False
  )
  of_task, _ = trainer.evaluate(
    model_dir, cfg, output_dir=tmp_path / 'task', quiet=True
  )
  # m² twice among the targets; spaces; the ligature twice.
  assert 'targets are compared as the vocabulary writes them' in caplog.text
  of_file, _ = inference.evaluate_file(
    model_dir,
    file,
    names,
    output_dir=tmp_path / 'file',
    empty_target=empty,
  )
  assert 'cases/no_answer_exact_match' in of_file
  said = [
    line.partition(': ')[2]
    for line in caplog.messages
    if 'compared as the vocabulary writes them' in line
  ]
  assert len(said) == 2 and len(set(said)) == 1
  for metric, value in of_file.items():
    name = metric.replace('cases/', 'measured/')
    assert of_task[name] == pytest.approx(value)
  predictions = [
    [json.loads(line) for line in path.read_text().splitlines()]
    for path in (
      tmp_path / 'task/measured.jsonl',
      tmp_path / 'file/cases.jsonl',
    )
  ]
  for one, other in zip(*predictions, strict=True):
    assert one['prediction'] == [s['prediction'] for s in other['subtasks']]


@pytest.fixture(name='run')
def _run(monkeypatch, capsys, tmp_path):
  """Runs the command in this process; returns its status and output."""
  monkeypatch.setenv('JAX_COMPILATION_CACHE_DIR', '')
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(cli, 'quieten', lambda verbose=False: None)

  def run(*argv):
    gin.clear_config()
    with pytest.raises(SystemExit) as e:
      cli.run(
        evaluate.main,
        '',
        evaluate.add_flags,
        use_gin=True,
        check=evaluate.check,
        argv=list(argv),
      )
    captured = capsys.readouterr()
    return e.value.code, captured.out, captured.err

  yield run
  gin.clear_config()


def test_the_command_on_a_folder_without_a_configuration(
  run, model_dir, file, tmp_path, scripted
):
  status, out, err = run(
    f'--model_dir={model_dir}',
    f'--input={file}',
    '--metrics=exact_match,example_exact_match',
    '--output=out',
  )
  assert not status, err
  lines = out.splitlines()
  assert lines[0].split() == [
    'cases/exact_match',
    f'{NUM_RIGHT / NUM_SUBTASKS:.4f}',
  ]
  # Counts are shown where they are not 0.
  assert len(lines) == 3 and lines[2] == 'written to out'

  before = sorted(p for p in model_dir.rglob('*'))
  for flags, message in [
    ((), 'has no config.gin that names a task: give --input=FILE.jsonl'),
    (('--gin_file=nowhere.gin',), "unknown gin file 'nowhere.gin'"),
    ((f'--input={file}', '--metrics=exact'), "'exact'; did you mean exact_m"),
    ((f'--input={file}', '--metrics=squad,squad'), 'none twice'),
    ((f'--input={file}', '--split=test'), '--split goes with a task'),
    ((f'--input={file}', '--gin.A=1'), '--gin.NAME goes with a task'),
    (('--metrics=squad',), '--metrics goes with --input'),
    (('--batch_size=0',), '--batch_size: the value must be a whole number'),
    (
      ('--num_examples=-1',),
      '--num_examples: the value must be a whole number',
    ),
    ((f'--input={tmp_path}',), 'not a regular file'),
    (('--input=none.jsonl',), 'no such file'),
    ((f'--input={file}', f'--output={file}'), 'not a folder'),
    ((f'--input={file}', '--step=3'), 'step 3'),
  ]:
    status, out, err = run(f'--model_dir={model_dir}', *flags)
    assert status == 2 and not out, flags
    assert err.startswith('error: ') and err.count('\n') == 1, err
    assert message in err
  assert sorted(p for p in model_dir.rglob('*')) == before


def test_targets_are_needed(run, model_dir, tmp_path):
  record = _record('signs', CASES['signs'])
  del record['subtasks'][2]['target']
  (tmp_path / 'x.jsonl').write_text(json.dumps(record))
  status, _, err = run(f'--model_dir={model_dir}', '--input=x.jsonl')
  assert status == 2 and 'subtasks[2]: lacks "target"' in err


def test_what_could_not_be_written_is_named(tmp_path, monkeypatch):
  def full(path, content):
    raise errors.UserError(f'cannot write {path}: no space left')

  monkeypatch.setattr(results.files, 'write', full)
  with pytest.raises(errors.UserError, match=r'metrics\.json: no space left'):
    results.write(tmp_path, {}, options=inference.DecodingOptions())


@pytest.mark.parametrize(
  ('values', 'shown'),
  [
    ({'t/b_predictions': 0.0, 't/a': 1.0}, ['t/a', '1.0000']),
    (
      {'t/missing_predictions': 2.0, 't/a': 0.25, 't/n': 25.0},
      ['t/a', '0.2500', 't/n', '25', 't/missing_predictions', '2'],
    ),
    ({}, []),
    ({'t/x': float('nan')}, ['t/x', 'nan']),
  ],
)
def test_tables_begin_with_the_metrics(values, shown):
  assert results.table(values).split() == shown
