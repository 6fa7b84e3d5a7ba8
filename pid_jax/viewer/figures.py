# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Draws all figures of pages and of experiments, with matplotlib.

A figure is a row of panels, small multiples that share one legend. `save`
writes the row as SVG and PNG; `to_elements` gives one SVG element for each
panel, as wide as a phone, so that a page can arrange them in a grid. Colours
are those of base.css: a page shows the same SVG in light, dark and print.

matplotlib is an extra (`INSTALL`): where it is missing, callers leave figures
out and say so.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
import importlib.resources
import importlib.util
import io
import re
from typing import Any
from xml.etree import ElementTree

from etils import epath

from pid_jax import files
from pid_jax.viewer import markup

INSTALL = "pip install 'pid_jax[experiments]'"

_SIZE = 3.4, 2.2  # Inches of a panel, without its legend.
_LINE = 0.18  # Inches of a line of the legend.
_FEW_POINTS = 12  # Up to this number, each point has a visible marker.
_MOST_MARKERS = 300  # More than there are pixels to point at.
_CHARACTERS = 58  # Of a legend, in the width of a panel.
_HANDLE = 8  # Width of a legend's line and spaces, in characters.
_FEW_DECADES = 1e3  # Below this ratio, a decade has three ticks.
_FEW_TICKS = 8  # Up to this number, each x has a tick on a logarithmic axis.
_STYLE = {
  'axes.spines.right': False,
  'axes.spines.top': False,
  'axes.titlesize': 8.5,
  'font.size': 8,
  'legend.fontsize': 8,
  'legend.frameon': False,
  'svg.fonttype': 'none',  # Text stays text.
}

Point = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Series:
  """A line, or labelled points.

  Attributes:
    name: for the legend.
    points: (x, y), finite, by rising x; at least one.
    spread: (least, greatest) at each point, shaded; empty for none.
    labels: texts that stand at the points instead of a line; empty for a line.
    is_dashed: for what was computed rather than measured; not in the legend.
    colour: index of a colour; None: the position among the panel's series.
  """

  name: str
  points: Sequence[Point]
  spread: Sequence[Point] = ()
  labels: Sequence[str] = ()
  is_dashed: bool = False
  colour: int | None = None


@dataclasses.dataclass(frozen=True)
class Panel:
  """One set of axes, with series or with stacked bars.

  Attributes:
    title: above the axes.
    series: lines and points.
    bars: label of a bar -> name of a part -> its length; not negative.
    x_label: below the axes.
    log_x: whether x is logarithmic; all x must be positive then.
    log_y: whether y is logarithmic; all y must be positive then.
  """

  title: str
  series: Sequence[Series] = ()
  bars: Mapping[str, Mapping[str, float]] = dataclasses.field(
    default_factory=dict
  )
  x_label: str = ''
  log_x: bool = False
  log_y: bool = False

  @property
  def summary(self) -> str:
    """The title and the last value of each series, for screen readers."""
    if self.bars:
      values = {bar: sum(parts.values()) for bar, parts in self.bars.items()}
      return f'{self.title}; in all: {_listed(values)}'
    values = {line.name: line.points[-1][1] for line in self.series}
    return f'{self.title}; at the end: {_listed(values)}'


def is_installed() -> bool:
  """Returns whether matplotlib is installed."""
  return importlib.util.find_spec('matplotlib') is not None


def save(
  panels: Sequence[Panel], folder: epath.PathLike, name: str
) -> list[str]:
  """Writes panels side by side as NAME.svg and NAME.png.

  The same panels give the same bytes.

  Args:
    panels: at least one.
    folder: that exists; local or gs://.
    name: of the files.

  Returns:
    The names of the files.
  """
  names = [f'{name}.svg', f'{name}.png']
  for file in names:
    content = _render(panels, name, file.rpartition('.')[2])
    files.write(epath.Path(folder) / file, content)
  return names


def to_elements(panels: Sequence[Panel], name: str) -> list[markup.Element]:
  """Draws each panel for a page.

  Args:
    panels: to be drawn.
    name: of the figure, unique on the page.

  Returns:
    A <figure class="chart"> for each panel. The value of a point is its
    <title>, which browsers show under the pointer.
  """
  made = []
  for index, panel in enumerate(panels):
    svg = _render([panel], f'{name}-{index}', 'svg')
    svg = _for_page(ElementTree.fromstring(svg), panel)
    made.append(markup.element('figure', svg, class_='chart'))
  return made


