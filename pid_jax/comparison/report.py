# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""report.json, and the table that is printed.

The file holds what comparison.json holds, and `summary`: what the three layouts
bought and cost, in figures that need no further computing.
"""

from __future__ import annotations

from collections.abc import Mapping
import datetime
import json
import statistics
from typing import Any

from etils import epath

from pid_jax import atomic
from pid_jax import config as config_lib
from pid_jax import costs
from pid_jax.benchmarks import report as benchmark_report

FILE = 'report.json'
_NAMES = {'pid': 'PiD', 'pie': 'PiE', 'joint': 'joint'}


def write(
  results: Mapping[str, Any], command: str, folder: epath.PathLike
) -> dict[str, Any]:
  """Writes report.json.

  Args:
    results: contents of comparison.json, with `inference`.
    command: that was run.
    folder: to write into.

  Returns:
    The report.
  """
  now = datetime.datetime.now(datetime.timezone.utc)
  report = {
    **results,
    'command': command,
    'date': now.isoformat(timespec='seconds'),
    'versions': benchmark_report.versions(),
    'summary': summary(results),
  }
  text = json.dumps(report, indent=1) + '\n'
  atomic.write(epath.Path(folder) / FILE, text.encode())
  return report


def summary(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """What each layout bought and cost.

  Args:
    results: contents of comparison.json, with `inference`.

  Returns:
    By layout:
      quality            metric -> its last value in each run
      updates            of a run
      update_seconds     median, of updates timed in turns
      update_flops       of matrix products, by formula; rows as they are run
      inputs_per_second  in training
      padding            share of all tokens of a batch that are none
      inference          job -> median seconds
  """
  config = config_lib.T5Config.from_dict(results['model'])
  by_layout = {}
  for layout, seconds in results['update_seconds'].items():
    runs = [r for r in results['runs'].values() if r['layout'] == layout]
    # Of the first seed; others differ by a few rows.
    name = next(n for n in results['shapes'] if n.startswith(f'{layout}-'))
    shape, num_updates = results['shapes'][name], int(name.split('-')[-1])
    rows, encoder, decoder = (
      shape[k] for k in ('rows', 'encoder_length', 'decoder_length')
    )
    work = costs.train_step(config, rows, encoder, decoder)
    real = shape['encoder_tokens'] + shape['decoder_tokens']
    metrics = sorted({name for run in runs for name in run['curves']})
    by_layout[layout] = {
      'quality': {
        metric: [
          run['curves'][metric][-1][1]
          for run in runs
          if metric in run['curves']
        ]
        for metric in metrics
      },
      'updates': results['updates'][layout],
      'update_seconds': seconds['median'],
      'update_flops': work.flops,
      'inputs_per_second': shape['inputs'] / num_updates / seconds['median'],
      'padding': 1 - real / (num_updates * rows * (encoder + decoder)),
      'inference': {
        job['name']: job['contenders'][layout]['seconds']['median']
        for job in results['inference'].values()
      },
    }
  return by_layout


def table(report: Mapping[str, Any]) -> str:
  """Lays a report out as text, with a sentence that may be quoted."""
  rows, metric = report['summary'], _metric(report)
  lines = [
    f'{report["task"]}; {len(report["runs"])} training runs; equal '
    f'{report["settings"]["equal"]}',
    '',
    f'{"":<34}' + ''.join(f'{_NAMES[layout]:>14}' for layout in rows),
  ]

  def line(label: str, write) -> None:
    cells = ''.join(f'{write(row):>14}' for row in rows.values())
    lines.append(f'{label:<34}{cells}')

  if report['runs']:
    line(f'{metric}, mean', lambda row: _mean(row['quality'].get(metric)))
    line('  least to most', lambda row: _range(row['quality'].get(metric)))
  line('updates', lambda row: f'{row["updates"]:,}')
  line('seconds of an update', lambda row: f'{row["update_seconds"]:.3g}')
  line('inputs per second in training', lambda row: _short(row))
  line('GFLOP of an update, by formula', lambda row: _giga(row))
  line('padding of a batch', lambda row: f'{100 * row["padding"]:.0f} %')
  jobs = next(iter(rows.values()))['inference']
  for job in jobs:
    line(
      f'inference, {job}',
      lambda row, job=job: f'{1000 * row["inference"][job]:.1f} ms',
    )
  lines += ['', *_sentences(report)]
  return '\n'.join(lines)


def _sentences(report: Mapping[str, Any]) -> list[str]:
  """What may be quoted, and what must be said besides."""
  rows, metric = report['summary'], _metric(report)
  said = []
  pid = rows['pid']
  for layout in rows:
    if layout == 'pid':
      continue
    other, name = rows[layout], _NAMES[layout]
    training = _times(other['update_seconds'] / pid['update_seconds'])
    parts = [f'an update of {name} takes {training} as long as one of PiD']
    if 'task' in pid['inference']:
      ratio = other['inference']['task'] / pid['inference']['task']
      parts.append(f'answering {_times(ratio)} as long')
    text = f'On {report["task"]} {" and ".join(parts)}'
    ours, theirs = (row['quality'].get(metric) for row in (pid, other))
    if ours and theirs:
      gap = statistics.mean(ours) - statistics.mean(theirs)
      text += (
        f'; {metric} {statistics.mean(ours):.3f} for PiD against '
        f'{statistics.mean(theirs):.3f} ({gap:+.3f})'
      )
      if gap < 0:
        text += ': here PiD loses'
    said.append(text + '.')
    slower = [
      job for job, s in other['inference'].items() if s < pid['inference'][job]
    ]
    if slower:
      said.append(f'PiD is slower than {name} in {", ".join(slower)}.')
  if not report['runs']:
    said.append(
      'Costs alone: the task has no metrics, so that nothing was trained.'
    )
  return said


def _metric(report: Mapping[str, Any]) -> str | None:
  """The metric that models are chosen by, or else the first one."""
  names = sorted(
    n for row in report['summary'].values() for n in row['quality']
  )
  return report['metric'] or (names[0] if names else None)


def _mean(values: list[float] | None) -> str:
  return f'{statistics.mean(values):.4f}' if values else '-'


def _range(values: list[float] | None) -> str:
  return f'{min(values):.3f}-{max(values):.3f}' if values else '-'


def _short(row: Mapping[str, Any]) -> str:
  return f'{row["inputs_per_second"]:.3g}'


def _giga(row: Mapping[str, Any]) -> str:
  return f'{row["update_flops"] / 1e9:.3g}'


def _times(ratio: float) -> str:
  return f'{ratio:.2f} times'
