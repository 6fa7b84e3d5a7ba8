# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The viewer reads the files of predict, evaluate and training."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys

from clu import metric_writers
import pages_data
import pytest
import seqio
from toys import subtasks_data
from toys import tasks_data

from pid_jax import errors
from pid_jax import viewer
from pid_jax.subtasks import metrics
from pid_jax.trainer import evaluation
from pid_jax.trainer import reporting
from pid_jax.viewer import comparing
from pid_jax.viewer import curves
from pid_jax.viewer import figures
from pid_jax.viewer import records
from pid_jax.viewer import sources
from pid_jax.viewer import tables

Kind = comparing.Kind


def _write_evaluation(name, predictions, folder):
  """Writes predictions of a task in any layout as `evaluate` does."""
  task = seqio.TaskRegistry.get(name)
  targets, outputs = tasks_data.postprocess(name, 'test', predictions)
  writer = evaluation.PredictionsWriter(str(folder))
  dataset = task.get_dataset(None, 'test', shuffle=False)
  writer(name, 7, {}, dataset, {'prediction': outputs}, targets)
  (metric,) = task.predict_metric_fns
  figures = metric(targets, outputs)
  results = {
    'step': 7,
    'split': 'test',
    'metrics': {f'{name}/{k}': v for k, v in figures.items()},
  }
  (folder / 'metrics.json').write_text(json.dumps(results))
  return folder / f'{name}.jsonl'


def test_all_layouts_of_evaluate_read_the_same(tmp_path):
  rng = random.Random(0)
  examples = subtasks_data.examples(12)
  for example in examples:
    example['answers'] = [
      metrics.join_answers([target, 'two']) if i % 2 else ''
      for i, target in enumerate(example['targets'])
    ]
  predictions = {
    example['example_id']: [
      rng.choice([target, 'none', 'two', 'bridge'])
      for target in example['targets']
    ]
    for example in examples
  }
  name = subtasks_data.register(
    {'test': examples},
    subtask_features=['answers'],
    metric_fns=[
      metrics.slot_accuracy_any_alternative,
      metrics.joint_goal_accuracy_any_alternative,
    ],
  )
  found = {}
  for layout in ('', '_pie', '_joint'):
    folder = tmp_path / f'layout{layout}'
    folder.mkdir()
    path = _write_evaluation(name + layout, predictions, folder)
    found[layout] = records.read(path)
    for read, example in zip(found[layout], examples, strict=True):
      assert read.example_id == example['example_id']
      assert read.inputs == example['inputs']
      assert read.prompts == example['prompts']
      assert read.names == example['subtasks']
      assert read.targets == example['targets']
      assert read.predictions == predictions[example['example_id']]
    # Right by the page is right by the metric.
    table = tables.compare(found[layout], comparing.EMPTY_WORDS)
    results = sources.load(folder).metrics
    counts = table.counts()
    assert counts[Kind.RIGHT] / counts.total() == pytest.approx(
      results[f'{name}{layout}/slot_accuracy_any_alternative']
    )
    assert table.num_right() / table.num_judged() == pytest.approx(
      results[f'{name}{layout}/joint_goal_accuracy_any_alternative']
    )
  assert found[''] == found['_pie'] == found['_joint']


def _line(**changes):
  line = {
    'inputs': 'in',
    'example_id': 'a',
    'prompts': ['p', 'q'],
    'subtasks': ['hotel', 'taxi'],
    'targets': ['area = north | stars = 4', 'none'],
    'prediction': ['stars = 4 | area = north', 'none'],
  }
  return {**line, **changes}


def _evaluated(**changes):
  return json.dumps(_line(**changes))


def _row(**changes):
  row = {'example_id': 'a', 'index': 0, 'num_subtasks': 2, 'prediction': 'a'}
  return json.dumps({**row, 'subtask': 's', 'target': 't', **changes})


def _predicted(**changes):
  subtask = {'name': 'n', 'prompt': 'p', 'target': 't', 'prediction': 't'}
  return json.dumps({'inputs': 'a', 'subtasks': [{**subtask, **changes}]})


def _read(tmp_path, *lines):
  return records.read(pages_data.write(tmp_path / 'x.jsonl', list(lines)))


@pytest.mark.parametrize(
  ('prediction', 'kind'),
  [
    ('stars = 4 | area = north', Kind.RIGHT),
    ('area = centre | stars = 4', Kind.RIGHT),  # An alternative.
    ('area = north', Kind.WRONG),
    ('area = north | stars = 4 | stars = 4', Kind.WRONG),
    ('area = south | stars = 4', Kind.NEAR_MISS),
    ('none', Kind.MISSED),
  ],
)
def test_groups_of_slots_are_right_in_any_order(tmp_path, prediction, kind):
  pairs = metrics.join_answers(['area = north', 'area = centre'])
  (example,) = _read(
    tmp_path, _line(prediction=[prediction, 'none'], pairs=[pairs, ''])
  )
  (kinds,) = tables.compare([example], comparing.EMPTY_WORDS).kinds
  assert kinds == [kind, Kind.RIGHT]


