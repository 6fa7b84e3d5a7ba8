# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Signals end commands in time, in one line, and leave nothing behind."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import fuzz_harness
import pytest

_CHILD = pathlib.Path(__file__).parent / 'interrupted_child.py'
_SECONDS = 5.0
_WORDS = {signal.SIGINT: 'interrupted\n', signal.SIGTERM: 'terminated\n'}
_ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': ''}


def _start(*command, **options) -> subprocess.Popen:
  return subprocess.Popen(
    [sys.executable, *map(str, command)],
    env={**os.environ, **_ENVIRONMENT},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    **options,
  )


def _end(process: subprocess.Popen, number: int) -> tuple[int, str, float]:
  """Sends a signal; returns status, standard error and seconds it took."""
  began = time.monotonic()
  process.send_signal(number)
  try:
    _, err = process.communicate(timeout=60)
  except subprocess.TimeoutExpired:
    process.kill()
    raise
  return process.returncode, err, time.monotonic() - began


@pytest.mark.parametrize(
  'scenario, number',
  [
    ('tidy', signal.SIGINT),
    ('tidy', signal.SIGTERM),
    ('callback', signal.SIGINT),
    ('compute', signal.SIGTERM),
    ('swallow', signal.SIGINT),
    ('run', signal.SIGTERM),
    ('import', signal.SIGINT),
  ],
)
def test_signal_ends_it(scenario, number, tmp_path):
  file = tmp_path / 'scratch.py'
  process = _start(_CHILD, scenario, file)
  assert process.stdout.readline() == 'ready\n'
  time.sleep(0.2)
  status, err, seconds = _end(process, number)
  assert (status, err) == (128 + number, _WORDS[number])
  assert seconds < _SECONDS
  assert scenario != 'tidy' or not file.exists()


def test_a_child_gets_the_signal_and_its_status_is_returned(tmp_path):
  process = _start(_CHILD, 'child', tmp_path / 'x')
  lines = [process.stdout.readline() for _ in range(2)]
  assert lines == ['ready\n', 'ready\n']
  status, err, seconds = _end(process, signal.SIGTERM)
  assert status == 128 + signal.SIGTERM and seconds < _SECONDS
  assert not err  # It is not this process that ends by the signal.


def test_signals_that_are_ignored_stay_so(tmp_path):
  process = _start(
    '-c',
    'import signal, os, sys; signal.signal(signal.SIGINT, signal.SIG_IGN);'
    'os.execv(sys.executable, [sys.executable, *sys.argv[1:]])',
    *(_CHILD, 'tidy', tmp_path / 'x'),
  )
  assert process.stdout.readline() == 'ready\n'
  process.send_signal(signal.SIGINT)
  time.sleep(0.3)
  assert process.poll() is None
  assert _end(process, signal.SIGTERM)[0] == 128 + signal.SIGTERM


def test_from_the_first_line_on():
  """While a command imports what it needs."""
  delays = random.Random(0)
  for i in range(4):
    # Python's own start, which cannot be helped, is over when the package has
    # imported something after its first line.
    process = _start('-X', 'importtime', '-m', 'pid_jax.predict', '--help')
    for line in process.stderr:
      if ' etils' in line:
        break
    time.sleep(0.02 * delays.random())
    number = (signal.SIGINT, signal.SIGTERM)[i % 2]
    status, err, _ = _end(process, number)
    assert 'Traceback' not in err
    assert status in (0, 128 + number)


@pytest.fixture(scope='module', name='work')
def _work(tmp_path_factory):
  """The folder of fuzz_harness, with more lines to answer."""
  parent = tmp_path_factory.mktemp('interrupts')
  folder = parent / 'work'
  shutil.copytree(fuzz_harness.template(parent), folder)
  line = json.dumps({**fuzz_harness.QUESTIONS[0], 'id': None})
  (folder / 'data.jsonl').write_text(
    ''.join(line.replace('null', f'"{i}"') + '\n' for i in range(64))
  )
  return folder


# Each with its outputs, and how many files these have when complete.
_COMMANDS = {
  'predict': (
    '--model_dir=model --input=data.jsonl --output=out --scores --batch_size=4'
  ),
  'convert': 'model out --to=hugging_face',
  'report': 'answers.jsonl --output=out',
  'data': 'inspect data.jsonl --vocabulary=spiece.model',
  'train': (
    '--gin_file=runs/jsonl.gin --gin.TRAIN_FILE="data.jsonl" '
    '--gin.VALIDATION_FILE="data.jsonl" --gin.VOCABULARY="spiece.model" '
    '--gin.MODEL_DIR="out" --gin.TRAIN_STEPS=30 --gin.CHECKPOINT_PERIOD=5 '
    '--gin.EVAL_PERIOD=30'
  ),
}


def _clean(folder: pathlib.Path) -> None:
  for path in folder.glob('out*'):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _command(name: str) -> list[str]:
  return ['-m', f'pid_jax.{name}', *_COMMANDS[name].split()]


def _time(name: str, folder: pathlib.Path) -> float:
  began = time.monotonic()
  done = _start(*_command(name), cwd=folder)
  _, err = done.communicate()
  assert done.returncode == 0, err
  return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, count',
  [
    ('predict', 50),
    ('convert', 10),
    ('report', 10),
    ('data', 10),
    ('train', 10),
  ],
)
def test_interrupted_at_random_moments(name, count, work):
  _clean(work)
  longest = _time(name, work)
  delays = random.Random(name)
  hit = 0
  while hit < count:
    _clean(work)
    before = fuzz_harness.snapshot(work)
    process = _start(*_command(name), cwd=work)
    time.sleep(0.1 + longest * delays.random())
    number = delays.choice([signal.SIGINT, signal.SIGTERM])
    if process.poll() is not None:
      process.communicate()
      continue
    hit += 1
    status, err, seconds = _end(process, number)
    assert status == 128 + number, err
    assert seconds < _SECONDS or name == 'train'
    assert 'Traceback' not in err and 'Exception' not in err
    if name != 'train':  # It says how it stops, and that it has saved.
      assert err.endswith(_WORDS[number])
      after = fuzz_harness.snapshot(work)
      known = {str(work / 'out'), str(work / 'out.parts')}
      new = {p for p in after if before.get(p) != after[p]}
      assert not {p for p in new if not any(p.startswith(k) for k in known)}


@pytest.mark.slow
@pytest.mark.parametrize('name', ['predict', 'convert', 'report', 'train'])
def test_killed_at_random_moments(name, work):
  """The same command again gives what it would have given."""
  _clean(work)
  longest = _time(name, work)
  expected = _content(work / 'out')
  delays = random.Random(name)
  for _ in range(20):
    _clean(work)
    process = _start(*_command(name), cwd=work)
    time.sleep(0.1 + longest * delays.random())
    process.kill()
    process.communicate()
    # It was done, perhaps; convert replaces no folder that is complete.
    if name != 'convert' or not (work / 'out').exists():
      _time(name, work)
    assert _content(work / 'out') == expected
    assert sorted(p.name for p in work.glob('out*')) == ['out']


def _content(path: pathlib.Path) -> object:
  """Returns what must be equal: files, or the weights and steps of a run."""
  if path.is_file():
    return path.read_bytes()
  if not (path / 'checkpoints').is_dir():
    return {p.name: p.read_bytes() for p in path.iterdir()}
  from pid_jax import checkpoints

  params = checkpoints.load(path).params
  import jax

  leaves = jax.tree.map(lambda x: x.tobytes(), params)
  return checkpoints.steps(path)[-1], leaves
