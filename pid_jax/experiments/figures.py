# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the figures of a benchmark and of a comparison show.

A figure is its name and its panels; `viewer.figures` draws them, into files and
into the page.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import functools
import statistics
from typing import Any

from etils import epath

from pid_jax import config as config_lib
from pid_jax.experiments import costs
from pid_jax.experiments import roofline
from pid_jax.experiments import summary as summary_lib
from pid_jax.experiments import workloads
from pid_jax.experiments.layouts import label
from pid_jax.viewer.figures import Panel
from pid_jax.viewer.figures import Point
from pid_jax.viewer.figures import Series
from pid_jax.viewer.figures import save

Figures = dict[str, list[Panel]]

_GREY = 5  # Of base.css.
_BY_FORMULA = 'dashed: by formula'


def write(figures: Figures, folder: epath.PathLike) -> list[str]:
  """Writes each figure as NAME.svg and NAME.png; returns the names of files."""
  return [
    file
    for name, panels in figures.items()
    for file in save(panels, folder, name)
  ]


def of_benchmark(report: Mapping[str, Any]) -> Figures:
  """Returns the figures of a benchmark's report that it has data for.

  'latency' has the phases of each job beside the machine's floor;
  'speed_up_over_U' and the like a curve of each contender over a sweep;
  'end_to_end' the seconds of whole processes over texts.
  """
  figures: Figures = {}
  if report['jobs']:
    figures['latency'] = [
      _bars(
        f'{job["name"]}: ms by phase',
        {label(job['stepwise']): phases['measured'], 'floor': phases['floor']},
      )
      for job in report['jobs']
      for phases in [job['contenders'][job['stepwise']]['phases']]
    ]
  for letter in workloads.SWEEPS:
    prefix = f'sweep_{letter}_'
    points = [j for j in report['sweeps'] if j['name'].startswith(prefix)]
    if len(points) > 1:
      figures[f'speed_up_over_{letter}'] = [_ratios(points, letter)]
  rows = report['end_to_end']
  if len(rows) > 1:
    names = dict.fromkeys(name for row in rows for name in row['contenders'])
    # `predict` takes what the program does: more lines than there are colours.
    names = [name for name in names if not name.startswith('predict')]
    series = [
      Series(
        label(name),
        [
          (row['texts'], row['contenders'][name]['seconds']['median'])
          for row in rows
          if name in row['contenders']
        ],
      )
      for name in names
    ]
    figures['end_to_end'] = [
      Panel(
        'whole processes: seconds',
        series,
        x_label=f'texts, {rows[0]["prompts"]} prompts each',
        log_x=True,
        log_y=True,
      )
    ]
  return figures


def of_comparison(report: Mapping[str, Any]) -> Figures:
  """Returns the figures of a comparison's report that it has data for.

  'quality' over updates, FLOPs and minutes; 'phases' of answering on the task;
  over each sweep 'inference_over_U', relative to PiD, and 'phases_over_U', in
  milliseconds and GFLOP; 'roofline' of each machine.
  """
  figures: Figures = {}
  if report['runs']:
    figures['quality'] = _quality(report)
  contenders = report['inference']['task']['contenders']
  bars = {}
  for arm, row in contenders.items():
    bars[label(arm)] = row['phases']['measured']
    bars[f'{label(arm)} by formula'] = row['phases']['floor']
  figures['phases'] = [_bars('answering all prompts, ms by phase', bars)]
  for letter in workloads.SWEEPS:
    found = summary_lib.swept(report, letter)
    if len(found) > 1:
      points = [job for _, job in found]
      figures[f'inference_over_{letter}'] = [_ratios(points, letter)]
      figures[f'phases_over_{letter}'] = _phases_over(report, letter, found)
  figures['roofline'] = [
    _roofline(machine, report['settings']['layouts'])
    for machine in roofline.machines(report)
  ]
  return figures


def _bars(title: str, bars: Mapping[str, Mapping[str, float]]) -> Panel:
  """Stacked milliseconds of phases."""
  return Panel(
    title,
    bars={
      name: {p: max(1000 * phases[p], 0.0) for p in costs.PHASES}
      for name, phases in bars.items()
    },
  )


