# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The command data: what it prints, to the letter, and what it refuses."""

import argparse
import importlib
import pathlib
import pkgutil

import pytest
import seqio

from pid_jax import data
from pid_jax import errors
from pid_jax import tasks
from pid_jax.tasks import bookings
from pid_jax.tasks import jsonl

FIXTURES = pathlib.Path(__file__).parent / 'fixtures'


@pytest.fixture(autouse=True)
def state(monkeypatch):
  monkeypatch.setenv('PID_JAX_VOCABULARY', bookings.VOCABULARY_FILE)
  yield
  seqio.set_tfds_data_dir_override(None)


def _run(*argv):
  parser = argparse.ArgumentParser()
  data.add_flags(parser)
  data.main(parser.parse_args([str(arg) for arg in argv]))


def test_prepare(tmp_path, capsys):
  flags = (f'--manual_dir={FIXTURES / "todsum"}', f'--data_dir={tmp_path}')
  lengths = '--lengths=inputs=100,prompts=10,decoder=100'
  _run('prepare', 'todsum_domain', *flags, lengths)
  out = capsys.readouterr().out
  account, out = out.split('Lengths of', maxsplit=1)
  vocabulary, out = out.split('\ntokens', maxsplit=1)
  table, example = out.split('\n\n', maxsplit=1)
  assert (
    account
    == f"""\
todsum 1.0.0, prepared in {tmp_path}/todsum/1.0.0
from {FIXTURES}/todsum/todsum
licence: None is given by the authors.

                                                   train  validation        test
dialogues                                              2           3           2
  published                                        7,908         999         999
sentences                                              4          10           5
summaries of two sentences a domain                    2           2           0
pairs told by: first                                   2           3           1
pairs told by: second                                  -           1           -
pairs told by: left over                               -           1           -
pairs told by: alone                                   -           -           3
! train has 7,906 fewer dialogues than were published
! validation has 996 fewer dialogues than were published
! test has 997 fewer dialogues than were published

no file was missing
! 1 skipped of test (no summary): dialogue SNG9012.json of test.json

"""
  )
  assert vocabulary.split() == [
    *'todsum_domain, in pieces of'.split(),
    bookings.VOCABULARY_FILE,
    '(712)',
  ]
  assert (
    'tokens' + table
    == """\
tokens                       number     mean   95 %   most  length  longer
train, 2 examples
  inputs                          2     28.5     40     40     100       0
  prompts                         2     11.0     11     11      10       2
  targets                         2     35.0     36     36
  decoder, of a subtask           2     46.0     47     47     100       0
  decoder, of all subtasks        2     46.0     47     47     100       0
  subtasks                        2      1.0      1      1
  targets of _joint               2     35.0     36     36
validation, 3 examples
  inputs                          3     75.7    127    127     100       1
  prompts                         6     11.0     11     11      10       6
  targets                         6     30.0     57     57
  decoder, of a subtask           6     41.0     68     68     100       0
  decoder, of all subtasks        3     82.0    121    121     100       1
  subtasks                        3      2.0      2      2
  targets of _joint               3     60.0     99     99
test, 2 examples
  inputs                          2     28.5     35     35     100       0
  prompts                         3     11.0     11     11      10       3
  targets                         3     18.3     25     25
  decoder, of a subtask           3     29.3     36     36     100       0
  decoder, of all subtasks        2     44.0     55     55     100       0
  subtasks                        2      1.5      2      2
  targets of _joint               2     27.5     33     33
Examples with more prompts and targets than a decoder row holds are split; the
input of such an example is encoded once for each part.
A run would stop at what is longer in prompts; only inputs and
targets are cut."""
  )
  # The oldest turns are cut, for a prompt in front some more of them.
  assert (
    example
    == """\
Example MUL9001.json of validation

todsum_domain: one input, 2 prompts
  inputs, 100 tokens
    re. Where from? user: From York, and a cheap room near the station with
    parking. system: The Gables is cheap. Shall I book? user: For two nights and
    3 people, from monday. system: Booking completed! </s>
  train, 11 + 42 tokens
    summary of the train: => the user asks the duration of the train. this train
    departs from york and arrives at leeds on monday. </s>
  hotel, 11 + 57 tokens
    summary of the hotel: => the user asks if there is a hotel that can
    accommodate 3 people for 2 days, and he plans to stay on monday. the hotel
    is cheap and has parking. </s>

todsum_domain_pie: 2 text-to-text examples; the first
  inputs, 100 tokens
    summary of the train: user: From York, and a cheap room near the station
    with parking. system: The Gables is cheap. Shall I book? user: For two
    nights and 3 people, from monday. system: Booking completed! </s>
  targets, 42 tokens
    the user asks the duration of the train. this train departs from york and
    arrives at leeds on monday. </s>

todsum_domain_joint: 1 text-to-text example
  inputs, 100 tokens
    re. Where from? user: From York, and a cheap room near the station with
    parking. system: The Gables is cheap. Shall I book? user: For two nights and
    3 people, from monday. system: Booking completed! </s>
  targets, 99 tokens
    the user asks the duration of the train. this train departs from york and
    arrives at leeds on monday. <extra_id_98> the user asks if there is a hotel
    that can accommodate 3 people for 2 days, and he plans to stay on monday.
    the hotel is cheap and has parking. </s>

"""
  )

  _run('inspect', 'todsum_domain_pie', flags[1], '--split=test', '--num=2')
  out = capsys.readouterr().out
  assert 'Example MUL9011.json of test' in out
  assert 'Example SNG9013.json of test' in out
  assert max(map(len, out.splitlines())) <= 80


