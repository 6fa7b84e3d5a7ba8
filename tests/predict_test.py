# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The predict command: files in, files out, and nothing half-written."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toys import buckets
from toys import configs
from toys import vocabularies
from toys import weights

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import inference
from pid_jax import viewer
from pid_jax import vocabulary
from pid_jax.checkpoints import native
from pid_jax.inference import partial_results
from pid_jax.inference import predict_file

LINES = [
  {
    'id': 'first',
    'inputs': 'ant bee cat',
    'subtasks': [
      {'name': 'one', 'prompt': 'dog', 'choices': ['fox eel', 'cat']},
      {'name': 'two', 'prompt': 'eel fox ant', 'target': 'bee'},
    ],
  },
  {
    'inputs': 'dog eel ' * 6,
    'subtasks': [{'name': 'one', 'prompt': 'bee \u00e9'}],
  },
]


@pytest.fixture(scope='module', name='model_dir')
def _model_dir(tmp_path_factory):
  """A model with random weights, as training would leave it."""
  folder = tmp_path_factory.mktemp('model')
  config = dataclasses.replace(configs.T5_1_1, num_tokens=9)
  checkpoints.write_config(
    folder,
    config=config,
    task={
      'name': 'animals',
      'layout': 'pid',
      'feature_lengths': {'inputs': 8, 'prompts': 4, 'targets': 3},
    },
    vocabulary=vocabulary.Vocabulary(
      vocabularies.words(*'ant bee cat dog eel fox'.split())
    ),
  )
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(
      folder / 'checkpoints' / '7' / 'params',
      jax.tree.map(jnp.asarray, weights.random_params(config, seed=0)),
    )
  return folder


def _write(path, lines):
  path.write_text(''.join(json.dumps(line) + '\n' for line in lines))
  return path


def _predict(*flags):
  return subprocess.run(
    [sys.executable, '-m', 'pid_jax.predict', *map(str, flags)],
    cwd=pathlib.Path(__file__).parent.parent,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': ''},
    capture_output=True,
    text=True,
    check=False,
  )


