# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times contenders in turns, so that a busy machine slows all alike.

Round robin: every contender runs once in each round, after one round that is
not counted (it compiles, and fills allocators). The machine's speed is probed
before and after each turn. A round is steady when its probes agree; contenders
are compared within rounds, and where there are enough steady ones, within those
alone. Rounds are chosen by the probes, never by the times.
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

# Product rates within one steady round differ by at most this factor. Speeds
# of a machine that changes are well above (2 was seen); noise is well below.
STEADY = 1.25
_ENOUGH = 2


@dataclasses.dataclass
class Round:
  """One turn of each contender.

  Attributes:
    seconds: by contender.
    speeds: probes, before the first turn and after each.
  """

  seconds: dict[str, float]
  speeds: list[machine.Speed]

  @property
  def flop_rate(self) -> float:
    return statistics.median(s.flop_rate for s in self.speeds)

  @property
  def bandwidth(self) -> float:
    return statistics.median(s.bandwidth for s in self.speeds)

  @property
  def is_steady(self) -> bool:
    rates = [s.flop_rate for s in self.speeds]
    return max(rates) <= STEADY * min(rates)


@dataclasses.dataclass
class Timings:
  """All rounds, and what every contender returned in the first.

  Attributes:
    rounds: in their order.
    outputs: by contender.
  """

  rounds: list[Round]
  outputs: dict[str, Any]

  @property
  def are_steady(self) -> bool:
    """Whether there are enough steady rounds, and `counted` are those."""
    return sum(r.is_steady for r in self.rounds) >= min(
      _ENOUGH, len(self.rounds)
    )

  @property
  def counted(self) -> list[Round]:
    """The steady rounds, or all where there are too few of them."""
    if not self.are_steady:
      return self.rounds
    return [r for r in self.rounds if r.is_steady]

  def seconds(self, name: str) -> list[float]:
    """Seconds of a contender in the rounds that count."""
    return [r.seconds[name] for r in self.counted]

  def ratios(self, name: str, reference: str) -> list[float]:
    """How much longer than the reference it took, round by round."""
    return [r.seconds[name] / r.seconds[reference] for r in self.counted]


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
    probe: measures the machine's speed.
    num_rounds: steady rounds that are wanted.
    budget: seconds after which no further round begins; two are run anyhow.
    clock: in seconds.
    sleep: pauses.

  Returns:
    Timings.
  """
  start = clock()
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
    if sum(r.is_steady for r in rounds) >= num_rounds:
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