def test_inspect_needs_no_builder(capsys):
  _run('inspect', 'bookings_short', '--split=test', '--num=2')
  out = capsys.readouterr().out
  assert 'bookings_short: one input, 30 prompts\n' in out
  assert 'bookings_short_pie: 30 text-to-text examples; the first\n' in out
  assert out.count('\n  and 22 more\n') == 2
  # What is filled is shown before what is empty.
  for index, example in enumerate(
    bookings.examples('bookings_short', 'test', 1)
  ):
    shown = out.split('Example ')[1:][index : index + 1]
    for text in shown:
      for prompt, target in zip(
        example['prompts'], example['targets'], strict=True
      ):
        assert target == 'none' or f'{prompt} => {target} </s>' in text


def test_a_file_of_json_lines(capsys):
  flags = (jsonl.EXAMPLE_FILE, f'--vocabulary={bookings.VOCABULARY_FILE}')
  _run('prepare', *flags, '--lengths=inputs=10,decoder=60')
  out = capsys.readouterr().out
  assert out.startswith('example needs no preparing\n')
  assert (
    '  inputs                          3     59.7     73     73      10' in out
  )
  assert 'A run would stop at what is longer in decoder' in out
  # Its targets hold the separator; the prompts no room beside the input.
  assert 'targets of _joint' not in out
  assert 'example_joint is impossible: task example, example call-1' in out
  assert 'example_pie is impossible: task example, example call-1' in out
  assert max(len(x) for x in out.splitlines() if '/' not in x) <= 80


@pytest.mark.parametrize(
  'flags, message',
  [
    (['inspect', 'bookngs'], 'unknown task .*; did you mean bookings or'),
    (['inspect', 'no.jsonl'], "unknown task 'no.jsonl'"),
    (['inspect', 'bookings', '--split=dev'], "unknown split of bookings 'dev'"),
    (['inspect', 'bookings', '--lengths=inputs'], "feature length 'inputs'; w"),
    (['inspect', 'bookings', '--lengths=inputs=0'], 'write NAME=TOKENS'),
    (
      ['prepare', 'bookings', '--lengths=input=9'],
      "unknown feature length 'input'; did you mean inputs",
    ),
    (
      ['inspect', 'todsum_domain', '--data_dir=/nowhere'],
      'todsum_domain is not prepared in /nowhere: run `python -m pid_jax.data',
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


def test_an_example_too_many(tmp_path):
  (tmp_path / 'one.jsonl').write_text(
    '{"inputs": "a", "subtasks": [{"name": "b", "prompt": "c", "target": ""}]}'
  )
  with pytest.raises(errors.UserError, match='one has no example 1 in train'):
    _run('inspect', tmp_path / 'one.jsonl', '--num=2')


def test_every_task_has_its_home():
  for home in set(tasks.HOMES.values()):
    importlib.import_module(f'pid_jax.tasks.{home}')
  ours = {
    name
    for name in [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]
    if name in tasks.HOMES
  }
  assert ours == set(tasks.HOMES)
  registering = {
    module.name
    for module in pkgutil.iter_modules(tasks.__path__)
    if 'register(' in _source(module.name)
  }
  assert registering - set(tasks.HOMES.values()) == {'jsonl'}


def _source(name: str) -> str:
  folder = pathlib.Path(tasks.__file__).parent
  path = folder / f'{name}.py'
  return (path if path.exists() else folder / name / '__init__.py').read_text()