def test_the_command(model_dir, tmp_path):
  questions = _write(tmp_path / 'questions.jsonl', LINES)
  answers = tmp_path / 'answers.jsonl'
  done = _predict(
    f'--model_dir={model_dir}',
    f'--input={questions}',
    f'--output={answers}',
    '--scores',
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.endswith(f'2 examples written to {answers}\n')
  assert 'warning: 1 of 2 inputs have more than 8 tokens' in done.stderr
  assert 'inputs[1]' in done.stderr

  records = [json.loads(line) for line in answers.read_text().splitlines()]
  model = inference.PromptInDecoder.from_pretrained(model_dir)
  expected, scores = model.generate(
    [line['inputs'] for line in LINES],
    [[s['prompt'] for s in line['subtasks']] for line in LINES],
    max_new_tokens=3,
    choices=[[s.get('choices') for s in line['subtasks']] for line in LINES],
    return_scores=True,
  )
  assert [record['id'] for record in records] == ['first', '2']
  assert [record.get('inputs_truncated') for record in records] == [None, True]
  for line, record, texts, values in zip(
    LINES, records, expected, scores, strict=True
  ):
    assert record['inputs'] == line['inputs']
    for subtask, given, text, value in zip(
      record['subtasks'], line['subtasks'], texts, values, strict=True
    ):
      assert subtask.pop('score') == pytest.approx(value, abs=1e-4)
      choices = {'choices': given.get('choices', [text])}
      assert text in choices['choices']
      assert {**subtask, **choices} == {**choices, **given, 'prediction': text}
  assert sorted(os.listdir(tmp_path)) == ['answers.jsonl', 'questions.jsonl']


@pytest.mark.parametrize(
  'text, message',
  [
    ('{"inputs": "ant", "subtasks": []}', 'line 2: "subtasks" is empty'),
    ('{"inputs": "ant"', 'line 2: malformed JSON'),
    ('{"subtasks": [{"name": "x", "prompt": "y"}]}', 'line 2: lacks "inputs"'),
    (
      '{"inputs": "ant", "subtasks": [{"name": "x", "prompt": " "}]}',
      'line 2, subtasks.0. .*"prompt" is empty',
    ),
    (
      '{"inputs": "ant", "subtasks": [{"name": "x", "prompt": "y", '
      '"choices": []}]}',
      'line 2, subtasks.0.: "choices" must be .* string, not an empty one',
    ),
    (
      '{"inputs": "ant", "subtasks": [{"name": "x", "prompt": "y", '
      '"choices": ["a", 4]}]}',
      r'line 2, subtasks.0.: "choices\[1\]" must be a string, not the number 4',
    ),
  ],
)
def test_bad_lines_end_it_before_the_model_is_loaded(text, message, tmp_path):
  questions = _write(tmp_path / 'questions.jsonl', LINES[:1])
  with questions.open('a') as f:
    f.write(text + '\n')
  answers = tmp_path / 'answers.jsonl'
  answers.write_text('from before')

  def load():
    raise AssertionError('loaded')

  with pytest.raises(errors.UserError, match=f'questions.jsonl, {message}'):
    inference.answer_file(load, questions, answers)
  assert answers.read_text() == 'from before'


def test_one_line_and_status_2_for_a_missing_model(tmp_path):
  questions = _write(tmp_path / 'questions.jsonl', LINES)
  done = _predict(
    f'--model_dir={tmp_path}/none',
    f'--input={questions}',
    f'--output={tmp_path}/answers.jsonl',
  )
  assert done.returncode == 2
  (line,) = done.stderr.splitlines()
  assert line.startswith('error: ') and f'{tmp_path}/none' in line
  assert os.listdir(tmp_path) == ['questions.jsonl']


def test_an_output_that_cannot_be(tmp_path):
  """And what stands where results are kept is left alone."""
  questions = _write(tmp_path / 'questions.jsonl', LINES)
  for output in (tmp_path, tmp_path / 'none' / 'answers.jsonl'):
    with pytest.raises(errors.UserError, match='cannot write'):
      inference.answer_file(lambda: None, questions, output)
  with pytest.raises(errors.UserError, match='the command reads it'):
    inference.answer_file(lambda: None, questions, questions)
  parts = tmp_path / 'answers.jsonl.parts'
  parts.mkdir()
  inner = _write(parts / 'mine.jsonl', LINES)
  for path in (questions, inner):
    with pytest.raises(errors.UserError, match="'mine.jsonl'"):
      inference.answer_file(lambda: None, path, tmp_path / 'answers.jsonl')
  assert [json.loads(x) for x in inner.read_text().splitlines()] == LINES
  assert sorted(os.listdir(tmp_path)) == [parts.name, 'questions.jsonl']


def _load_small(model_dir):
  return inference.PromptInDecoder.from_pretrained(model_dir)


def test_the_second_run_of_a_job_ends(model_dir, tmp_path):
  questions = _write(tmp_path / 'questions.jsonl', LINES)
  answers = tmp_path / 'answers.jsonl'
  (tmp_path / 'link.jsonl').symlink_to(answers)

  def load():
    for output in (answers, tmp_path / 'link.jsonl'):
      with pytest.raises(errors.UserError, match=f'in use .*pid {os.getpid()}'):
        inference.answer_file(lambda: None, questions, output)
    return _load_small(model_dir)

  assert inference.answer_file(load, questions, answers) == len(LINES)
  names = ['answers.jsonl', 'link.jsonl', 'questions.jsonl']
  assert sorted(os.listdir(tmp_path)) == names

  def fail():
    raise errors.UserError('no such model')

  with pytest.raises(errors.UserError, match='no such model'):
    inference.answer_file(fail, questions, answers)
  assert sorted(os.listdir(tmp_path)) == names


def test_what_answers_depend_on_is_what_a_job_is(model_dir):
  model = checkpoints.open_checkpoint(model_dir)
  read = lambda: {'vocabulary': model.read_vocabulary()}
  names = [
    predict_file.model_name(model, options)
    for options in (
      *({}, {'long_inputs': None}),
      *(read(), read()),
      {'long_inputs': 'keep_end'},
      {'layout': 'pie'},
    )
  ]
  assert names[0] == names[1] and names[2] == names[3]
  assert len(set(names)) == 4


def test_damaged_results_of_a_stopped_job_are_named(tmp_path):
  found = partial_results.PartialResults(
    tmp_path / 'out', seconds_between_writes=0.0
  )
  with found:
    found.open({'model': 'x'})
    found.add(0, (np.arange(3),))
    (file,) = (tmp_path / 'out.parts').glob('*.npz')
    content, named = file.read_bytes(), 0
    for place in range(len(content)):
      damaged = bytearray(content)
      damaged[place] ^= 129
      file.write_bytes(damaged)
      try:
        found.open({'model': 'x'})
      except errors.UserError as e:
        assert f'{file} is damaged' in str(e)
        named += 1
    assert named > len(content) / 2
    found.remove()
  assert not os.listdir(tmp_path)


@pytest.fixture(name='small_disk')
def _small_disk(tmp_path):
  """A file system of 64 kB, with room for 4 kB."""
  folder = tmp_path / 'disk'
  folder.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', str(folder)]
  if subprocess.run(mount, capture_output=True, check=False).returncode:
    pytest.skip('needs the right to mount')
  try:
    (folder / 'other').write_bytes(b'x' * (60 << 10))
    yield folder
  finally:
    subprocess.run(['umount', str(folder)], check=True)


def test_a_disk_that_fills(model_dir, small_disk, tmp_path):
  """Of predict, convert and report; each can be run again."""
  lines = [{**LINES[0], 'id': str(n)} for n in range(40)]
  questions = _write(tmp_path / 'questions.jsonl', lines)
  answers, target = small_disk / 'answers.jsonl', small_disk / 'model'
  page = small_disk / 'page.html'
  answered = _write(tmp_path / 'old.jsonl', lines)
  calls = {
    'predict': lambda: inference.answer_file(
      lambda: _load_small(model_dir), questions, answers
    ),
    'convert': lambda: checkpoints.convert(model_dir, target),
    'report': lambda: viewer.write_report(answered, page),
  }
  for line in lines:
    for subtask in line['subtasks']:
      subtask['prediction'] = 'ant'
  _write(answered, lines)
  for name, call in calls.items():
    with pytest.raises(errors.UserError, match='no space left') as e:
      call()
    assert str(small_disk) in str(e.value) and '\n' not in str(e.value)
    left = {*os.listdir(small_disk)} - {'other'}
    assert left <= ({'answers.jsonl.parts'} if name == 'predict' else set())
    subprocess.run(
      ['rm', '-r', *map(str, small_disk.glob('answers*'))], check=False
    )
  subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
  for call in calls.values():
    with pytest.raises(errors.UserError, match='read-only'):
      call()
  subprocess.run(
    ['mount', '-o', 'remount,rw,size=8m', str(small_disk)], check=True
  )
  for call in calls.values():
    call()
  names = ['answers.jsonl', 'model', 'other', 'page.html']
  assert sorted(os.listdir(small_disk)) == names


def test_in_a_bucket(model_dir, tmp_path, monkeypatch):
  """Questions, answers, configurations, predictions and pages."""
  local = _write(tmp_path / 'questions.jsonl', LINES)
  expected = tmp_path / 'expected.jsonl'
  inference.answer_file(lambda: _load_small(model_dir), local, expected)
  bucket = tmp_path / 'bucket'
  shutil.copytree(model_dir, bucket / 'model')
  # As orbax marks steps that are complete where renaming is not atomic.
  (bucket / 'model' / 'checkpoints' / '7' / 'commit_success.txt').touch()
  _write(bucket / 'questions.jsonl', LINES)
  monkeypatch.chdir(tmp_path)
  with buckets.fake(tmp_path, monkeypatch):
    name = 'gs://bucket/answers.jsonl'
    inference.answer_file(
      lambda: _load_small(model_dir), 'gs://bucket/questions.jsonl', name
    )
    with pytest.raises(errors.UserError, match='the command reads it'):
      inference.answer_file(lambda: None, name, name)
    summary = viewer.write_report(name, viewer.default_output(name))
    assert summary.num_examples == len(LINES)
    there = checkpoints.read_config('gs://bucket/model')
    assert there == checkpoints.read_config(model_dir)
    assert checkpoints.steps('gs://bucket/model') == [7]
    opened = native.read_vocabulary('gs://bucket/model', there)
    checkpoints.write_config(
      'gs://bucket/new/model',
      config=configs.T5_1_1,
      task=there['task'],
      vocabulary=opened,
    )
  assert (bucket / 'answers.jsonl').read_bytes() == expected.read_bytes()
  assert sorted(os.listdir(bucket)) == [
    *('answers.html', 'answers.jsonl', 'model', 'new', 'questions.jsonl'),
  ]
  assert sorted(os.listdir(bucket / 'new' / 'model')) == [
    *('config.json', 'vocabulary.model'),
  ]
  assert not (tmp_path / 'gs:').exists()
