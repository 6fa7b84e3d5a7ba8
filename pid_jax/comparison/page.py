# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""report.html: the sentences, the tables and the charts, in one file."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import statistics
from typing import Any

from pid_jax import config as config_lib
from pid_jax.comparison import roofline
from pid_jax.comparison import summary as summary_lib
from pid_jax.viewer import charts
from pid_jax.viewer import shell
from pid_jax.viewer.markup import Element
from pid_jax.viewer.markup import element

_PHASES = ('encode', 'prefill', 'steps')
_GREY = 5  # Of base.css.
_FORMULA_NOTE = (
  'Programs that stop after encode and after prefill tell the phases apart: '
  'short ones may drown in noise, even below zero; the charts below leave out '
  'what is less than half of what it must be by formula. That (dashed) is the '
  'least that this machine needs for the FLOPs and bytes of docs/costs.md.'
)
_ROOFLINE_NOTE = (
  'E is encode, P prefill, S a step. The roof is what a machine allows: its '
  'peak, or its memory times the FLOPs that are done with each byte. Letters '
  'stand where they were measured; where nothing was run, on the roof. The '
  'compiler counts the bytes of all operations, also of those that stay in '
  'caches or on the chip. Peak and memory of this machine are those of a '
  'probe; those of the TPU are as its maker states them.'
)


def page(report: Mapping[str, Any]) -> str:
  """Makes the page of a report.

  Args:
    report: of `report.write`.

  Returns:
    The whole document.
  """
  names = [summary_lib.name_of(arm) for arm in report['summary']]
  layouts = list(map(summary_lib.name_of, report['settings']['layouts']))
  compared = ' and '.join(filter(None, [', '.join(layouts[:-1]), layouts[-1]]))
  sections = [
    element(
      'header',
      element('h1', f'{compared} on {report["task"]}'),
      *[element('p', text) for text in summary_lib.sentences(report)],
      class_='head',
    ),
    element(
      'section',
      element('h2', 'What each buys and costs'),
      _table(['', *names], summary_lib.rows(report)),
      element('p', summary_lib.NOTE, class_='quiet'),
    ),
  ]
  if report['runs']:
    sections.append(_section('Quality against cost', _quality(report)))
  if report['settings']['granularities']:
    sections.append(_granularity(report))
  sections.append(_phases(report))
  sections += _sweeps(report)
  sections.append(_roofline(report))
  sections.append(
    element(
      'section',
      element('h2', 'How this was made'),
      *[element('p', text, class_='quiet') for text in _origin(report)],
      class_='origin',
    )
  )
  return shell.page(
    f'Comparison on {report["task"]}', [element('main', *sections)]
  )


def _section(title: str, figures: Sequence[Element]) -> Element:
  return element(
    'section',
    element('h2', title),
    element('div', *figures, class_='charts wide'),
  )


def _table(
  head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]
) -> Element:
  """A table that can be scrolled sideways by itself."""
  body = [
    element(
      'tr',
      element('th', label, scope='row'),
      *[element('td', cell, class_='number') for cell in cells],
    )
    for label, cells in rows
  ]
  titles = [
    element('th', title, class_='number' if i else None)
    for i, title in enumerate(head)
  ]
  made = element(
    'table',
    element('thead', element('tr', *titles)),
    element('tbody', *body),
    class_='plain',
  )
  return element('div', made, class_='scroll')


def _quality(report: Mapping[str, Any]) -> list[Element]:
  """The chosen metric over cost: means over seeds, least to most shaded."""
  metric, summary = summary_lib.metric_of(report), report['summary']
  figures = []
  for unit, scale in summary_lib.TRAINING_COSTS.items():
    series = []
    for arm, row in summary.items():
      points = summary_lib.spread_curve(report, arm, metric)
      if points:
        series.append(
          charts.Series(
            summary_lib.name_of(arm),
            [(x * scale(row), statistics.mean(ys)) for x, ys in points],
            spread=[(min(ys), max(ys)) for _, ys in points],
          )
        )
    if series:
      figures.append(charts.line_chart(f'{metric} over {unit}', series))
  return figures


def _granularity(report: Mapping[str, Any]) -> Element:
  """One subtask for each prompt of the task, of others, and all in one."""
  said = {'pid': f'{report["task"]}, PiD', 'joint': 'all in one, joint'}
  kept, rows = summary_lib.key_rows(report), []
  arms = list(report['summary'])
  for arm in ('pid', *report['settings']['granularities'], 'joint'):
    if arm in arms:
      cells = [line[arms.index(arm)] for line in kept.values()]
      rows.append((said.get(arm, f'{arm}, PiD'), cells))
  return element(
    'section',
    element('h2', 'Granularity'),
    _table(['', *kept], rows),
  )


def _phases(report: Mapping[str, Any]) -> Element:
  """Milliseconds of the task's phases, beside what the formulas allow."""
  rows = []
  for arm, row in report['inference']['task']['contenders'].items():
    for kind, said in (('measured', ''), ('floor', ' by formula')):
      phases = row['phases'][kind]
      cells = [f'{1000 * phases[phase]:.2f}' for phase in _PHASES]
      total = f'{1000 * sum(phases.values()):.2f}'
      rows.append((summary_lib.name_of(arm) + said, [*cells, total]))
  return element(
    'section',
    element('h2', 'Time to answer by phase'),
    _table(['ms', *_PHASES, 'all'], rows),
    element('p', summary_lib.sizes(report), class_='quiet'),
    element('p', _FORMULA_NOTE, class_='quiet'),
  )


