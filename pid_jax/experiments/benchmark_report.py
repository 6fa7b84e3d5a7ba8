# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""benchmark.json, and the table that is printed.

Other programs read the file, years later. It holds:

  format, command, date (UTC, ISO 8601), versions of the packages
  threads       of every contender
  machine       of `machine.describe`, and 'probe' at the start
  missing       baseline -> packages that it lacks, so that it was not run
  tpu           of `benchmarking.analyse_tpu`, or null
  end_to_end    list of numbers of texts, of each:
    texts, prompts (of each text)
    contenders  name -> of a process seconds (see below); phases, the seconds of
                each in one run, none of `predict`; programs, the number of
                those compiled or read from the cache and the seconds of each
                part, or null; equal_answers, the share of outputs that are
                those of the weights
    skipped     name -> seconds that it would have taken, which are too many
  jobs, sweeps  lists of jobs, of each:
    name, summary, sizes (fields of `layouts.Sizes`), model (T5Config.to_dict())
    weights     'random' or 'synthetic' ('planted' in older files)
    lengths     [B][U] generated tokens
    reference   the contender that ratios are to
    stepwise    the contender that is profiled: PiD without drafts
    rounds      turns in their order, with probes in FLOP/s (float32 products)
                and bytes/s (reading); 'X: encode' and 'X: encode_and_prefill'
                are parts of X
    contenders  name -> seconds and ratio (see below), sizes of this contender
      steady        whether the machine kept its speed in at least two
                    comparisons: `ratio` is of those alone then; else it is of
                    all, and less sure
      equal_tokens  the share of tokens that are equal to those of synthetic
                    weights, or to those of this library in the same layout;
                    null if neither exists
      phases        measured and floor, seconds by phase: floor is the least
                    that this machine needs; over_floor, the ratio of the whole;
                    null where phases were not timed
    work        layout -> `aot.compile_phases`; empty in sweeps
    profile     of `profiling.profile`; null in sweeps

Seconds and ratios are `timer.spread`s. A ratio is how many times as long as the
job's reference a contender took, in the median over comparisons: above 1 the
reference is faster.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax.experiments import end_to_end
from pid_jax.experiments import machine
from pid_jax.experiments import output
from pid_jax.experiments import timer
from pid_jax.viewer import figures

FILE = 'benchmark.json'
_FORMAT = 3

_UNSTEADY = 'UNSURE: the machine changed its speed'


def check_folder(folder: epath.Path) -> None:
  """Raises UserError if a folder holds a report."""
  if (folder / FILE).exists():
    raise errors.UserError(
      f'{folder / FILE} exists; name another --output, or remove it'
    )


