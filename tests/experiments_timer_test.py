# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contenders take turns, and a machine that changes its speed is noticed.

No test looks at a duration.
"""

import itertools
from unittest import mock

import pytest

from pid_jax.experiments import machine
from pid_jax.experiments import timer

STEADY = timer.Speed(1e9, 1e9)


class Clock:
  """Time that passes only when a contender works."""

  def __init__(self):
    self.now = 0.0
    self.log = []

  def __call__(self):
    return self.now

  def contender(self, name, seconds):
    def run():
      self.now += seconds
      self.log.append(name)
      return name.upper()

    return run


def _interleave(clock, probe, num_rounds=3, budget=1000.0, least=0.0):
  contenders = {
    'fast': clock.contender('fast', 2.0),
    'slow': clock.contender('slow', 6.0),
  }
  return timer.interleave(
    contenders, probe, num_rounds=num_rounds, budget=budget, least=least,
    clock=clock, sleep=lambda seconds: None,
  )  # fmt: skip


def test_contenders_take_turns_after_a_warm_up():
  clock = Clock()
  timings = _interleave(clock, lambda: STEADY)
  assert clock.log == ['fast', 'slow'] + ['fast', 'slow', 'fast'] * 3
  assert timings.seconds('slow') == [6.0] * 3
  assert timings.ratios('slow') == [3.0] * 3
  assert timings.outputs == {'fast': 'FAST', 'slow': 'SLOW'}


def test_short_turns_are_repeated():
  clock = Clock()
  timings = _interleave(clock, lambda: STEADY, num_rounds=2, least=5.0)
  # Of 2 seconds three times, of 6 seconds once.
  turns = [*['fast'] * 3, 'slow', *['fast'] * 3]
  assert clock.log == ['fast', 'slow'] + turns * 2
  assert timings.seconds('fast')[0] == 2.0
  assert timings.ratios('slow') == [3.0] * 2


def test_the_reference_has_a_turn_between_any_two_others():
  clock = Clock()
  names = 'rabc'
  contenders = {n: clock.contender(n, 1.0 + i) for i, n in enumerate(names)}
  timer.interleave(
    contenders, lambda: STEADY, num_rounds=1, budget=9.0,
    clock=clock, sleep=lambda seconds: None,
  )  # fmt: skip
  assert ''.join(clock.log) == 'rabc' + 'rarbrcr'


def test_a_contender_is_compared_with_its_neighbours():
  turn = lambda name, seconds: timer.Turn(name, seconds, STEADY, STEADY)
  turns = [turn('r', 1.0), turn('a', 6.0), turn('r', 3.0), turn('b', 10.0),
           turn('r', 2.0)]  # fmt: skip
  timings = timer.Timings([turns], {})
  assert timings.ratios('a') == [3.0]
  assert timings.ratios('b') == [4.0]
  assert timings.seconds('r') == [1.0, 3.0, 2.0]


def test_rounds_end_with_the_budget_but_not_before_two():
  clock = Clock()
  assert len(_interleave(clock, lambda: STEADY, 9, budget=1.0).rounds) == 2
  clock = Clock()
  # The warm-up takes 8 s, a round 10 s: the fourth would end at 48 s.
  assert len(_interleave(clock, lambda: STEADY, 9, budget=45.0).rounds) == 3


def test_comparisons_in_which_the_machine_changed_its_speed_do_not_count():
  # One probe to begin with, then three a round; the second round is disturbed.
  rates = [4, 4, 4, 4, 4, 2, 4, 4, 4, 4, 4, 4, 4]
  speeds = iter([timer.Speed(rate, 1.0) for rate in rates])
  timings = _interleave(Clock(), lambda: next(speeds))
  assert len(timings.rounds) == 4
  assert timings.is_steady('slow')
  assert len(timings.ratios('slow')) == 3
  assert len(timings.seconds('fast')) == 7  # Of 8 turns: around one it changed.
  assert timings.rounds[1][1].speed.flop_rate == 3.0


def test_a_machine_that_never_holds_still_is_reported():
  rates = itertools.cycle([4, 2])
  timings = _interleave(
    Clock(), lambda: timer.Speed(next(rates), 1.0), budget=50.0
  )
  assert not timings.is_steady('slow')
  assert len(timings.ratios('slow')) == len(timings.rounds)


def test_spread():
  assert timer.spread([4.0, 1.0, 3.0, 2.0, 5.0]) == {
    'min': 1.0,
    'quartile_1': 2.0,
    'median': 3.0,
    'quartile_3': 4.0,
    'num': 5,
  }
  assert timer.spread([2.0])['quartile_3'] == 2.0


def test_a_slow_library_is_measured_as_far_as_time_allows(capsys):
  """1e9 operations a second, of which a row needs 67 million."""
  now = [0.0]
  rows = []

  def multiply(x):
    rows.append(x[0])
    now[0] += x[0] * 2 * 512 * 1024 * 64 / 1e9

  def median(run, repeats):
    before = now[0]
    for _ in range(repeats):
      run()
    return (now[0] - before) / repeats

  with mock.patch.object(timer, 'median_seconds', median):
    rates = machine._gflops_by_rows(
      'Slow', multiply, lambda shape: shape, lambda: now[0]
    )
  assert rates == {'1': pytest.approx(1.0), '6': pytest.approx(1.0)}
  assert set(rows) == {1, 6} and now[0] < 4
  assert '30, 240' in capsys.readouterr().out
