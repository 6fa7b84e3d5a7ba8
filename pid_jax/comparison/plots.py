# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a comparison, as SVG and PNG; needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
import statistics
from typing import Any

from etils import epath

from pid_jax.benchmarks import plots
from pid_jax.comparison import roofline
from pid_jax.comparison import summary as summary_lib

_PHASES = ('encode', 'prefill', 'steps')
_COLOURS = {'pid': 'C0', 'pie': 'C1', 'joint': 'C2'}
_MARKERS = {'encode': 's', 'prefill': '^', 'step': 'o'}


def write(report: Mapping[str, Any], folder: epath.PathLike) -> list[str]:
  """Draws what a report has data for.

  Args:
    report: of `report.write`.
    folder: to write into.

  Returns:
    The names of the files.
  """
  folder, figures = epath.Path(folder), {}
  if report['runs']:
    figures['quality'] = _quality(report)
  figures['phases'] = _phases(report)
  for letter in summary_lib.SWEEPS:
    found = summary_lib.swept(report, letter)
    if len(found) > 1:
      points = [job for _, job in found]
      figures[f'inference_over_{letter}'] = plots.speed_up(
        points, letter, summary_lib.name_of
      )
      figures[f'phases_over_{letter}'] = _phases_over(report, letter, found)
  figures['roofline'] = _roofline(report)
  return [
    file
    for name, figure in figures.items()
    for file in plots.save(figure, folder, name)
  ]


def _quality(report: Mapping[str, Any]):
  """Mean and spread of the chosen metric, over updates, FLOPs and time."""
  metric, summary = summary_lib.metric_of(report), report['summary']
  scales = summary_lib.TRAINING_COSTS
  figure = plots.new_figure((10, 3.6))
  axes = figure.subplots(1, len(scales), sharey=True)
  for ax, (unit, scale) in zip(axes, scales.items(), strict=True):
    for arm, row in summary.items():
      points = summary_lib.spread_curve(report, arm, metric)
      xs = [x * scale(row) for x, _ in points]
      means = [statistics.mean(values) for _, values in points]
      name = summary_lib.name_of(arm)
      (line,) = ax.plot(xs, means, marker='o', label=name)
      ax.fill_between(
        xs,
        [min(values) for _, values in points],
        [max(values) for _, values in points],
        color=line.get_color(),
        alpha=0.2,
        linewidth=0,
      )
    ax.set_xlabel(unit)
  axes[0].set_ylabel(metric.replace('_', ' '))
  handles, names = axes[0].get_legend_handles_labels()
  figure.legend(
    handles, names, loc='outside lower center', ncols=len(names), fontsize=8
  )
  return figure


def _phases(report: Mapping[str, Any]):
  """The phases of answering on the task, beside the least by formula."""
  contenders = report['inference']['task']['contenders']
  figure = plots.new_figure((7, 1 + 0.7 * len(contenders)))
  ax = figure.subplots()
  names = []
  for arm, row in contenders.items():
    for kind, said in (('measured', ''), ('floor', ', by formula')):
      left, place = 0.0, len(names)
      for phase, colour in zip(_PHASES, ('C3', 'C4', 'C5'), strict=True):
        width = max(1000 * row['phases'][kind][phase], 0.0)
        label = phase if not names else None
        ax.barh(place, width, left=left, color=colour, label=label)
        left += width
      names.append(summary_lib.name_of(arm) + said)
  ax.set_yticks(range(len(names)), names, fontsize=8)
  ax.invert_yaxis()
  ax.set_xlabel('milliseconds of answering all prompts to an input')
  ax.legend(fontsize=8)
  return figure


def _phases_over(report: Mapping[str, Any], letter: str, found):
  """Each phase over a sweep: measured, and the least by formula."""
  figure = plots.new_figure((10, 3.8))
  axes = figure.subplots(1, len(_PHASES))
  xs = [x for x, _ in found]
  for ax, phase in zip(axes, _PHASES, strict=True):
    for layout in report['settings']['layouts']:
      for kind, style, said in (
        ('measured', '-', ''),
        ('floor', '--', ', by formula'),
      ):
        points = summary_lib.phase_ms(found, layout, kind, phase)
        ax.plot(
          [x for x, _ in points],
          [ms for _, ms in points],
          linestyle=style,
          color=_COLOURS[layout],
          marker='o' if kind == 'measured' else None,
          label=summary_lib.name_of(layout) + said,
        )
    ax.set_title(phase, fontsize=10)
    ax.set_xscale('log', base=2)
    ax.set_yscale('log', base=2)
    ax.set_xticks(xs, [str(x) for x in xs])
    ax.yaxis.set_major_formatter('{x:g}')
    ax.set_xlabel(summary_lib.SWEEPS[letter])
  axes[0].set_ylabel('milliseconds')
  handles, names = axes[0].get_legend_handles_labels()
  figure.legend(handles, names, loc='outside lower center', ncols=3, fontsize=8)
  return figure


def _roofline(report: Mapping[str, Any]):
  """What machines allow, and where the phases of the layouts stand."""
  found = roofline.machines(report)
  figure = plots.new_figure((5 * len(found), 4.2))
  axes = figure.subplots(1, len(found), squeeze=False)[0]
  for ax, machine in zip(axes, found, strict=True):
    unit, scale = roofline.unit(machine)
    xs, ys = zip(*machine.roof(), strict=True)
    ax.plot(xs, [y / scale for y in ys], color='black', linewidth=1)
    for point, rate in machine.placed():
      ax.plot(
        point.intensity,
        rate / scale,
        linestyle='',
        marker=_MARKERS[point.phase],
        color=_COLOURS[point.layout],
        fillstyle='none' if point.measured is None else 'full',
        label=f'{summary_lib.name_of(point.layout)}, {point.phase}',
      )
    ax.set_title(machine.name, fontsize=9)
    ax.set_xscale('log')
    ax.set_yscale('log')
    ax.set_xlabel('FLOP for each byte, by formula')
    has_run = any(point.measured for point in machine.points)
    ax.set_ylabel(f'{unit}: allowed (line)' + ', measured' * has_run)
  handles, names = axes[0].get_legend_handles_labels()
  figure.legend(handles, names, loc='outside lower center', ncols=3, fontsize=8)
  return figure
