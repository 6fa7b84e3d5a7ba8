# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Line charts as SVG elements: no script, sharp in print, coloured by the CSS.

A chart is as wide as a phone, so that a grid of them needs no second size.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import math

from pid_jax.viewer import markup

# In CSS pixels.
_WIDTH, _HEIGHT = 320, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 8, 22
_MOST_POINTS = 300  # More than there are pixels.
_FEW_TICKS = 8  # So many values are written below a logarithmic axis.
_FEW_POINTS = 12  # So many have dots; of others, that under the pointer.

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Series:
  """A line, or points.

  Attributes:
    name: for the legend.
    points: (x, y), finite, by rising x; at least one.
    spread: (least, greatest) at each of them, shaded; empty for none.
    letters: one to stand at each point in place of a line; None for a line.
    is_dashed: a line that nobody measured; not in the legend.
    colour: number of a colour; None: that of its place among the series.
  """

  name: str
  points: Sequence[Point]
  spread: Sequence[Point] = ()
  letters: str | None = None
  is_dashed: bool = False
  colour: int | None = None

  def class_(self, place: int) -> str:
    """Its CSS class, as the series of a place."""
    colour = place if self.colour is None else self.colour
    return f'series-{colour % 6}' + ' dashed' * self.is_dashed


class _Axis:
  """Where values stand between the ends of an axis.

  Attributes:
    ticks: values to be written beside it.
  """

  def __init__(self, ticks_: Sequence[float], low: float, high: float, log):
    self._of = math.log if log else float
    self._low, self._high = self._of(low), self._of(high)
    self.ticks = [x for x in ticks_ if low <= x <= high]

  def __call__(self, value: float) -> float:
    """From 0 to 1."""
    return (self._of(value) - self._low) / (self._high - self._low)


def line_chart(
  title: str,
  series: Sequence[Series],
  *,
  log_x: bool = False,
  log_y: bool = False,
) -> markup.Element:
  """Draws lines into one chart, as a <figure>.

  Args:
    title: is the caption.
    series: at least one; a legend is shown from two on.
    log_x: whether distances are those of logarithms; all x must be positive
      then.
    log_y: whether heights are; all y must be positive then.

  Returns:
    The figure. Its classes are those of base.css.
  """
  element = markup.element
  xs = sorted({x for line in series for x, _ in line.points})
  ys = [y for line in series for _, y in line.points]
  ys += [y for line in series for ends in line.spread for y in ends]
  x_ticks = log_ticks(xs[0], xs[-1]) if log_x else ticks(xs[0], xs[-1])
  if log_x and len(xs) <= _FEW_TICKS:
    x_ticks = xs
  y_ticks = (log_ticks if log_y else ticks)(min(ys), max(ys))
  across = _Axis(x_ticks, xs[0], max(xs[-1], xs[0] + 1e-9), log_x)
  upwards = _Axis(y_ticks, y_ticks[0], y_ticks[-1], log_y)

  def place(x: float, y: float) -> str:
    right, up = across(x), upwards(y)
    return (
      f'{_LEFT + right * (_WIDTH - _LEFT - _RIGHT):.1f},'
      f'{_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM):.1f}'
    )

  parts = []
  for y in upwards.ticks:
    start, end = place(xs[0], y), place(xs[-1], y)
    parts.append(element('path', d=f'M{start}L{end}', class_='grid'))
    height = start.partition(',')[2]
    parts.append(
      element(
        'text', number(y), x=_LEFT - 6, y=height, dy='.32em', class_='of-y'
      )
    )
  for x in across.ticks:
    left = place(x, y_ticks[0]).partition(',')[0]
    class_ = 'of-x at-end' if across(x) > 0.95 else 'of-x'
    parts.append(
      element('text', number(x), x=left, y=_HEIGHT - 6, class_=class_)
    )
  for index, line in enumerate(series):
    parts += _drawn(line, line.class_(index), place)
  last = ', '.join(
    f'{line.name} {number(line.points[-1][1])}'.strip() for line in series
  )
  drawing = element(
    'svg',
    *parts,
    viewBox=f'0 0 {_WIDTH} {_HEIGHT}',
    role='img',
    aria_label=f'{title}; at the end: {last}',
  )
  legend = [
    element('span', line.name, class_=f'legend {line.class_(index)}')
    for index, line in enumerate(series if len(series) > 1 else [])
    if not line.is_dashed
  ]
  end = element('span', f' {number(series[0].points[-1][1])}', class_='quiet')
  caption = element(
    'figcaption', title, *([end] if len(series) == 1 else []), *legend
  )
  return element('figure', caption, drawing, class_='chart')


