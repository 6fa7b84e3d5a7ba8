# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times contenders in turns, so that a busy machine slows all alike.

Round robin: every contender runs once in each round, after one round that is
not counted (it compiles, and fills allocators). The machine's speed is probed
before and after each turn. Contenders are compared within rounds, and where
there are enough, within those alone whose probes around both turns agree.
Rounds are chosen by the probes, never by the times.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
import statistics
import time
from typing import Any

from pid_jax.benchmarks import machine

# Threads of other libraries spin for a while when their work is done.
PAUSE = 0.25

# Product rates around turns that are compared differ by at most this factor. A
# machine that changes its speed is well above (2 was seen), noise well below.
STEADY = 1.25
_ENOUGH = 2


@dataclasses.dataclass(frozen=True)
class Round:
  """One turn of each contender.

  Attributes:
    seconds: by contender, in the order of their turns.
    speeds: probes, before the first turn and after each.
  """

  seconds: dict[str, float]
  speeds: list[machine.Speed]

  def speed(self, name: str) -> machine.Speed:
    """The mean of the probes before and after a contender's turn."""
    before, after = self._around(name)
    return machine.Speed(
      (before.flop_rate + after.flop_rate) / 2,
      (before.bandwidth + after.bandwidth) / 2,
    )

  def is_steady(self, *names: str) -> bool:
    """Whether the probes around the turns of these contenders agree."""
    rates = [s.flop_rate for name in names for s in self._around(name)]
    return max(rates) <= STEADY * min(rates)

  def _around(self, name: str) -> list[machine.Speed]:
    turn = list(self.seconds).index(name)
    return self.speeds[turn : turn + 2]


@dataclasses.dataclass(frozen=True)
class Timings:
  """All rounds, and what every contender returned in the first.

  Attributes:
    rounds: in their order.
    outputs: by contender.
  """

  rounds: list[Round]
  outputs: dict[str, Any]

  def are_steady(self, *names: str) -> bool:
    """Whether there are enough rounds in which these can be compared."""
    return sum(r.is_steady(*names) for r in self.rounds) >= _ENOUGH

  def counted(self, *names: str) -> list[Round]:
    """Rounds that compare these: steady ones, or all if too few are steady."""
    if not self.are_steady(*names):
      return self.rounds
    return [r for r in self.rounds if r.is_steady(*names)]

  def seconds(self, name: str) -> list[float]:
    """Seconds of a contender."""
    return [r.seconds[name] for r in self.counted(name)]

  def ratios(self, name: str, reference: str) -> list[float]:
    """How much longer than the reference it took, round by round."""
    return [
      r.seconds[name] / r.seconds[reference]
      for r in self.counted(name, reference)
    ]


def interleave(
  contenders: Mapping[str, Callable[[], Any]],
  probe: Callable[[], machine.Speed],
  *,
  num_rounds: int,
  budget: float,
  clock: Callable[[], float] = time.perf_counter,
  sleep: Callable[[float], None] = time.sleep,
) -> Timings:
  """Runs all contenders in turns.

  Args:
    contenders: by name; each runs its job to the end, and returns its output.
      The first is what the others are compared with.
    probe: measures the machine's speed.
    num_rounds: steady rounds that are wanted of each.
    budget: seconds after which no further round begins; two are run anyhow.
    clock: in seconds.
    sleep: pauses.

  Returns:
    Timings.
  """
  start = clock()
  reference = next(iter(contenders))
  outputs = {name: run() for name, run in contenders.items()}
  rounds = []
  while True:
    seconds, speeds = {}, [probe()]
    for name, run in contenders.items():
      sleep(PAUSE)
      before = clock()
      run()
      seconds[name] = clock() - before
      sleep(PAUSE)
      speeds.append(probe())
    rounds.append(Round(seconds, speeds))
    numbers = [
      sum(r.is_steady(name, reference) for r in rounds) for name in contenders
    ]
    if min(numbers) >= num_rounds:
      break
    one_more = (clock() - start) / (len(rounds) + 1)
    if len(rounds) >= _ENOUGH and clock() - start + one_more > budget:
      break
  return Timings(rounds, outputs)


def spread(values: list[float]) -> dict[str, float]:
  """Returns minimum, quartiles, median and number of values, as JSON types."""
  low, middle, high = values[0], values[0], values[0]
  if len(values) > 1:
    low, middle, high = statistics.quantiles(values, n=4, method='inclusive')
  return {
    'min': min(values),
    'quartile_1': low,
    'median': middle,
    'quartile_3': high,
    'num': len(values),
  }
