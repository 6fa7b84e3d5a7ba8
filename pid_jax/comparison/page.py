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
from pid_jax import costs
from pid_jax.comparison import roofline
from pid_jax.comparison import summary as summary_lib
from pid_jax.pages import charts
from pid_jax.pages import shell
from pid_jax.pages.markup import Element
from pid_jax.pages.markup import element

_PHASES = ('encode', 'prefill', 'steps')
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
  compared = ', '.join(names[:-1]) + f' and {names[-1]}' if names[1:] else 'PiD'
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
  sections.append(_section('Time to answer by phase', _phases(report)))
  sweeps = _sweeps(report)
  if sweeps:
    layouts = report['settings']['layouts']
    section = _section('Time to answer over sizes', sweeps)
    names = ['', *map(summary_lib.name_of, layouts)]
    section.append(
      element(
        'details',
        element('summary', 'The times in figures'),
        _table(names, summary_lib.sweep_rows(report)),
      )
    )
    sections.append(section)
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
    element('div', *figures, class_='charts'),
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


def _phases(report: Mapping[str, Any]) -> list[Element]:
  """Milliseconds of the task's phases, beside what the formulas allow."""
  rows = []
  for arm, row in report['inference']['task']['contenders'].items():
    for kind, phases in row['phases'].items():
      cells = [f'{1000 * phases[phase]:.2f}' for phase in _PHASES]
      total = f'{1000 * sum(phases.values()):.2f}'
      label = {'measured': 'measured', 'floor': 'by formula, at least'}[kind]
      name = summary_lib.name_of(arm)
      rows.append((f'{name}, {label}', [*cells, total]))
  return [_table(['ms', *_PHASES, 'all'], rows)]


def _sweeps(report: Mapping[str, Any]) -> list[Element]:
  """Measured times, phase by phase beside the formulas, and FLOPs."""
  config = config_lib.T5Config.from_dict(report['model'])
  figures = []
  for letter, label in summary_lib.SWEEPS.items():
    found = summary_lib.swept(report, letter)
    if len(found) < 2:
      continue
    lines = functools.partial(_lines, report['settings']['layouts'], found)
    charted = {
      'ms': lines(
        lambda layout, job: (
          1000 * job['contenders'][layout]['seconds']['median']
        )
      ),
      'GFLOP by formula': lines(
        lambda layout, job: (
          costs.generate(config, layout, **job['sizes']).total.flops / 1e9
        )
      ),
    }
    for phase in _PHASES:
      charted[f'{phase}: ms'] = [
        *lines(
          lambda layout, job, p=phase: summary_lib.phase_ms(
            job, layout, 'measured', p
          )
        ),
        *lines(
          lambda layout, job, p=phase: summary_lib.phase_ms(
            job, layout, 'floor', p
          ),
          said=' by formula',
        ),
      ]
    figures += [
      charts.line_chart(f'{title} over {label}', series, log_x=True, log_y=True)
      for title, series in charted.items()
    ]
  return figures


def _lines(
  layouts: Sequence[str],
  found: Sequence[tuple[int, Mapping[str, Any]]],
  value: Callable[[str, Mapping[str, Any]], float],
  said: str = '',
) -> list[charts.Series]:
  """A line of each layout over the points of a sweep."""
  return [
    charts.Series(
      summary_lib.name_of(layout) + said,
      [(x, value(layout, job)) for x, job in found],
      is_dashed=bool(said),
      colour=index,
    )
    for index, layout in enumerate(layouts)
  ]


def _roofline(report: Mapping[str, Any]) -> Element:
  """FLOPs for each byte: a chart and a table for each machine."""
  parts = []
  for machine in roofline.machines(report):
    roof = [(x, y / 1e9) for x, y in machine.roof()]
    series, rows = [], []
    for layout in report['settings']['layouts']:
      points, letters = [], ''
      for point in machine.points:
        if point.layout == layout:
          allowed = machine.allowed(point.intensity)
          rate = point.measured or allowed
          points.append((point.intensity, rate / 1e9))
          letters += point.phase[0].upper()
          rows.append((_title(point), _cells(machine, point)))
      name = summary_lib.name_of(layout)
      series.append(charts.Series(name, points, letters=letters))
    series.append(charts.Series('roof', roof))
    parts += [
      element('h3', machine.name),
      element(
        'div',
        charts.line_chart(
          'GFLOP/s over FLOP for each byte', series, log_x=True, log_y=True
        ),
        class_='charts',
      ),
      _table(
        [
          '', 'FLOP/byte by formula', 'by the compiler', 'bound by',
          'GFLOP/s allowed', 'measured',
        ],
        rows,
      ),
    ]  # fmt: skip
  missing = report['roofline']['tpu'].get('missing')
  if missing:
    parts.append(element('p', f'No TPU: {missing}.', class_='quiet'))
  return element(
    'section',
    element('h2', 'Roofline'),
    *parts,
    element('p', _ROOFLINE_NOTE, class_='quiet'),
  )


def _title(point: roofline.Point) -> str:
  return f'{summary_lib.name_of(point.layout)}, {point.phase}'


def _cells(machine: roofline.Machine, point: roofline.Point) -> list[str]:
  number = lambda x: '-' if x is None else f'{x:.3g}'
  rate = lambda x: '-' if x is None else f'{x / 1e9:,.3g}'
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