def _ratios(points: Sequence[Mapping[str, Any]], letter: str) -> Panel:
  """How many times as long as the reference each contender takes."""
  sweep = workloads.SWEEPS[letter]
  names = dict.fromkeys(n for job in points for n in job['contenders'])
  title = f'times as long as {label(points[0]["reference"])}'
  if not all(r['steady'] for j in points for r in j['contenders'].values()):
    title += ' (the machine changed its speed)'
  series = []
  for index, name in enumerate(names):
    found = [
      (job['sizes'][sweep.field], job['contenders'][name]['ratio'])
      for job in points
      if name in job['contenders']
    ]
    series.append(
      Series(
        label(name),
        [(x, ratio['median']) for x, ratio in found],
        spread=[(r['quartile_1'], r['quartile_3']) for _, r in found],
        colour=index,
      )
    )
  return Panel(title, series, x_label=sweep.label, log_x=True, log_y=True)


def _quality(report: Mapping[str, Any]) -> list[Panel]:
  """The chosen metric over each cost: mean over seeds, least to most shaded."""
  metric, panels = summary_lib.metric_of(report), []
  for unit, scale in summary_lib.TRAINING_COSTS.items():
    series = []
    for index, (arm, row) in enumerate(report['summary'].items()):
      points = summary_lib.spread_curve(report, arm, metric)
      if points:
        series.append(
          Series(
            label(arm),
            [(x * scale(row), statistics.mean(ys)) for x, ys in points],
            spread=[(min(ys), max(ys)) for _, ys in points],
            colour=index,
          )
        )
    if series:
      panels.append(Panel(f'{metric} over {unit}', series, x_label=unit))
  return panels


def _phases_over(
  report: Mapping[str, Any],
  letter: str,
  found: Sequence[tuple[int, Mapping[str, Any]]],
) -> list[Panel]:
  """Milliseconds of all phases and of each, and GFLOP, over a sweep."""
  config = config_lib.T5Config.from_dict(report['model'])
  lines = functools.partial(_lines, report['settings']['layouts'])
  panel = functools.partial(
    Panel, x_label=workloads.SWEEPS[letter].label, log_x=True, log_y=True
  )
  panels = [
    panel(
      'all phases, ms',
      lines(
        lambda layout: [
          (x, 1000 * job['contenders'][layout]['seconds']['median'])
          for x, job in found
        ]
      ),
    )
  ]
  for phase in costs.PHASES:
    of = functools.partial(summary_lib.phase_ms, found, phase=phase)
    series = [
      *lines(functools.partial(of, kind='measured')),
      *lines(functools.partial(of, kind='floor'), by_formula=True),
    ]
    if series:
      panels.append(panel(f'{phase}, ms ({_BY_FORMULA})', series))
  gflops = lambda layout: [
    (x, summary_lib.gflops(config, layout, job)) for x, job in found
  ]
  return [*panels, panel('GFLOP by formula', lines(gflops))]


def _lines(
  layouts: Sequence[str],
  points: Callable[[str], Sequence[Point]],
  by_formula: bool = False,
) -> list[Series]:
  """A line of each layout over the points of a sweep, if it has any."""
  return [
    Series(
      label(layout) + ' by formula' * by_formula,
      found,
      is_dashed=by_formula,
      colour=index,
    )
    for index, layout in enumerate(layouts)
    if (found := points(layout))
  ]


def _roofline(machine: roofline.Machine, layouts: Sequence[str]) -> Panel:
  """What a machine allows, and where the phases of the layouts are."""
  unit, scale = roofline.unit(machine)
  series = []
  for index, layout in enumerate(layouts):
    found = [
      (point.intensity, rate / scale, point.phase[0].upper())
      for point, rate in machine.placed()
      if point.layout == layout
    ]
    if found:
      xs, ys, letters = zip(*found, strict=True)
      points = list(zip(xs, ys, strict=True))
      series.append(Series(label(layout), points, labels=letters, colour=index))
  roof = [(x, y / scale) for x, y in machine.roof()]
  series.append(Series('roof', roof, colour=_GREY))
  return Panel(
    f'{machine.name}: {unit}',
    series,
    x_label='FLOP for each byte, by formula',
    log_x=True,
    log_y=True,
  )