def _drawn(
  line: Series, class_: str, place: Callable[[float, float], str]
) -> list[markup.Element]:
  """The marks of a series."""
  element, parts = markup.element, []
  if line.spread:
    xs = [x for x, _ in line.points]
    low, high = (
      [place(x, ends[i]) for x, ends in zip(xs, line.spread, strict=True)]
      for i in (0, 1)
    )
    outline = 'M' + 'L'.join([*high, *low[::-1]]) + 'Z'
    parts.append(element('path', d=outline, class_=f'{class_} spread'))
  points = line.points if line.letters else thinned(line.points)
  places = [place(*point) for point in points]
  if not line.letters:
    parts.append(element('path', d='M' + 'L'.join(places), class_=class_))
  for index, point in enumerate(points):
    x, _, y = places[index].partition(',')
    values = f'{line.name} {number(point[0])}: {number(point[1])}'.strip()
    title = element('title', values)
    if line.letters:
      letter = line.letters[index]
      parts.append(
        element(
          'text', letter, title, x=x, y=y, dy='.32em', class_=f'{class_} letter'
        )
      )
      continue
    size, seen = (2.5, '') if len(points) <= _FEW_POINTS else (4, ' hit')
    parts.append(
      element('circle', title, cx=x, cy=y, r=size, class_=class_ + seen)
    )
  return parts


def ticks(low: float, high: float, number_wanted: int = 4) -> list[float]:
  """Round numbers from at most `low` to at least `high`.

  Args:
    low: the least value.
    high: the greatest value.
    number_wanted: of steps between them, roughly.

  Returns:
    Multiples of 1, 2 or 5 times a power of ten, at least two.
  """
  if high <= low:
    low, high = low - abs(low) / 2 - 1e-6, high + abs(high) / 2 + 1e-6
  rough = (high - low) / number_wanted
  power = 10.0 ** math.floor(math.log10(rough))
  step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
  first = math.floor(low / step + 1e-9)
  last = max(math.ceil(high / step - 1e-9), first + 1)
  return [float(f'{k * step:.12g}') for k in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
  """Powers of ten from at most `low` to at least `high`, both positive."""
  first = math.floor(math.log10(low) + 1e-9)
  last = max(math.ceil(math.log10(high) - 1e-9), first + 1)
  return [10.0**k for k in range(first, last + 1)]


def number(value: float) -> str:
  """Writes a number in few characters: 0.0316, 1.25, 24,000, 1.2e-05."""
  if value == int(value) and abs(value) < 1e7:
    return f'{int(value):,}'
  if abs(value) >= 1000:
    return f'{value:,.0f}' if abs(value) < 1e7 else f'{value:.3g}'
  return f'{value:.4g}'


def thinned(points: Sequence[Point]) -> list[Point]:
  """Leaves out points that nobody could see, and no peak.

  Args:
    points: by rising x.

  Returns:
    All points if they are few; else the lowest and the highest of each stretch,
    and both ends.
  """
  if len(points) <= _MOST_POINTS:
    return list(points)
  size = math.ceil(2 * len(points) / _MOST_POINTS)
  kept = [points[0]]
  for start in range(0, len(points), size):
    stretch = points[start : start + size]
    ends = {min(stretch, key=lambda p: p[1]), max(stretch, key=lambda p: p[1])}
    kept.extend(sorted(ends))
  kept.append(points[-1])
  return sorted(set(kept))
