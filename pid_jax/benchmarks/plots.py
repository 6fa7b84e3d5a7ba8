# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a report, as SVG and PNG; needs matplotlib."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import importlib.util
from typing import Any

from etils import epath

_PHASES = ('encode', 'prefill', 'steps')
_COLOURS = ('#4c72b0', '#dd8452', '#55a868')
_LETTERS = {
  'U': 'prompts to the input, U',
  'S': 'tokens of the input, S',
  'T': 'generated tokens, T',
  'B': 'inputs, B',
}
_SIZES = {
  'U': 'num_prompts',
  'S': 'input_length',
  'T': 'new_tokens',
  'B': 'num_inputs',
}


def is_installed() -> bool:
  """Whether there is something to draw with."""
  return importlib.util.find_spec('matplotlib') is not None


def write(report: Mapping[str, Any], folder: epath.Path) -> list[str]:
  """Draws what a report has data for.

  Args:
    report: of `report.assemble`.
    folder: to write into.

  Returns:
    The names of the files.
  """
  written = []
  if report['jobs']:
    figure = _latency(report['jobs'])
    written += save(figure, folder, 'latency')
  for letter in _LETTERS:
    prefix = f'sweep_{letter}_'
    points = [j for j in report['sweeps'] if j['name'].startswith(prefix)]
    if len(points) > 1:
      figure = speed_up(points, letter)
      written += save(figure, folder, f'speed_up_over_{letter}')
  return written


def _latency(jobs: Sequence[Mapping[str, Any]]):
  """Seconds of PiD by phase, beside the machine's floor.

  Every job has its own scale: they differ by factors of ten.
  """
  figure = new_figure((2.4 * len(jobs) + 1, 3.6))
  axes = figure.subplots(1, len(jobs), squeeze=False)[0]
  for ax, job in zip(axes, jobs, strict=True):
    bars = {job['stepwise']: job['phases'], 'floor': job['floor']['phases']}
    bottoms = [0.0] * len(bars)
    for phase, colour in zip(_PHASES, _COLOURS, strict=True):
      heights = [1000 * phases[phase] for phases in bars.values()]
      ax.bar(list(bars), heights, bottom=bottoms, color=colour, label=phase)
      bottoms = [b + h for b, h in zip(bottoms, heights, strict=True)]
    ax.set_title(_title(job), fontsize=9)
  axes[0].set_ylabel('milliseconds, median')
  axes[0].legend(fontsize=8)
  return figure


def speed_up(
  points: Sequence[Mapping[str, Any]],
  letter: str,
  name_of: Callable[[str], str] = str,
):
  """How many times as long as the reference each contender takes.

  Args:
    points: the jobs of a sweep.
    letter: what it goes over.
    name_of: what a contender is called in the picture.
  """
  figure = new_figure((5.2, 4.2))
  ax = figure.subplots()
  sizes = [job['sizes'][_SIZES[letter]] for job in points]
  names = dict.fromkeys(n for job in points for n in job['contenders'])
  reference = points[0]['reference']
  for name in names:
    found = [
      (size, job['contenders'][name]['ratio'])
      for size, job in zip(sizes, points, strict=True)
      if name in job['contenders']
    ]
    xs = [size for size, _ in found]
    medians = [r['median'] for _, r in found]
    line = ax.plot(xs, medians, marker='o', label=name_of(name))
    ax.fill_between(
      xs,
      [r['quartile_1'] for _, r in found],
      [r['quartile_3'] for _, r in found],
      color=line[0].get_color(),
      alpha=0.2,
      linewidth=0,
    )
  ax.set_xscale('log', base=2)
  ax.set_yscale('log', base=2)
  ax.set_xticks(sizes, [str(size) for size in sizes])
  ax.yaxis.set_major_formatter('{x:g}')
  ax.set_xlabel(_LETTERS[letter])
  ax.set_ylabel(f'times as long as {name_of(reference)}')
  figure.legend(loc='outside lower center', ncols=2, fontsize=7)
  if not all(_is_steady(job) for job in points):
    ax.set_title('the machine changed its speed meanwhile', fontsize=9)
  return figure


def _title(job: Mapping[str, Any]) -> str:
  sizes = {k: job['sizes'][v] for k, v in _SIZES.items()}
  shape = ', '.join(f'{k}={v}' for k, v in sizes.items())
  return f'{job["name"]}\n{shape}'


def _is_steady(job: Mapping[str, Any]) -> bool:
  return all(row['steady'] for row in job['contenders'].values())


def new_figure(size: tuple[float, float]):
  """Returns an empty figure of a size in inches."""
  from matplotlib import figure  # No pyplot: no display, no global state.

  return figure.Figure(figsize=size, layout='constrained')


def save(figure, folder: epath.Path, name: str) -> list[str]:
  """Writes NAME.svg and NAME.png; returns their names."""
  names = [f'{name}.svg', f'{name}.png']
  for file in names:
    figure.savefig(folder / file, dpi=150)
  return names
