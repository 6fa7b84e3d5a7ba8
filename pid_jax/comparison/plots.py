# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a comparison, as SVG and PNG; needs matplotlib."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from etils import epath

from pid_jax.benchmarks import plots
from pid_jax.comparison import summary as summary_lib


def write(report: Mapping[str, Any], folder: epath.PathLike) -> list[str]:
  """Draws quality against cost, and the time to answer over each sweep.

  Args:
    report: of `report.write`.
    folder: to write into.

  Returns:
    The names of the files.
  """
  folder, written = epath.Path(folder), []
  if report['runs']:
    written += plots.save(_quality(report), folder, 'quality')
  for letter in 'USB':
    points = [
      job
      for name, job in report['inference'].items()
      if name.startswith(f'{letter}=')
    ]
    if len(points) > 1:
      figure = plots.speed_up(points, letter)
      written += plots.save(figure, folder, f'inference_over_{letter}')
  return written


def _quality(report: Mapping[str, Any]):
  """Mean and spread of the chosen metric, over updates, FLOPs and time."""
  metric, summary = summary_lib.metric_of(report), report['summary']
  scales = {
    'updates': lambda row: 1,
    'TFLOP, by formula': lambda row: row['update_flops'] / 1e12,
    'minutes of training': lambda row: row['update_seconds'] / 60,
  }
  figure = plots.new_figure((10, 3.4))
  axes = figure.subplots(1, len(scales), sharey=True)
  for ax, (unit, scale) in zip(axes, scales.items(), strict=True):
    for layout, row in summary.items():
      points = summary_lib.spread_curve(report, layout, metric)
      xs = [x * scale(row) for x, _ in points]
      means = [sum(values) / len(values) for _, values in points]
      (line,) = ax.plot(xs, means, marker='o', label=summary_lib.NAMES[layout])
      ax.fill_between(
        xs,
        [min(values) for _, values in points],
        [max(values) for _, values in points],
        color=line.get_color(),
        alpha=0.2,
        linewidth=0,
      )
    ax.set_xlabel(unit)
  axes[0].set_ylabel(metric)
  axes[0].legend(fontsize=8)
  return figure
