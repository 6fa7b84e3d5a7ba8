# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The command data: the figures and texts that it prints, and its errors."""

import argparse
import pathlib

import pytest
import seqio
from toys import tasks_data
from toys import vocabularies

from pid_jax import data
from pid_jax import errors
from pid_jax.tasks import bookings
from pid_jax.tasks import jsonl


@pytest.fixture(autouse=True)
def _state(monkeypatch):
  monkeypatch.setenv('PID_JAX_VOCABULARY', bookings.VOCABULARY_FILE)
  yield
  seqio.set_tfds_data_dir_override(None)


def _parse(*argv):
  parser = argparse.ArgumentParser()
  data.add_flags(parser)
  return parser.parse_args([str(arg) for arg in argv])


def _run(*argv):
  data.main(_parse(*argv))


def _table(text):
  """Rows of numbers: 'split/label' -> cells."""
  rows, split = {}, ''
  for line in text.splitlines():
    if line.endswith(' examples') and not line.startswith(' '):
      split = line.partition(',')[0]
    elif line.startswith('  ') and split and line[2] != ' ':
      label, cells = line[:26].strip(), line[26:].split()
      if cells and all(c.replace('.', '').isdigit() for c in cells):
        rows[f'{split}/{label}'] = cells
  return rows


def test_prepare(tmp_path, capsys):
  folder = tasks_data.FIXTURES / 'todsum'
  flags = (f'--manual_dir={folder}', f'--data_dir={tmp_path}')
  lengths = '--lengths=inputs=100,prompts=10,decoder=100'
  _run('prepare', 'todsum_domain', *flags, lengths)
  out = capsys.readouterr().out
  assert f'{tmp_path}/todsum/1.0.0' in out and f'{folder}/todsum' in out
  counts = [line.split() for line in out.splitlines()]
  assert ['dialogues', '2', '3', '2'] in counts
  assert ['published', '7,908', '999', '999'] in counts
  # Lines are wrapped where the path makes them long.
  assert f'{bookings.VOCABULARY_FILE} (712)' in ' '.join(out.split())
  assert _table(out) == {
    'train/inputs': ['2', '28.5', '40', '40', '100', '0'],
    'train/prompts': ['2', '11.0', '11', '11', '10', '2'],
    'train/targets': ['2', '35.0', '36', '36'],
    'train/decoder, one subtask': ['2', '46.0', '47', '47', '100', '0'],
    'train/decoder, all subtasks': ['2', '46.0', '47', '47', '100', '0'],
    'train/subtasks': ['2', '1.0', '1', '1'],
    'train/targets of _joint': ['2', '35.0', '36', '36'],
    'validation/inputs': ['3', '75.7', '127', '127', '100', '1'],
    'validation/prompts': ['6', '11.0', '11', '11', '10', '6'],
    'validation/targets': ['6', '30.0', '57', '57'],
    'validation/decoder, one subtask': ['6', '41.0', '68', '68', '100', '0'],
    'validation/decoder, all subtasks': ['3', '82.0', '121', '121', '100', '1'],
    'validation/subtasks': ['3', '2.0', '2', '2'],
    'validation/targets of _joint': ['3', '60.0', '99', '99'],
    'test/inputs': ['2', '28.5', '35', '35', '100', '0'],
    'test/prompts': ['3', '11.0', '11', '11', '10', '3'],
    'test/targets': ['3', '18.3', '25', '25'],
    'test/decoder, one subtask': ['3', '29.3', '36', '36', '100', '0'],
    'test/decoder, all subtasks': ['2', '44.0', '55', '55', '100', '0'],
    'test/subtasks': ['2', '1.5', '2', '2'],
    'test/targets of _joint': ['2', '27.5', '33', '33'],
  }

  # The example: its oldest turns are truncated, with a prompt some more.
  example = out[out.index('Example MUL9001.json of validation') :]
  pid, pie, joint = example.split('\n\n')[1:4]
  for text, name, tokens, begin in (
    (pid, 'todsum_domain:', 'inputs, 100 tokens', 're. Where from?'),
    (pie, 'todsum_domain_pie:', 'inputs, 100 tokens', 'summary of the train:'),
    (joint, 'todsum_domain_joint:', 'targets, 99 tokens', 're. Where from?'),
  ):
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0].startswith(name) and tokens in lines
    assert lines[lines.index('inputs, 100 tokens') + 1].startswith(begin)
    assert text.endswith('</s>')
  words = ' '.join(joint.split())
  assert 'leeds on monday. <extra_id_98> the user asks' in words
  assert 'summary of the hotel: => the user asks' in ' '.join(pid.split())

  _run('inspect', 'todsum_domain_pie', flags[1], '--split=test', '--num=2')
  out = capsys.readouterr().out
  assert 'Example MUL9011.json of test' in out
  assert 'Example SNG9013.json of test' in out
  assert max(map(len, out.splitlines())) <= 80