def write(
  results: Mapping[str, Any],
  tpu: dict | None,
  command: str,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes benchmark.json, whole or not at all; returns what is in it.

  Args:
    results: of `benchmarking.run`.
    tpu: of `benchmarking.analyse_tpu`, or None.
    command: that was run.
    folder: of `check_folder`.
  """
  report = {
    'format': _FORMAT,
    **output.stamp(command),
    'threads': machine.num_cores(),
    **results,
    'tpu': tpu,
  }
  output.write_json(folder / FILE, report)
  return report


def table(report: Mapping[str, Any]) -> str:
  """Returns a report as text; the ratios are what counts."""
  described = report['machine']
  rate, bandwidth = (described['probe'][k] for k in ('flop_rate', 'bandwidth'))
  lines = [
    f'{described["processor"]}, {report["threads"]} threads for all; '
    f'float32 products {rate / 1e9:.0f} GFLOP/s, reading '
    f'{bandwidth / 1e9:.0f} GB/s',
    *_rows_lines(described['gflops_by_rows']),
    '',
  ]
  if report['jobs'] or report['sweeps']:
    lines.append(
      f'{"job":<14}{"contender":<26}{"median":>10}{"times as long":>24}'
    )
  for job in (*report['jobs'], *report['sweeps']):
    lines += _job_lines(job)
  if report['end_to_end']:
    lines += [*_end_to_end_lines(report['end_to_end']), '']
  if report['tpu']:
    lines += [*_tpu_lines(report['tpu']), '']
  lines += _missing_lines(report['missing'])
  return '\n'.join(lines).rstrip()


def _rows_lines(rates: Mapping[str, Mapping[str, float]]) -> list[str]:
  lines = []
  for name, by_rows in rates.items():
    each = ', '.join(f'{v:.0f} ({rows})' for rows, v in by_rows.items())
    library = name.partition('_')[0]
    lines.append(f'products of few rows, {library}: GFLOP/s (rows) {each}')
  return lines


def _job_lines(job: Mapping[str, Any]) -> list[str]:
  lines, reference = [], job['reference']
  for name, row in job['contenders'].items():
    ratio, notes = row['ratio'], []
    if name != reference and ratio['median'] < 1:
      notes.append(f'FASTER than {reference}')
    if row['equal_tokens'] not in (None, 1.0):
      notes.append(f'{100 * row["equal_tokens"]:.1f} % of tokens equal')
    if not row['steady']:
      notes.append(_UNSTEADY)
    lines.append(_line(job, name, _time(row['seconds']), ratio, notes))
  stepwise = job['contenders'][job['stepwise']]
  phases = stepwise['phases']
  ratios = []
  for phase, least in phases['floor'].items():
    seconds = phases['measured'][phase]
    if timer.stands_out(seconds, least):
      ratios.append(f'{phase} {seconds / least:.1f}')
    elif least:
      ratios.append(f'{phase} lost in noise')
  notes = [', '.join(ratios)]
  if not stepwise['steady']:
    notes.append(_UNSTEADY)
  name = f'{job["stepwise"]} over the floor'
  lines.append(_line(job, name, '', phases['over_floor'], notes))
  if job['profile']:
    lines.append(f'{job["name"]:<14}{_profile(job["profile"])}')
  return [*lines, '']


def _profile(profile: Mapping[str, Mapping[str, float]]) -> str:
  """Shares of phases and their parts in percent, the greatest first."""
  percent = lambda share: f'{100 * share:.0f}'
  phases = []
  for phase, parts in profile.items():
    ordered = sorted(parts.items(), key=lambda item: -item[1])
    each = ', '.join(f'{part} {percent(share)}' for part, share in ordered)
    phases.append(f'{phase} {percent(sum(parts.values()))} % ({each})')
  return '; '.join(phases)


def _line(
  job: Mapping[str, Any],
  name: str,
  time: str,
  ratio: Mapping[str, float],
  notes: Sequence[str],
) -> str:
  spread = f'{ratio["quartile_1"]:.2f} to {ratio["quartile_3"]:.2f}'
  ratio = f'{ratio["median"]:.2f} ({spread})'
  line = f'{job["name"]:<14}{name:<26}{time:>10}{ratio:>24}'
  return f'{line}  {"; ".join(notes)}'.rstrip()


def _time(spread: Mapping[str, float]) -> str:
  seconds = spread['median']
  return f'{1000 * seconds:.1f} ms' if seconds < 1 else f'{seconds:.2f} s'


def _end_to_end_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Seconds over texts, the phases of the most texts, and who is faster."""
  names = list(
    dict.fromkeys(name for row in rows for name in row['contenders'])
  )
  counts = ''.join(f'{row["texts"]:>9,}' for row in rows)
  lines = [f'{"whole processes, seconds":<26}{counts} texts']
  for name in names:
    cells = [
      f'{row["contenders"][name]["seconds"]["median"]:>9.1f}'
      if name in row['contenders']
      else f'{"over " + format(row["skipped"][name], ".0f"):>9}'
      for row in rows
    ]
    lines.append(f'{name:<26}{"".join(cells)}')
  phases = end_to_end.PHASES
  lines += ['', f'{"texts":<8}{"phases, seconds":<26}' + ''.join(
    f'{phase:>8}' for phase in phases
  )]  # fmt: skip
  for row in rows:
    for name, found in row['contenders'].items():
      if found['phases']:
        cells = ''.join(f'{found["phases"][p]:>8.2f}' for p in phases)
        programs = found['programs'] or {}
        notes = [f'{k} {v:.3g}' for k, v in programs.items()]
        if found['equal_answers'] != 1.0:
          notes.append(f'{100 * found["equal_answers"]:.1f} % of outputs equal')
        line = f'{row["texts"]:<8,}{name:<26}{cells}  {", ".join(notes)}'
        lines.append(line.rstrip())
  others = [name for name in names if name in end_to_end.BASELINES]
  if others:
    lines += [
      '',
      f'{"faster, from so many texts on, than":<36}' + ' '.join(others),
    ]
  for name in names if others else ():
    if name not in others:
      found = [end_to_end.faster_from(rows, name, other) for other in others]
      cells = [
        f'{"never" if count is None else format(count, ",.0f"):>{len(other)}}'
        for count, other in zip(found, others, strict=True)
      ]
      lines.append(f'{name:<36}{" ".join(cells)}')
  return lines


def _tpu_lines(tpu: Mapping[str, Any]) -> list[str]:
  lines = [
    f'{tpu["size"]}, bfloat16, compiled for {tpu["topology"]} (not run): PiE '
    'over PiD'
  ]
  pid, pie = tpu['layouts']['pid'], tpu['layouts']['pie']
  for phase in pid:
    flops, cycles = (
      pie[phase][k] / pid[phase][k] for k in ('compiler_flops', 'cycles')
    )
    lines.append(
      f'  {phase:<10}{flops:>8.1f}x FLOPs {cycles:>8.1f}x estimated cycles'
    )
  largest = max(phase['largest'] for phase in pid.values())
  tiled = 'no' if largest < tpu['tiled'] else 'PERHAPS A'
  lines.append(f'  {tiled} copy of keys or values per prompt in PiD')
  return lines


def _missing_lines(missing: Mapping[str, list[str]]) -> list[str]:
  lines = [
    f'{name}: not run, needs {", ".join(packages)}'
    for name, packages in missing.items()
  ]
  return lines and [*lines, f'install them with: {figures.INSTALL}']
