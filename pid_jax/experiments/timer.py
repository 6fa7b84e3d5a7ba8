# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Times contenders in turns, so that a busy machine slows all of them.

Round robin, with a turn of the reference between any two others, after one
round that is not counted (it compiles, and fills allocators). A contender is
compared with the turns of the reference right before and right after it.
The machine's speed is probed between turns; where there are enough, only those
comparisons count around which the probes agree. They are chosen by the probes,
never by the times.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Mapping
import dataclasses
import statistics
import time
from typing import Any

# Threads of other libraries spin for a while when their work is done.
PAUSE = 0.25

# Product rates around a comparison differ by at most this factor. A machine
# that changes its speed is well above (2 was seen), noise well below.
STEADY = 1.25
_ENOUGH = 2


@dataclasses.dataclass(frozen=True)
class Speed:
  """What a probe of the machine measured.

  Attributes:
    flop_rate: FLOP/s of a float32 matrix product.
    bandwidth: bytes/s of reading memory.
  """

  flop_rate: float
  bandwidth: float


@dataclasses.dataclass(frozen=True)
class Turn:
  """One run of one contender.

  Attributes:
    name: of the contender.
    seconds: that it took.
    before: probe before it.
    after: probe after it.
  """

  name: str
  seconds: float
  before: Speed
  after: Speed

  @property
  def speed(self) -> Speed:
    """The mean of both probes."""
    return Speed(
      (self.before.flop_rate + self.after.flop_rate) / 2,
      (self.before.bandwidth + self.after.bandwidth) / 2,
    )


@dataclasses.dataclass(frozen=True)
class Timings:
  """All turns, and what every contender returned in the first.

  Attributes:
    rounds: the turns of each round: every other one is of the reference, the
      first and the last too.
    outputs: by contender.
  """

  rounds: list[list[Turn]]
  outputs: dict[str, Any]

  @property
  def reference(self) -> str:
    return self.rounds[0][0].name

  def is_steady(self, name: str) -> bool:
    """Whether enough comparisons with a contender (or turns) are steady."""
    return sum(map(_is_steady, self._windows(name))) >= _ENOUGH

  def num_steady(self, names: Iterable[str]) -> int:
    """Steady comparisons of that contender which has the fewest."""
    return min(sum(map(_is_steady, self._windows(name))) for name in names)

  def turns(self, name: str) -> list[Turn]:
    """The turns of a contender that count."""
    return [window[len(window) // 2] for window in self._counted(name)]

  def seconds(self, name: str) -> list[float]:
    """Seconds of a contender."""
    return [turn.seconds for turn in self.turns(name)]

  def ratios(self, name: str) -> list[float]:
    """How many times as long as the reference a contender took."""
    if name == self.reference:
      return [1.0] * len(self._counted(name))
    return [
      2 * turn.seconds / (before.seconds + after.seconds)
      for before, turn, after in self._counted(name)
    ]

  def _windows(self, name: str) -> list[list[Turn]]:
    """A contender's turns with their neighbours; of the reference, alone."""
    reach = 0 if name == self.reference else 1
    return [
      turns[i - reach : i + reach + 1]
      for turns in self.rounds
      for i, turn in enumerate(turns)
      if turn.name == name
    ]

  def _counted(self, name: str) -> list[list[Turn]]:
    windows = self._windows(name)
    if not self.is_steady(name):
      return windows
    return [window for window in windows if _is_steady(window)]


def _is_steady(window: list[Turn]) -> bool:
  """Whether the probes around these turns agree."""
  rates = [s.flop_rate for turn in window for s in (turn.before, turn.after)]
  return max(rates) <= STEADY * min(rates)


def interleave(
  contenders: Mapping[str, Callable[[], Any]],
  probe: Callable[[], Speed],
  *,
  num_rounds: int,
  budget: float,
  pause: float = PAUSE,
  least: float = 0.0,
  clock: Callable[[], float] = time.perf_counter,
  sleep: Callable[[float], None] = time.sleep,
) -> Timings:
  """Runs all contenders in turns.

  Args:
    contenders: by name; each runs its job to the end, and returns its output.
      The first is what the others are compared with.
    probe: measures the machine's speed.
    num_rounds: steady comparisons that are wanted of each.
    budget: seconds after which no further round begins; two run in any case.
    pause: seconds before and after each turn.
    least: seconds of a turn; what is shorter runs several times in it, and its
      mean counts.
    clock: in seconds.
    sleep: pauses.

  Returns:
    Timings.
  """
  start = clock()
  reference, *others = contenders
  order = [reference]
  for name in others:
    order += [name, reference]
  outputs = {name: run() for name, run in contenders.items()}
  timings = Timings([], outputs)
  speed = probe()
  while True:
    turns = []
    for name in order:
      sleep(pause)
      seconds = _mean_seconds(contenders[name], least, clock)
      sleep(pause)
      last, speed = speed, probe()
      turns.append(Turn(name, seconds, last, speed))
    timings.rounds.append(turns)
    if timings.num_steady(contenders) >= num_rounds:
      return timings
    one_more = (clock() - start) / (len(timings.rounds) + 1)
    if len(timings.rounds) >= _ENOUGH and clock() - start + one_more > budget:
      return timings


def median_seconds(run: Callable[[], Any], repeats: int) -> float:
  """Runs a function several times; returns the median of its seconds."""
  times = [_mean_seconds(run, 0.0, time.perf_counter) for _ in range(repeats)]
  return statistics.median(times)


def _mean_seconds(
  run: Callable[[], Any], least: float, clock: Callable[[], float]
) -> float:
  before, count = clock(), 0
  while not count or clock() - before < least:
    run()
    count += 1
  return (clock() - before) / count


def stands_out(seconds: float, least: float) -> bool:
  """Whether a difference of two longer times is more than noise.

  Args:
    seconds: the difference.
    least: seconds that the work must take by formula.
  """
  return seconds > 0 and seconds >= least / 2


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
