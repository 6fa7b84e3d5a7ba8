# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the three layouts bought and cost, in figures, a table and sentences."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
import statistics
from typing import Any

from pid_jax import config as config_lib
from pid_jax import costs

NAMES = {'pid': 'PiD', 'pie': 'PiE', 'joint': 'joint'}
NOTE = (
  'Updates and answers were timed in turns. Answers are to random weights: the '
  'same prompts and numbers of tokens for all, the greatest that the task '
  'allows. FLOPs are those of matrix products, by formula, padding included, '
  'without the optimizer.'
)


def summarize(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
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
  """Lays a report out as text, with sentences that may be quoted."""
  head = [
    f'{report["task"]}; {len(report["runs"])} training runs; equal '
    f'{report["settings"]["equal"]}',
    '',
  ]
  names = [NAMES[layout] for layout in report['summary']]
  body = [
    f'{label:<34}' + ''.join(f'{cell:>14}' for cell in cells)
    for label, cells in [('', names), *rows(report)]
  ]
  return '\n'.join([*head, *body, '', *sentences(report), NOTE])


def rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
  """The lines of the table: a label, and a cell for each layout."""
  summary, metric = report['summary'], metric_of(report)
  lines = []

  def line(label: str, write: Callable[[Mapping[str, Any]], str]) -> None:
    lines.append((label, [write(row) for row in summary.values()]))

  if report['runs']:
    of = lambda row: row['quality'].get(metric)
    line(f'{metric}, mean', lambda row: _mean(of(row)))
    line('  least to most', lambda row: _range(of(row)))
  line('updates', lambda row: f'{row["updates"]:,}')
  line('seconds of an update', lambda row: f'{row["update_seconds"]:.3g}')
  line('inputs a second', lambda row: f'{row["inputs_per_second"]:.3g}')
  line('GFLOP of an update', lambda row: f'{row["update_flops"] / 1e9:.3g}')
  line('padding of a batch', lambda row: f'{100 * row["padding"]:.0f} %')
  for job in report['inference']:
    line(
      f'answering, {job}',
      lambda row, job=job: f'{1000 * row["inference"][job]:.1f} ms',
    )
  return lines


def sentences(report: Mapping[str, Any]) -> list[str]:
  """What may be quoted, and where PiD loses."""
  summary, metric = report['summary'], metric_of(report)
  said, pid = [], summary['pid']
  for layout, other in summary.items():
    if layout == 'pid':
      continue
    name = NAMES[layout]
    training = other['update_seconds'] / pid['update_seconds']
    answering = other['inference']['task'] / pid['inference']['task']
    text = (
      f'On {report["task"]} an update of {name} takes {training:.2f} times as '
      f'long as one of PiD and answering {answering:.2f} times as long'
    )
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


def metric_of(report: Mapping[str, Any]) -> str | None:
  """The metric that models are chosen by, or else the first one."""
  names = sorted(
    n for row in report['summary'].values() for n in row['quality']
  )
  return report['metric'] or (names[0] if names else None)


def spread_curve(
  report: Mapping[str, Any], layout: str, metric: str
) -> list[tuple[int, list[float]]]:
  """A metric's values in the runs of a layout: (update, one of each run).

  Updates at which not all runs were evaluated are left out.
  """
  curves = [
    dict(run['curves'].get(metric, []))
    for run in report['runs'].values()
    if run['layout'] == layout
  ]
  common = set.intersection(*map(set, curves)) if curves else set()
  return [(x, [curve[x] for curve in curves]) for x in sorted(common)]


def _mean(values: list[float] | None) -> str:
  return f'{statistics.mean(values):.4f}' if values else '-'


def _range(values: list[float] | None) -> str:
  return f'{min(values):.3f}-{max(values):.3f}' if values else '-'