def test_groups_of_slots_need_no_alternatives_to_be_right(tmp_path):
  example, of_text = _read(tmp_path, _line(pairs=['', '']), _line())
  kinds = tables.compare([example, of_text], comparing.EMPTY_WORDS).kinds
  assert kinds[0] == [Kind.RIGHT, Kind.RIGHT]
  assert kinds[1][0].is_error  # Of a text, order counts.


def test_a_joint_output_with_too_few_parts_lacks_predictions(tmp_path):
  (example,) = _read(tmp_path, _line(prediction=['x']))
  assert example.predictions == ['x', None]
  (example,) = _read(tmp_path, _line(prediction=['x', 'y', 'surplus']))
  assert example.predictions == ['x', 'y']


def test_a_task_without_subtasks_has_one(tmp_path):
  path = pages_data.write(
    tmp_path / 'x.jsonl',
    [{'inputs': 'sum: 1 2', 'target': '3', 'prediction': '4'}],
  )
  (example,) = records.read(path, 'sums')
  assert (example.example_id, example.names) == ('1', ['sums'])
  assert (example.targets, example.predictions) == (['3'], ['4'])


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'x.jsonl is empty'),
    ('[1]', 'line 1: must be a JSON object'),
    ('{"inputs": 1}', 'line 1: not a line that'),
    ('{"inputs": "a"', 'line 1: malformed JSON'),
    ('{"prediction": 3}', 'line 1: not a line that'),
    (
      '{"inputs": "a", "subtasks": [{"name": "who", "prompt": "who?"}]}',
      'line 1: the subtask \'who\' has no "prediction"',
    ),
    ('\n{"inputs":"a","subtasks":[{"prediction":"b"}]}', 'line 2: not a line'),
    ('{"inputs": "a", "subtasks": []}', 'not a line'),
    (_predicted(score='x'), 'not a line'),
    (_predicted(answers='t'), 'not a line'),
    (_predicted(answers_as_written=[None]), 'not a line'),
    (_evaluated(prediction={}), 'not a line'),
    (_evaluated(prompts=['p']), 'not a line'),
    (_evaluated(answers=['[' * 2000, '']), 'line 1: malformed JSON'),
    (_row(num_subtasks=10**9), 'num_subtasks" must be'),
    (_row(index=-1), 'index" must be'),
    (_row(target=3), 'not a line'),
  ],
)
def test_invalid_files_are_named(tmp_path, text, message):
  path = tmp_path / 'x.jsonl'
  path.write_text(text)
  with pytest.raises(errors.UserError) as e:
    records.read(path)
  assert message in str(e.value)


def test_curves_are_those_that_training_wrote(tmp_path):
  writer = reporting.tensorboard_writer(tmp_path)
  assert isinstance(writer, metric_writers.SummaryWriter)
  writer.write_texts(0, {'config': 'x = 1'})
  writer.write_scalars(10, {'train/loss': 0.5, 'train/steps': 3})
  writer.write_scalars(20, {'train/loss': 0.25, 'eval/t/nan': float('nan')})
  writer.flush()
  expected = {'train/loss': [(10, 0.5), (20, 0.25)], 'train/steps': [(10, 3.0)]}
  assert curves.read(tmp_path / 'tensorboard') == expected
  # A run that was stopped while it wrote, and went on from step 10.
  (path,) = (tmp_path / 'tensorboard').iterdir()
  content = path.read_bytes()
  for size in range(len(content) - 40, len(content)):
    path.write_bytes(content[:size])
    loss = curves.read(tmp_path / 'tensorboard')['train/loss']
    assert loss in ([(10, 0.5)], [(10, 0.5), (20, 0.25)])
  writer.close()


@pytest.fixture(name='model_dir')
def _model_dir(tmp_path):
  """A MODEL_DIR with curves and two evaluations, the one of step 7 later."""
  model_dir = tmp_path / 'model'
  writer = reporting.tensorboard_writer(model_dir)
  for step in (1, 2, 3):
    writer.write_scalars(step, {'train/loss': 100.0**-step, 'train/same': 2.0})
  writer.close()
  for name, step, prediction in (('test-9', 9, 'x'), ('test-7', 7, 'y')):
    folder = model_dir / 'evaluation' / name
    folder.mkdir(parents=True)
    pages_data.write(folder / 't.jsonl', [_line(prediction=[prediction, 'z'])])
    results = {'step': step, 'split': 'test', 'metrics': {'t/accuracy': 0.125}}
    (folder / 'metrics.json').write_text(json.dumps(results))
    os.utime(folder / 'metrics.json', (1000 - step, 1000 - step))
  return model_dir