def _sweeps(report: Mapping[str, Any]) -> list[Element]:
  """Measured times, phase by phase beside the formulas, and FLOPs."""
  config = config_lib.T5Config.from_dict(report['model'])
  layouts, sections = report['settings']['layouts'], []
  for letter, label in summary_lib.SWEEPS.items():
    found = summary_lib.swept(report, letter)
    if len(found) < 2:
      continue
    charted = _sweep_charts(config, layouts, found)
    figures = [
      charts.line_chart(title, series, log_x=True, log_y=True)
      for title, series in charted.items()
      if series
    ]
    sections.append(_section(f'Time to answer over {label}', figures))
  if sections:
    names = ['', *map(summary_lib.name_of, layouts)]
    figures = _table(names, summary_lib.sweep_rows(report))
    sections.append(
      element('section', element('h2', 'All times to answer'), figures)
    )
  return sections


def _sweep_charts(
  config: config_lib.T5Config,
  layouts: Sequence[str],
  found: Sequence[tuple[int, Mapping[str, Any]]],
) -> dict[str, list[charts.Series]]:
  """The lines of each chart of a sweep, by its title."""
  lines = functools.partial(_lines, layouts)
  charted = {
    'all phases, ms': lines(
      lambda layout: [
        (x, 1000 * job['contenders'][layout]['seconds']['median'])
        for x, job in found
      ]
    )
  }
  for phase in _PHASES:
    of = functools.partial(summary_lib.phase_ms, found, phase=phase)
    charted[f'{phase}, ms'] = [
      *lines(functools.partial(of, kind='measured')),
      *lines(functools.partial(of, kind='floor'), by_formula=True),
    ]
  charted['GFLOP by formula'] = lines(
    lambda layout: [
      (x, summary_lib.gflops(config, layout, job)) for x, job in found
    ]
  )
  return charted


def _lines(
  layouts: Sequence[str],
  points: Callable[[str], Sequence[tuple[int, float]]],
  by_formula: bool = False,
) -> list[charts.Series]:
  """A line of each layout over the points of a sweep, if it has any."""
  return [
    charts.Series(
      summary_lib.name_of(layout) + ' by formula' * by_formula,
      found,
      is_dashed=by_formula,
      colour=index,
    )
    for index, layout in enumerate(layouts)
    if (found := points(layout))
  ]


def _roofline(report: Mapping[str, Any]) -> Element:
  """FLOPs for each byte: a chart and a table for each machine."""
  figures, tables = [], []
  for machine in roofline.machines(report):
    series, rows = [], []
    unit, scale = roofline.unit(machine)
    for index, layout in enumerate(report['settings']['layouts']):
      own = [(p, y) for p, y in machine.placed() if p.layout == layout]
      if own:
        series.append(
          charts.Series(
            summary_lib.name_of(layout),
            [(point.intensity, y / scale) for point, y in own],
            letters=''.join(point.phase[0].upper() for point, _ in own),
            colour=index,
          )
        )
      rows += [
        (_title(point), _cells(machine, point, scale))
        for point in machine.points
        if point.layout == layout
      ]
    roof = [(x, y / scale) for x, y in machine.roof()]
    series.append(charts.Series('roof', roof, colour=_GREY))
    title = f'{machine.name}: {unit} over FLOP for each byte'
    figures.append(charts.line_chart(title, series, log_x=True, log_y=True))
    head = ['FLOP/byte by formula', 'by the compiler', 'bound by']
    tables += [
      element('h3', machine.name),
      _table(['', *head, f'{unit} allowed', 'measured'], rows),
    ]
  section = _section('Roofline', figures)
  section.append(element('p', _ROOFLINE_NOTE, class_='quiet'))
  section.extend(tables)
  missing = report['roofline']['tpu'].get('missing')
  if missing:
    section.append(element('p', f'No TPU: {missing}.', class_='quiet'))
  return section


def _title(point: roofline.Point) -> str:
  return f'{summary_lib.name_of(point.layout)}, {point.phase}'


def _cells(
  machine: roofline.Machine, point: roofline.Point, scale: float
) -> list[str]:
  number = lambda x: '-' if x is None else f'{x:.3g}'
  rate = lambda x: number(x and x / scale)
  is_bound = machine.is_bound_by_memory(point.intensity)
  return [
    number(point.intensity),
    number(point.by_compiler),
    'memory' if is_bound else 'arithmetic',
    rate(machine.allowed(point.intensity)),
    rate(point.measured),
  ]


def _origin(report: Mapping[str, Any]) -> list[str]:
  """The command, versions and machine."""
  lines = [f'$ {report["command"]}', report['date']]
  lines.append(', '.join(f'{k} {v}' for k, v in report['versions'].items()))
  machine = report['inference']['task']['machine']
  rate, bandwidth = (machine['probe'][k] for k in ('flop_rate', 'bandwidth'))
  lines.append(
    f'{machine["processor"]}, {machine["cores"]} cores, {machine["device"]}; '
    f'{rate / 1e9:.0f} GFLOP/s in float32 products, reading '
    f'{bandwidth / 1e9:.0f} GB/s'
  )
  return lines
