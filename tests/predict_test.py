# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The predict command: files in, files out, and nothing half-written."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
import pytest
from toys import configs
from toys import vocabularies
from toys import weights

from pid_jax import checkpoints
from pid_jax import errors
from pid_jax import files
from pid_jax import inference
from pid_jax import vocabulary

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
  assert done.stdout == f'2 examples written to {answers}\n'
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
  questions = _write(tmp_path / 'questions.jsonl', LINES)
  for output in (tmp_path, tmp_path / 'none' / 'answers.jsonl'):
    with pytest.raises(errors.UserError, match='cannot write'):
      inference.answer_file(lambda: None, questions, output)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
  """The scratch file goes, what was there before stays."""
  answers = tmp_path / 'answers.jsonl'
  answers.write_text('from before')

  def full(*unused_args, **unused_kwargs):
    raise OSError(28, 'No space left on device')

  # The scratch file is written by then.
  monkeypatch.setattr(os, 'replace', full)
  with pytest.raises(errors.UserError, match='answers.jsonl: No space left'):
    files.write(answers, b'new')
  assert os.listdir(tmp_path) == ['answers.jsonl']
  assert answers.read_text() == 'from before'