def test_a_model_dir_is_its_latest_evaluation_and_its_curves(model_dir):
  pytest.importorskip('matplotlib')
  source = sources.load(model_dir)
  assert source.title == 't: test at step 7'
  assert [x.predictions for x in source.examples] == [['y', 'z']]
  assert source.examples[0].task == 't'
  assert source.metrics == {'t/accuracy': 0.125}
  assert set(source.curves) == {'train/loss', 'train/same'}
  (note,) = source.notes
  assert 'evaluation/test-7' in note and 'evaluation/test-9' in note

  other = sources.load(model_dir / 'evaluation' / 'test-9')
  assert [x.predictions for x in other.examples] == [['x', 'z']]
  assert other.curves == source.curves and not other.notes
  alone = sources.load(model_dir / 'evaluation' / 'test-9' / 't.jsonl')
  assert alone.examples == other.examples and alone.metrics == other.metrics

  output = model_dir / 'report.html'
  summary = viewer.write_report(model_dir, output)
  assert (summary.num_examples, summary.num_errors) == (1, 2)
  html = output.read_text()
  assert 'train/same 2.' in html
  assert html.count('<svg') == 1 and '1e-06' in html  # On a log scale.


def test_a_model_dir_without_predictions_has_its_curves(model_dir):
  pytest.importorskip('matplotlib')
  shutil.rmtree(model_dir / 'evaluation')
  output = model_dir / 'report.html'
  summary = viewer.write_report(model_dir, output)
  assert (summary.num_examples, summary.num_errors) == (0, None)
  html = output.read_text()
  assert 'python -m pid_jax.evaluate --model_dir=' in html
  assert '<svg' in html and '<script' not in html
  shutil.rmtree(model_dir / 'tensorboard')
  (model_dir / 'checkpoints').mkdir()
  with pytest.raises(errors.UserError, match='holds no predictions'):
    viewer.write_report(model_dir, output)


def test_curves_need_matplotlib(model_dir, monkeypatch):
  monkeypatch.setattr(figures, 'is_installed', lambda: False)
  summary = viewer.write_report(model_dir, model_dir / 'report.html')
  assert any('matplotlib' in note for note in summary.notes)
  assert '<svg' not in (model_dir / 'report.html').read_text()


def test_curves_need_tensorboard(model_dir, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tensorboard.util', None)
  source = sources.load(model_dir)
  assert not source.curves and source.examples
  assert any('tensorboard is not installed' in x for x in source.notes)


def test_paths_without_predictions(tmp_path, model_dir):
  for path, message in (
    (tmp_path / 'none', 'none does not exist'),
    (tmp_path, 'is neither the MODEL_DIR'),
  ):
    with pytest.raises(errors.UserError, match=message):
      sources.load(path)
  folder = model_dir / 'evaluation' / 'test-7'
  (folder / 't.jsonl').unlink()
  with pytest.raises(errors.UserError, match='metrics but no predictions'):
    sources.load(model_dir)
  (folder / 'metrics.json').write_text('{}')
  with pytest.raises(errors.UserError, match='metrics.json is not what'):
    sources.load(folder)


def test_the_page_is_written_atomically(tmp_path, monkeypatch):
  source = pages_data.write(tmp_path / 'x.jsonl', [_line()])
  assert viewer.default_output(source) == tmp_path / 'x.html'
  assert viewer.default_output(tmp_path) == tmp_path / 'report.html'
  for output in (tmp_path, tmp_path / 'none' / 'x.html'):
    with pytest.raises(errors.UserError, match='cannot write'):
      viewer.write_report(source, output)

  def full(*unused_args):
    raise OSError(28, 'No space left on device')

  output = tmp_path / 'x.html'
  output.write_text('from before')
  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(errors.UserError, match='x.html: no space left'):
    viewer.write_report(source, output)
  assert sorted(os.listdir(tmp_path)) == ['x.html', 'x.jsonl']
  assert output.read_text() == 'from before'


def _report(*flags):
  return subprocess.run(
    [sys.executable, '-X', 'importtime', '-m', 'pid_jax.report', *flags],
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_command_needs_neither_jax_nor_tensorflow(model_dir):
  done = _report(str(model_dir))
  assert done.returncode == 0, done.stderr
  output = model_dir / 'report.html'
  lines = done.stdout.splitlines()
  assert lines[0] == f'1 examples, 2 errors: {output}'
  assert any(x.startswith('This is the latest evaluation') for x in lines)
  loaded = {line.rpartition('|')[2].strip() for line in done.stderr.split('\n')}
  assert 'pid_jax.viewer.curves' in loaded
  assert not {'jax', 'tensorflow', 'seqio', 'flax', 'clu'} & loaded


def test_the_command_takes_empty_words_and_prints_errors(tmp_path):
  line = _line(targets=['a', 'b'], prediction=['not  said', 'not said'])
  source = pages_data.write(tmp_path / 'x.jsonl', [line])
  output = tmp_path / 'y.html'
  done = _report(str(source), f'--output={output}', '--empty=not said')
  assert done.stdout == f'1 examples, 2 errors: {output}\n'
  html = output.read_text()
  assert '"mm"' in html  # The kinds of its two subtasks: missed.
  done = _report(str(tmp_path / 'none'))
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith('error: ')