def number(value: float) -> str:
  """Writes a number in few characters: 0.0316, 1.25, 24,000, 1.2e-05."""
  if value == int(value) and abs(value) < 1e7:
    return f'{int(value):,}'
  if abs(value) >= 1000:
    return f'{value:,.0f}' if abs(value) < 1e7 else f'{value:.3g}'
  return f'{value:.4g}'


def _render(panels: Sequence[Panel], name: str, kind: str) -> bytes:
  """Draws panels side by side, 'svg' or 'png'."""
  import matplotlib
  from matplotlib import figure  # No pyplot: no display, no global state.

  content = io.BytesIO()
  with matplotlib.rc_context({**_STYLE, 'svg.hashsalt': name}):
    handles = dict(pair for panel in panels for pair in _handles(panel))
    widest = max(map(len, handles), default=0) + _HANDLE
    columns = max(1, min(len(handles), _CHARACTERS * len(panels) // widest))
    num_lines = -(-len(handles) // columns)
    width, height = _SIZE
    size = len(panels) * width, height + _LINE * num_lines
    drawn = figure.Figure(size, layout='constrained')
    all_axes = drawn.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(all_axes, panels, strict=True):
      _draw(axes, panel)
    if len(handles) > 1:
      drawn.legend(
        handles=[*handles.values()],
        labels=[*handles],
        labelcolor=_colours()['text'],
        loc='outside lower center',
        ncols=columns,
      )
    # Without a date the same figure is the same file.
    metadata = {'Date': None} if kind == 'svg' else None
    drawn.savefig(content, format=kind, dpi=150, metadata=metadata)
  return content.getvalue()


def _draw(axes: Any, panel: Panel) -> None:
  colours = _colours()
  axes.set_title(panel.title, color=colours['text'], wrap=True)
  axes.set_xlabel(panel.x_label, color=colours['quiet'])
  axes.tick_params(colors=colours['quiet'], which='both')
  axes.spines[:].set_color(colours['line'])
  axes.set_axisbelow(True)
  axes.xaxis.set_major_formatter(_tick)
  if panel.bars:
    _draw_bars(axes, panel)
    return
  axes.grid(color=colours['line'], linewidth=0.6)
  for index, line in enumerate(panel.series):
    _draw_series(axes, line, index)
  axes.yaxis.set_major_formatter(_tick)
  axes.locator_params(axis='x', nbins=5)
  if panel.log_x:
    axes.set_xscale('log')
    _mark_logarithms(axes.xaxis)
    xs = sorted({x for line in panel.series for x, _ in line.points})
    has_labels = any(line.labels for line in panel.series)
    if len(xs) <= _FEW_TICKS and not has_labels:
      axes.set_xticks(xs)
  if panel.log_y:
    axes.set_yscale('log')
    _mark_logarithms(axes.yaxis)


def _mark_logarithms(axis: Any) -> None:
  """Puts about six ticks on a logarithmic axis."""
  from matplotlib import ticker

  low, high = axis.get_view_interval()
  digits = (1, 2, 5) if high < _FEW_DECADES * low else (1,)
  axis.set_major_locator(ticker.LogLocator(subs=digits, numticks=6))
  axis.set_minor_locator(ticker.NullLocator())
  axis.set_major_formatter(_tick)


def _tick(value: float, position: int | None) -> str:
  """Writes a value beside an axis, as matplotlib's formatters do."""
  del position
  return number(value)


def _draw_series(axes: Any, line: Series, index: int) -> None:
  colour = _colour(line, index)
  xs, ys = zip(*line.points, strict=True)
  if line.labels:
    axes.plot(xs, ys, linestyle='none')  # Makes room for the texts.
    for place, (x, y, text) in enumerate(zip(xs, ys, line.labels, strict=True)):
      axes.text(
        x, y, text, color=colour, ha='center', va='center', weight='bold',
        gid=f'point-{index}-{place}',
      )  # fmt: skip
    return
  if line.spread:
    low, high = zip(*line.spread, strict=True)
    axes.fill_between(xs, low, high, color=colour, alpha=0.15, linewidth=0)
  is_few = len(xs) <= _FEW_POINTS
  axes.plot(
    xs,
    ys,
    color=colour,
    linestyle='--' if line.is_dashed else '-',
    linewidth=1.4,
    marker='o',
    markersize=3.5,
    markeredgewidth=0,
    markerfacecolor=colour if is_few else 'none',
    markevery=_every(line),
    gid=f'points-{index}',
  )


def _draw_bars(axes: Any, panel: Panel) -> None:
  names = [*panel.bars]
  left = [0.0] * len(names)
  for index, part in enumerate(_parts(panel)):
    widths = [parts.get(part, 0.0) for parts in panel.bars.values()]
    axes.barh(names, widths, left=left, color=_palette()[index], label=part)
    left = [a + b for a, b in zip(left, widths, strict=True)]
  axes.invert_yaxis()


def _handles(panel: Panel) -> Iterator[tuple[str, Any]]:
  """Yields the entries of a panel's legend: name and artist."""
  from matplotlib import lines
  from matplotlib import patches

  for index, part in enumerate(_parts(panel)):
    yield part, patches.Patch(color=_palette()[index])
  for index, line in enumerate(panel.series):
    if line.name and not line.is_dashed:
      yield line.name, lines.Line2D([], [], color=_colour(line, index))


def _parts(panel: Panel) -> list[str]:
  return list(dict.fromkeys(p for parts in panel.bars.values() for p in parts))


def _every(line: Series) -> int:
  """Every how many points there is a marker."""
  return -(-len(line.points) // _MOST_MARKERS)


def _colour(line: Series, index: int) -> str:
  palette = _palette()
  return palette[(index if line.colour is None else line.colour) % len(palette)]


def _palette() -> list[str]:
  colours = _colours()
  return [colours[name] for name in colours if name.startswith('series-')]


@functools.cache
def _colours() -> dict[str, str]:
  """The variables of base.css that are colours on paper: name -> '#rrggbb'."""
  folder = importlib.resources.files('pid_jax.viewer')
  css = folder.joinpath('assets', 'base.css').read_text(encoding='utf-8')
  first = css[: css.index('}')]
  return dict(re.findall(r'--([\w-]+): (#\w{6});', first))


def _for_page(svg: ElementTree.Element, panel: Panel) -> markup.Element:
  """Makes matplotlib's SVG part of a page.

  The page forbids style attributes, so styles become presentation attributes;
  colours become the page's variables; points get their values as titles; ids
  stay where something refers to them.
  """
  names = {hexadecimal: name for name, hexadecimal in _colours().items()}
  found = dict(_titles(panel))
  used = set(re.findall(r'#(\w+)', ElementTree.tostring(svg, 'unicode')))

  def rebuilt(old: ElementTree.Element, title: Iterator[str]) -> Any:
    attributes = {k.rpartition('}')[2]: v for k, v in old.attrib.items()}
    style = attributes.pop('style', '')
    attributes |= dict(re.findall(r'([\w-]+): ([^;]+)', style))
    attributes.pop('font-family', None)
    for key in ('fill', 'stroke'):
      if attributes.get(key) in names:
        attributes[key] = f'var(--{names[attributes[key]]})'
    own_id = attributes.get('id', '')
    if own_id not in used:
      attributes.pop('id', None)
    new = ElementTree.Element(old.tag.rpartition('}')[2], attributes)
    new.text = old.text
    title = iter(found[own_id]) if own_id in found else title
    for child in old:
      if child.tag.rpartition('}')[2] not in ('metadata', 'style'):
        new.append(rebuilt(child, title))
    if new.tag in ('use', 'text') and (text := next(title, None)):
      new.append(markup.element('title', text))
      new.set('class', 'point')
    return new

  made = rebuilt(svg, iter(()))
  for name in ('width', 'height', 'version'):
    del made.attrib[name]
  made.set('role', 'img')
  made.set('aria-label', panel.summary)
  return made


def _titles(panel: Panel) -> Iterator[tuple[str, list[str]]]:
  """Yields the ids that `_draw_series` gives, with the titles of the points."""
  for index, line in enumerate(panel.series):
    titles = [
      f'{line.name} {number(x)}: {number(y)}'.strip() for x, y in line.points
    ]
    if line.labels:
      for place, title in enumerate(titles):
        yield f'point-{index}-{place}', [title]
    else:
      yield f'points-{index}', titles[:: _every(line)]


def _listed(values: Mapping[str, float]) -> str:
  return ', '.join(f'{k} {number(v)}'.strip() for k, v in values.items())
