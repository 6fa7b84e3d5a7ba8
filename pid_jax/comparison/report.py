# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The files of a report: report.json, report.html, and plots.

report.json holds what comparison.json holds, and `summary`: what the layouts
bought and cost, in figures that need no further computing.
"""

from __future__ import annotations

from collections.abc import Mapping
import datetime
import json
from typing import Any

from etils import epath

from pid_jax import atomic
from pid_jax.benchmarks import plots as benchmark_plots
from pid_jax.benchmarks import report as benchmark_report
from pid_jax.comparison import page
from pid_jax.comparison import plots
from pid_jax.comparison import summary

FILE = 'report.json'
PAGE = 'report.html'


def write(
  results: Mapping[str, Any], command: str, folder: epath.PathLike
) -> dict[str, Any]:
  """Writes report.json, report.html, and plots if there is matplotlib.

  Args:
    results: contents of comparison.json.
    command: that was run.
    folder: to write into.

  Returns:
    The report.
  """
  now = datetime.datetime.now(datetime.UTC)
  report = {
    **results,
    'command': command,
    'date': now.isoformat(timespec='seconds'),
    'versions': benchmark_report.versions(),
    'summary': summary.summarize(results),
  }
  folder = epath.Path(folder)
  text = json.dumps(report, indent=1) + '\n'
  atomic.write(folder / FILE, text.encode())
  atomic.write(folder / PAGE, page.page(report).encode())
  if benchmark_plots.is_installed():
    plots.write(report, folder)
  return report
