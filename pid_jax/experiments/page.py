# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The report of a comparison: report.json, report.html and figures.

report.json holds what comparison.json holds, and `summary`: quality and cost of
each layout, which need no further computing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etils import epath

from pid_jax import files
from pid_jax.experiments import costs
from pid_jax.experiments import figures as figures_lib
from pid_jax.experiments import output
from pid_jax.experiments import roofline
from pid_jax.experiments import summary as summary_lib
from pid_jax.experiments import workloads
from pid_jax.experiments.layouts import label
from pid_jax.viewer import figures as renderer
from pid_jax.viewer import shell
from pid_jax.viewer.markup import Element
from pid_jax.viewer.markup import element
from pid_jax.viewer.markup import table

FILE = 'report.json'
PAGE = 'report.html'
_NO_FIGURES = (
  f'Figures are left out: matplotlib is not installed ({renderer.INSTALL}).'
)
_FORMULA_NOTE = (
  'Programs that stop after encode and after prefill tell the phases apart: '
  'short ones may drown in noise, even below zero; the figures below leave out '
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


def write(
  results: Mapping[str, Any], command: str, folder: epath.PathLike
) -> dict[str, Any]:
  """Writes report.json and report.html, and figures if there is matplotlib.

  Args:
    results: contents of comparison.json.
    command: that was run.
    folder: to write into.

  Returns:
    The report.
  """
  report = {
    **results,
    **output.stamp(command),
    'summary': summary_lib.summarize(results),
  }
  folder = epath.Path(folder)
  output.write_json(folder / FILE, report)
  files.write(folder / PAGE, page(report).encode())
  if renderer.is_installed():
    figures_lib.write(figures_lib.of_comparison(report), folder)
  return report


def page(report: Mapping[str, Any]) -> str:
  """Makes the page of a report.

  Args:
    report: of `write`.

  Returns:
    The whole document.
  """
  names = [label(arm) for arm in report['summary']]
  layouts = ', '.join(map(label, report['settings']['layouts']))
  sections = [
    element('h1', f'{layouts} on {report["task"]}'),
    _section(
      'What each buys and costs',
      table(['', *names], summary_lib.rows(report)),
      *[element('p', text) for text in summary_lib.notes(report)],
      _quiet(summary_lib.NOTE),
    ),
    *_with_figures(report),
    _section('How this was made', *map(_quiet, _origin(report))),
  ]
  return shell.page(
    f'Comparison on {report["task"]}', [element('main', *sections)]
  )


def _with_figures(report: Mapping[str, Any]) -> list[Element]:
  """The sections that show figures, where they can be drawn."""
  drawn, notes = {}, []
  if renderer.is_installed():
    drawn = {
      name: renderer.to_elements(panels, name)
      for name, panels in figures_lib.of_comparison(report).items()
    }
  else:
    notes = [_quiet(_NO_FIGURES)]

  def charts(*names: str) -> list[Element]:
    found = [figure for name in names for figure in drawn.get(name, ())]
    return [element('div', *found, class_='charts wide')] if found else notes

  sections = []
  if report['runs']:
    sections.append(_section('Quality against cost', *charts('quality')))
  sections.append(
    _section(
      'Time to answer by phase',
      *charts('phases'),
      table(['ms', *costs.PHASES, 'all'], _phase_rows(report)),
      _quiet(_FORMULA_NOTE),
    )
  )
  for letter, sweep in workloads.SWEEPS.items():
    if len(summary_lib.swept(report, letter)) > 1:
      names = f'inference_over_{letter}', f'phases_over_{letter}'
      title = f'Time to answer over {sweep.label}'
      sections.append(_section(title, *charts(*names)))
  missing = report['roofline']['tpu'].get('missing')
  sections.append(
    _section(
      'Roofline',
      *charts('roofline'),
      _quiet(_ROOFLINE_NOTE),
      *_roofline_tables(report),
      *([_quiet(f'No TPU: {missing}.')] if missing else []),
    )
  )
  return sections


def _section(title: str, *parts: Element) -> Element:
  return element('section', element('h2', title), *parts)


def _quiet(text: str) -> Element:
  return element('p', text, class_='quiet')


def _phase_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
  """Milliseconds of the task's phases, and what the formulas allow."""
  rows = []
  for arm, row in report['inference']['task']['contenders'].items():
    for kind, suffix in (('measured', ''), ('floor', ' by formula')):
      phases = row['phases'][kind]
      times = [phases[phase] for phase in costs.PHASES]
      cells = [f'{1000 * seconds:.2f}' for seconds in (*times, sum(times))]
      rows.append((label(arm) + suffix, cells))
  return rows


def _roofline_tables(report: Mapping[str, Any]) -> list[Element]:
  """FLOPs for each byte: a table for each machine."""
  tables = []
  for machine in roofline.machines(report):
    unit, scale = roofline.unit(machine)
    rows = [
      (
        f'{label(point.layout)}, {point.phase}',
        _cells(machine, point, scale),
      )
      for point in machine.points
    ]
    head = ['FLOP/byte by formula', 'by the compiler', 'bound by']
    tables += [
      element('h3', machine.name),
      table(['', *head, f'{unit} allowed', 'measured'], rows),
    ]
  return tables


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
