# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Quality and cost of each arm: in numbers, a table and notes on it."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import statistics
from typing import Any

from pid_jax import config as config_lib
from pid_jax.experiments import costs
from pid_jax.experiments import timer
from pid_jax.experiments.layouts import Sizes
from pid_jax.experiments.layouts import label

# Of an arm's row of `summarize`, what an update costs.
TRAINING_COSTS = {
  'updates': lambda row: 1,
  'TFLOP, by formula': lambda row: row['update_flops'] / 1e12,
  'minutes of training': lambda row: row['update_seconds'] / 60,
}
NOTE = (
  'Updates and answers were timed in turns. Answers are of random weights, and '
  'of the sizes that the task has in the mean: the tokens of an input, of its '
  'longest prompt and of its longest answer; joint writes all of them as one. '
  'FLOPs are those of matrix products, by formula, padding included, without '
  'the optimizer.'
)
_STILL_RISING = 0.01
# True of the method, whatever was measured.
LIMITS = (
  'Where PiD has nothing to win: with one prompt to an input (U = 1) all three '
  'do the same work; inputs of a few tokens cost little to encode again; and a '
  'task whose prompt should decide what is read from the text may be better '
  'answered by PiE, since PiD encodes the text before it knows the prompt.'
)


def summarize(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
  """Returns quality and cost of each arm.

  Args:
    results: contents of comparison.json, with `inference`.

  Returns:
    By arm:
      num_prompts        to an input
      quality            metric -> its last value in each run
      inference          job -> median seconds, of those jobs that it was in
    and, unless there is nothing to train on,
      updates            of a run
      update_seconds     median, of updates timed in turns
      update_flops       of matrix products, by formula; rows as they are run
      inputs_per_second  in training
      padding            share of all tokens of a batch that are none
  """
  settings, by_arm = results['settings'], {}
  task = results['inference']['task']
  for arm in [*settings['layouts'], *settings['granularities']]:
    runs = [run for run in results['runs'].values() if run['arm'] == arm]
    metrics = sorted({name for run in runs for name in run['curves']})
    by_arm[arm] = {
      'num_prompts': task['contenders'][arm]['sizes']['num_prompts'],
      'quality': {
        metric: [
          run['curves'][metric][-1][1]
          for run in runs
          if metric in run['curves']
        ]
        for metric in metrics
      },
      'inference': {
        name: job['contenders'][arm]['seconds']['median']
        for name, job in results['inference'].items()
        if arm in job['contenders']
      },
    }
    if results['update_seconds']:
      by_arm[arm] |= _training(results, arm)
  return by_arm


def _training(results: Mapping[str, Any], arm: str) -> dict[str, Any]:
  config = config_lib.T5Config.from_dict(results['model'])
  seconds = results['update_seconds'][arm]['median']
  # Of the first seed; others differ by a few rows.
  name = next(n for n in results['shapes'] if n.startswith(f'{arm}-'))
  shape, num_updates = results['shapes'][name], int(name.split('-')[-1])
  rows, encoder, decoder = (
    shape[k] for k in ('rows', 'encoder_length', 'decoder_length')
  )
  real = shape['encoder_tokens'] + shape['decoder_tokens']
  return {
    'updates': results['updates'][arm],
    'update_seconds': seconds,
    'update_flops': costs.train_step(config, rows, encoder, decoder).flops,
    'inputs_per_second': shape['inputs'] / num_updates / seconds,
    'padding': 1 - real / (num_updates * rows * (encoder + decoder)),
  }


def table(report: Mapping[str, Any]) -> str:
  """Lays a report out as text."""
  head = [
    f'{report["task"]}; {len(report["runs"])} training runs; equal '
    f'{report["settings"]["equal"]}',
    '',
  ]
  names = [label(arm) for arm in report['summary']]
  layouts = [label(layout) for layout in report['settings']['layouts']]
  body = [*_columns(names, rows(report)), '']
  if sweep_rows(report):
    body += [*_columns(layouts, sweep_rows(report)), '']
  return '\n'.join([*head, *body, *notes(report), NOTE])


def _columns(
  names: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]]
) -> list[str]:
  widths = [max(14, 2 + len(name)) for name in names]
  return [
    f'{title:<34}'
    + ''.join(f'{x:>{w}}' for x, w in zip(cells, widths, strict=True))
    for title, cells in [('', names), *lines]
  ]


def rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
  """The lines of the table: a label, and a cell for each arm."""
  summary, metric = report['summary'], metric_of(report)
  task, lines = report['inference']['task'], []

  def line(title: str, write: Callable[[Mapping[str, Any]], str]) -> None:
    lines.append((title, [write(row) for row in summary.values()]))

  line('prompts to an input', lambda row: str(row['num_prompts']))
  if report['runs']:
    of = lambda row: row['quality'].get(metric)
    line(f'{metric}, mean', lambda row: _mean(of(row)))
    line('from least to most', lambda row: _range(of(row)))
  if report['update_seconds']:
    least = summary['pid']['update_seconds']
    line('updates', lambda row: f'{row["updates"]:,}')
    line('seconds of an update', lambda row: f'{row["update_seconds"]:.3g}')
    line(
      'times those of PiD', lambda row: f'{row["update_seconds"] / least:.2f}'
    )
    line('inputs a second', lambda row: f'{row["inputs_per_second"]:.3g}')
    line('GFLOP of an update', lambda row: f'{row["update_flops"] / 1e9:.3g}')
    line('padding of a batch', lambda row: f'{100 * row["padding"]:.0f} %')
  line(
    'answering all prompts to an input',
    lambda row: _milliseconds(row['inference']['task']),
  )
  timed = [task['contenders'][arm] for arm in summary]
  lines.append(
    ('times that of PiD', [f'{row["ratio"]["median"]:.2f}' for row in timed])
  )
  for title, size in (
    ('tokens of an input', 'input_length'),
    ('tokens of a prompt', 'prompt_length'),
    ('tokens of an answer', 'new_tokens'),
  ):
    lines.append((title, [str(row['sizes'][size]) for row in timed]))
  return lines


def sweep_rows(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
  """The time to answer at each point of the sweeps, a cell for each layout."""
  summary, layouts = report['summary'], report['settings']['layouts']
  return [
    (
      f'answering, {job}',
      [_milliseconds(summary[layout]['inference'][job]) for layout in layouts],
    )
    for job in report['inference']
    if job != 'task'
  ]


def notes(report: Mapping[str, Any]) -> list[str]:
  """Returns what to know beside the table: above all, where PiD is slower."""
  said = []
  for arm in report['summary']:
    slower = [
      f'{name} ({1 / ratio:.2f} times as long)'
      for name, job in report['inference'].items()
      if arm in job['contenders']
      and (ratio := job['contenders'][arm]['ratio']['median']) < 1
    ]
    if slower:
      said.append(
        f'PiD answers slower than {label(arm)} at {", ".join(slower)}.'
      )
  if rises := _rises(report):
    by = ', '.join(f'{label(arm)} by {r:.3f}' for arm, r in rises.items())
    said.append(
      f'Between the last two evaluations {metric_of(report)} still rose ({by}'
      '): more updates may change the gaps.'
    )
  if not report['runs']:
    said.append(f'Costs alone: {report["untrained"]}.')
  return [*said, LIMITS]


def _rises(report: Mapping[str, Any]) -> dict[str, float]:
  """By how much the metric of an arm still rose at the end, where it did."""
  rises = {}
  for arm in report['summary']:
    means = [
      statistics.mean(values)
      for _, values in spread_curve(report, arm, metric_of(report))
    ]
    if len(means) > 1 and means[-1] - means[-2] >= _STILL_RISING:
      rises[arm] = means[-1] - means[-2]
  return rises


def metric_of(report: Mapping[str, Any]) -> str | None:
  """The metric that models are chosen by, or else the first one."""
  names = sorted(
    n for row in report['summary'].values() for n in row['quality']
  )
  return report['metric'] or (names[0] if names else None)


def spread_curve(
  report: Mapping[str, Any], arm: str, metric: str
) -> list[tuple[int, list[float]]]:
  """A metric's values in the runs of an arm: (update, one of each run).

  Updates at which not all runs were evaluated are left out.
  """
  curves = [
    dict(run['curves'].get(metric, []))
    for run in report['runs'].values()
    if run['arm'] == arm
  ]
  common = set.intersection(*map(set, curves)) if curves else set()
  return [(x, [curve[x] for curve in curves]) for x in sorted(common)]


def swept(
  report: Mapping[str, Any], letter: str
) -> list[tuple[int, Mapping[str, Any]]]:
  """The points of a sweep: its size, and the job."""
  return [
    (int(name.partition('=')[2]), job)
    for name, job in report['inference'].items()
    if name.startswith(f'{letter}=')
  ]


def gflops(
  config: config_lib.T5Config, layout: str, job: Mapping[str, Any]
) -> float:
  """GFLOP of a job, by formula."""
  sizes = Sizes(**job['contenders'][layout]['sizes'])
  return costs.generate(config, layout, sizes).total.flops / 1e9


def phase_ms(
  points: Sequence[tuple[int, Mapping[str, Any]]],
  arm: str,
  kind: str,
  phase: str,
) -> list[tuple[int, float]]:
  """Milliseconds of a phase over a sweep: (size, ms).

  Left out is what noise has swallowed (`timer.stands_out`), and what takes no
  time, such as the steps of answers of one token.

  Args:
    points: of `swept`; their jobs have the arm.
    arm: its name.
    kind: 'measured', or 'floor': the least by formula.
    phase: 'encode', 'prefill' or 'steps'.
  """
  found = []
  for x, job in points:
    phases = job['contenders'][arm]['phases']
    seconds, least = phases[kind][phase], phases['floor'][phase]
    if timer.stands_out(seconds, least):
      found.append((x, 1000 * seconds))
  return found


def _milliseconds(seconds: float) -> str:
  return f'{1000 * seconds:.1f} ms'


def _mean(values: list[float] | None) -> str:
  return f'{statistics.mean(values):.4f}' if values else '-'


def _range(values: list[float] | None) -> str:
  return f'{min(values):.3f}-{max(values):.3f}' if values else '-'