def test_a_folder_with_the_name_of_a_task(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'sgd').mkdir()  # As the distributor names it.
  data.check(_parse('prepare', 'sgd', '--manual_dir=sgd'))
  for name in ('sgd/', 'none.json', 'none.jsonl', './none'):
    with pytest.raises(errors.UserError, match='cannot read TASK'):
      data.check(_parse('inspect', name))


def test_inspect_needs_no_builder(capsys):
  _run('inspect', 'bookings_short', '--split=test')
  out = capsys.readouterr().out
  assert 'bookings_short: one input, 30 prompts\n' in out
  assert 'bookings_short_pie: 30 text-to-text examples; the first\n' in out
  assert out.count('\n  and 22 more\n') == 1
  # Filled slots are shown before empty ones.
  example = next(bookings.examples('bookings_short', 'test', 1))
  for prompt, target in zip(
    example['prompts'], example['targets'], strict=True
  ):
    assert target == 'none' or f'{prompt} => {target} </s>' in out


def test_a_file_of_json_lines(capsys):
  flags = (jsonl.EXAMPLE_FILE, f'--vocabulary={bookings.VOCABULARY_FILE}')
  _run('prepare', *flags, '--lengths=inputs=10,decoder=60')
  out = capsys.readouterr().out
  table = _table(out)
  assert table['train/inputs'] == ['3', '59.7', '73', '73', '10', '3']
  # The prompts leave no room for the input.
  assert table['train/targets of _joint'][0] == '3'
  assert 'example_joint: 1 text-to-text example' in out
  assert 'example_pie is impossible: task example, example call-1' in out
  assert max(len(x) for x in out.splitlines() if '/' not in x) <= 80
  with pytest.raises(errors.UserError, match='example has no example 3'):
    _run('inspect', *flags, '--num=4')


def test_layouts_that_a_vocabulary_cannot_write_are_left_out(tmp_path, capsys):
  path = tmp_path / 'unwritable.jsonl'
  path.write_bytes(pathlib.Path(jsonl.EXAMPLE_FILE).read_bytes())
  flags = (path, f'--vocabulary={vocabularies.words("a", "b")}')
  for action in ('prepare', 'inspect'):
    _run(action, *flags)
    out = ' '.join(capsys.readouterr().out.split())
    assert 'unwritable_joint is impossible: the vocabulary cannot' in out
    assert 'joint_separator' in out
    assert 'unwritable: one input, 4 prompts' in out
    assert 'unwritable_pie: 4 text-to-text examples' in out


def test_a_file_without_a_vocabulary_names_the_flag(monkeypatch):
  monkeypatch.setenv('PID_JAX_VOCABULARY', '/no/such.model')
  with pytest.raises(errors.UserError, match='such.model.* --vocabulary'):
    _run('inspect', jsonl.EXAMPLE_FILE)


@pytest.mark.parametrize(
  'flags, message',
  [
    (['inspect', 'bookngs'], "unknown task 'bookngs'; did you mean bookings"),
    (['inspect', 'no.jsonl'], 'cannot read the examples no.jsonl: no such'),
    (['inspect', 'bookings', '--lengths=inptus=9'], 'did you mean inputs'),
    (
      ['inspect', 'bookings', f'--vocabulary={bookings.VOCABULARY_FILE}'],
      'a vocabulary of its own',
    ),
    (['inspect', 'bookings', '--vocabulary=no.model'], 'no.model: no such'),
    (['inspect', 'bookings', '--split=dev'], "unknown split of bookings 'dev'"),
    (
      ['prepare', 'bookings', '--lengths=input=9'],
      "unknown feature length 'input'; did you mean inputs",
    ),
    (
      ['inspect', 'todsum_domain', '--data_dir=/nowhere'],
      'todsum_domain is not prepared in /nowhere',
    ),
    (
      ['prepare', 'todsum_domain', '--manual_dir=/nowhere'],
      '--manual_dir=/nowhere is missing',
    ),
  ],
)
def test_mistakes(flags, message):
  with pytest.raises(errors.UserError, match=message):
    _run(*flags)
