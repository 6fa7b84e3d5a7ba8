# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""report.html: the sentences, the table, and the curves, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import Any

from pid_jax import config as config_lib
from pid_jax import costs
from pid_jax.comparison import summary as summary_lib
from pid_jax.pages import charts
from pid_jax.pages import shell
from pid_jax.pages.markup import Element
from pid_jax.pages.markup import element

_AXES = {'U': 'num_prompts', 'S': 'input_length', 'B': 'num_inputs'}
_LABELS = {
  'U': 'prompts to an input, U',
  'S': 'tokens of an input, S',
  'B': 'inputs at a time, B',
}


def page(report: Mapping[str, Any]) -> str:
  """Makes the page of a report.

  Args:
    report: of `report.write`.

  Returns:
    The whole document.
  """
  rows = summary_lib.rows(report)
  sections = [
    element(
      'header',
      element('h1', f'PiD, PiE and joint on {report["task"]}'),
      *[element('p', text) for text in summary_lib.sentences(report)],
      class_='head',
    ),
    element(
      'section',
      element('h2', 'What each buys and costs'),
      element('div', _table(report, rows), class_='scroll'),
      element('p', summary_lib.NOTE, class_='quiet'),
    ),
  ]
  if report['runs']:
    sections.append(_section('Quality against cost', _quality(report)))
  sweeps = _sweeps(report)
  if sweeps:
    sections.append(_section('Time to answer', sweeps))
  sections.append(
    element(
      'section',
      element('h2', 'How this was made'),
      *[element('p', text, class_='quiet') for text in _origin(report)],
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
  report: Mapping[str, Any], rows: Sequence[tuple[str, Sequence[str]]]
) -> Element:
  names = [summary_lib.NAMES[layout] for layout in report['summary']]
  return element(
    'table',
    element('tr', *[element('th', name) for name in ('', *names)]),
    *[
      element(
        'tr',
        element('th', label, scope='row'),
        *[element('td', cell, class_='number') for cell in cells],
      )
      for label, cells in rows
    ],
    class_='plain',
  )


def _quality(report: Mapping[str, Any]) -> list[Element]:
  """The chosen metric over updates, FLOPs and seconds: means over seeds."""
  metric, summary = summary_lib.metric_of(report), report['summary']
  scales = {
    'updates': lambda row: 1,
    'TFLOP, by formula': lambda row: row['update_flops'] / 1e12,
    'minutes of training': lambda row: row['update_seconds'] / 60,
  }
  figures = []
  for unit, scale in scales.items():
    series = []
    for layout, row in summary.items():
      points = summary_lib.spread_curve(report, layout, metric)
      scaled = [(x * scale(row), statistics.mean(ys)) for x, ys in points]
      if scaled:
        series.append(charts.Series(summary_lib.NAMES[layout], scaled))
    if series:
      figures.append(charts.line_chart(f'{metric} over {unit}', series))
  return figures


def _sweeps(report: Mapping[str, Any]) -> list[Element]:
  """Measured times, PiD's phases beside their floor, and FLOPs by formula."""
  config = config_lib.T5Config.from_dict(report['model'])
  figures = []
  for letter, field in _AXES.items():
    found = [
      (job['sizes'][field], job)
      for name, job in report['inference'].items()
      if name.startswith(f'{letter}=')
    ]
    if len(found) < 2:
      continue
    of = _LABELS[letter]
    layouts = list(report['summary'])
    measured = [
      charts.Series(
        summary_lib.NAMES[layout],
        [
          (x, 1000 * job['contenders'][layout]['seconds']['median'])
          for x, job in found
        ],
      )
      for layout in layouts
    ]
    figures.append(charts.line_chart(f'ms over {of}', measured, log_y=True))
    flops = [
      charts.Series(
        summary_lib.NAMES[layout],
        [
          (x, costs.generate(config, layout, **job['sizes']).total.flops / 1e9)
          for x, job in found
        ],
      )
      for layout in layouts
    ]
    figures.append(
      charts.line_chart(f'GFLOP by formula over {of}', flops, log_y=True)
    )
    for phase in ('encode', 'prefill', 'steps'):
      figures.append(
        charts.line_chart(
          f'PiD, {phase}: ms over {of}',
          [
            charts.Series(
              name, [(x, 1000 * max(part(job), 0.0)) for x, job in found]
            )
            for name, part in (
              ('measured', lambda job, p=phase: job['phases'][p]),
              ('floor', lambda job, p=phase: job['floor']['phases'][p]),
            )
          ],
        )
      )
  return figures


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
