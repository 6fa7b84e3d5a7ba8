# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Progress: a bar on a terminal, plain lines now and then elsewhere."""

import io

from clu import metric_writers

from pid_jax import progress
from pid_jax.trainer import reporting


class _Unfinished:
  """A value that must not be read before it is shown."""

  def __float__(self):
    raise AssertionError('read too early')


class _Terminal(io.StringIO):
  def isatty(self):
    return True


def test_plain_lines_come_now_and_then_and_at_the_end():
  now = [0.0]
  stream = io.StringIO()
  with progress.Progress(
    30, label='train', start=10, stream=stream, clock=lambda: now[0]
  ) as bar:
    for step in range(11, 31):
      now[0] += 1.5
      bar.update(
        step, {'loss': 1 / step if step in (24, 30) else _Unfinished()}
      )
  assert stream.getvalue() == (
    'train 24/30 steps (0.6667/s, 00:09 left) loss 0.04167\n'
    'train 30/30 steps (0.6667/s) loss 0.03333\n'
  )


def test_time_left_is_without_what_came_before_the_clock():
  now = [0.0]
  stream = io.StringIO()
  with progress.Progress(
    101, label='train', stream=stream, clock=lambda: now[0]
  ) as bar:
    now[0] = 19.0  # Compiles.
    bar.update(1)
    bar.restart_clock()
    now[0] = 21.0
    bar.update(2)  # Two seconds a step, 99 steps.
    bar.update(101)
  assert stream.getvalue().splitlines()[0] == (
    'train 2/101 steps (0.5/s, 03:18 left)'
  )


def test_nothing_is_shown_when_disabled():
  stream = io.StringIO()
  with progress.Progress(
    3, label='train', enabled=False, stream=stream, seconds_between_lines=0
  ) as bar:
    bar.update(3, {'loss': _Unfinished()})
  assert stream.getvalue() == ''


def test_terminal_gets_a_bar_that_ends_complete():
  stream = _Terminal()
  with progress.Progress(4, label='predict', unit='line', stream=stream) as bar:
    for step in range(1, 5):
      bar.update(step, {'loss': 0.5})
  last = stream.getvalue().split('\r')[-1]
  assert 'predict' in last and '4/4' in last and 'loss 0.5' in last


def test_lines_that_cannot_be_written_stop_nothing():
  with open('/dev/full', 'wb', buffering=0) as full:
    stream = io.TextIOWrapper(full, write_through=True)
    with progress.Progress(1, label='train', stream=stream) as bar:
      bar.update(1)
    progress.write_line('error: no space', stream)
    stream.detach()


def test_unknown_total():
  stream = io.StringIO()
  with progress.Progress(None, label='read', stream=stream) as bar:
    bar.update(7)
  assert stream.getvalue().startswith('read 7 steps (')


def test_an_evaluation_is_shown_in_a_line_for_each_task(caplog):
  caplog.set_level('INFO', logger='pid_jax.trainer')
  values = {
    't/missing_predictions': 16620.0,
    't/surplus_predictions': 0.0,
    't/f1': 0.123456,
    't/right': 1.0,
    'u/f1': 0.0,
    'u/inputs_truncated': 0.0,
  }
  reporting.write_evaluation(metric_writers.MultiWriter([]), 7, values)
  assert caplog.messages == [
    'step 7: t: missing_predictions 16620, f1 0.1235, right 1',
    'step 7: u: f1 0',
  ]
