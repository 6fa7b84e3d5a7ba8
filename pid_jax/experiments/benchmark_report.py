# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""benchmark.json, and the table that is printed.

Other programs read the file, years later: `SCHEMA` says what is in it, and
nothing is written that does not follow it. Seconds and ratios are
`timer.spread`s. A ratio is how many times as long as the job's reference a
contender took, in the median over comparisons: above 1 the reference is faster.
"""

from collections.abc import Mapping
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax.experiments import costs
from pid_jax.experiments import machine
from pid_jax.experiments import output
from pid_jax.viewer import figures

FILE = 'benchmark.json'
_FORMAT = 2

_NUMBER = (int, float)
_MAYBE = (int, float, type(None))
_UNSTEADY = 'UNSURE: the machine changed its speed'
_SPREAD = {
  name: _NUMBER for name in ('min', 'quartile_1', 'median', 'quartile_3', 'num')
}
_PHASES = dict.fromkeys(costs.PHASES, _NUMBER)
_SPEED = dict.fromkeys(('flop_rate', 'bandwidth'), _NUMBER)
_JOB = {
  'name': str,
  'summary': str,
  # B, S, U, P, T.
  'sizes': {str: int},
  'model': dict,  # T5Config.to_dict().
  # 'random' or 'synthetic' ('planted' in older files), see synthetic.py.
  'weights': str,
  'lengths': list,  # [B][U] generated tokens.
  'copied_share': _MAYBE,  # Of the outputs' tokens, those in the input.
  'reference': str,  # The contender that ratios are to.
  # Turns in their order, with probes in FLOP/s (float32 products) and bytes/s
  # (reading). 'X: encode' and 'X: encode_and_prefill' are parts of X.
  'rounds': [
    [{'name': str, 'seconds': _NUMBER, 'before': _SPEED, 'after': _SPEED}]
  ],
  'contenders': {
    str: {
      'seconds': _SPREAD,
      'ratio': _SPREAD,
      'target': _MAYBE,  # The least ratio that is wanted.
      # Whether the machine kept its speed in at least two comparisons. `ratio`
      # is of those alone then; else it is of all, and less sure.
      'steady': bool,
      # The share of tokens that are equal to those of synthetic weights, or to
      # those of this library in the same layout; None if neither exists.
      'equal_tokens': _MAYBE,
      'sizes': {str: int},  # B, S, U, P, T of this contender.
      # Seconds, and the least that this machine needs; of `stepwise`, and of
      # other variants where they were asked for.
      'phases': (dict, type(None)),
    }
  },
  # The contender that the next two are about: PiD without drafts.
  'stepwise': str,
  # Its seconds.
  'phases': _PHASES,
  # costs.Phases.seconds at the speed of each turn; the ratio of `stepwise`.
  'floor': {
    'seconds': _SPREAD,
    'ratio': _SPREAD,
    'target': _NUMBER,  # The greatest ratio that is wanted.
    'steady': bool,
    'phases': _PHASES,
  },
  # By phase and part of the network, the share of the time of `stepwise` that
  # operations take, see profiling.py; None in sweeps, and before JAX 0.7.
  'profile': (dict, type(None)),
  # By layout and phase; empty in sweeps. 'step' is one step.
  'work': {
    str: {
      str: {
        'formula_flops': _NUMBER,
        'formula_bytes': _NUMBER,
        'compiler_flops': _MAYBE,
        'compiler_bytes': _MAYBE,
      }
    }
  },
}
SCHEMA = {
  'format': int,
  'command': str,
  'date': str,  # UTC, ISO 8601.
  'versions': {str: str},  # Of the packages that are installed.
  'threads': int,  # Of every contender.
  'machine': dict,  # machine.describe(), and 'probe' at the start.
  'missing': {str: [str]},  # Baselines that could not run: what they need.
  'jobs': [_JOB],
  'sweeps': [_JOB],
  'tpu': (dict, type(None)),  # benchmarking.analyse_tpu().
}


def assemble(
  results: Mapping[str, Any], tpu: dict | None, command: str
) -> dict[str, Any]:
  """Adds to results when, with what and on what they were measured.

  Args:
    results: of `benchmarking.run`.
    tpu: of `benchmarking.analyse_tpu`, or None.
    command: that was run.
  """
  report = {
    'format': _FORMAT,
    **output.stamp(command),
    'threads': machine.num_cores(),
    **results,
    'tpu': tpu,
  }
  check(report)
  return report


def check(value: Any, schema: Any = SCHEMA, where: str = 'report') -> None:
  """Checks that a value follows a schema.

  Args:
    value: JSON types.
    schema: a type or tuple of types; [schema of each item]; {str: schema of
      each value}; or {name: schema} with exactly these names.
    where: its place, for messages.

  Raises:
    ValueError: it does not; says where.
  """
  if isinstance(schema, list):
    _check_type(value, list, where)
    for i, item in enumerate(value):
      check(item, schema[0], f'{where}[{i}]')
  elif isinstance(schema, dict):
    _check_type(value, dict, where)
    if str in schema:
      schema = dict.fromkeys(value, schema[str])
    if set(value) != set(schema):
      differing = sorted(set(value) ^ set(schema))
      raise ValueError(f'{where} lacks, or should not have, {differing}')
    for name, item in value.items():
      check(item, schema[name], f'{where}.{name}')
  else:
    _check_type(value, schema, where)


def check_folder(folder: str) -> epath.Path:
  """Makes the folder of a report.

  Raises:
    UserError: it holds a report, or cannot be written.
  """
  path = epath.Path(folder)
  if (path / FILE).exists():
    raise errors.UserError(
      f'{path / FILE} exists; name another --output, or remove it'
    )
  try:
    path.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise errors.UserError(f'cannot write to --output={folder}: {e}') from e
  return path


def write(
  results: Mapping[str, Any],
  tpu: dict | None,
  command: str,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes benchmark.json, whole or not at all; returns what is in it.

  Args:
    results: as `assemble`, like the next two.
    tpu: or None.
    command: that was run.
    folder: of `check_folder`.
  """
  report = assemble(results, tpu, command)
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
    f'{"job":<14}{"contender":<26}{"median":>10}{"times as long":>24}  target',
  ]
  for job in (*report['jobs'], *report['sweeps']):
    lines += _job_lines(job)
  if report['tpu']:
    lines += ['', *_tpu_lines(report['tpu'])]
  if report['missing']:
    lines += ['', *_missing_lines(report['missing'])]
  return '\n'.join(lines)


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
    if row['target'] is not None:
      met = 'met' if ratio['median'] >= row['target'] else 'MISSED'
      notes.append(f'{row["target"]:g} {met}')
    if row['equal_tokens'] not in (None, 1.0):
      notes.append(f'{100 * row["equal_tokens"]:.1f} % of tokens equal')
    if not row['steady']:
      notes.append(_UNSTEADY)
    lines.append(_line(job['name'], name, row['seconds'], ratio, notes))
  floor = job['floor']
  met = 'met' if floor['ratio']['median'] <= floor['target'] else 'MISSED'
  shares = {k: job['phases'][k] / v for k, v in floor['phases'].items() if v}
  each = ', '.join(f'{name} {share:.1f}' for name, share in shares.items())
  subject = f'{job["stepwise"]} over the floor'
  if not floor['steady']:
    each += f'; {_UNSTEADY}'
  lines.append(
    f'{job["name"]:<14}{subject:<26}{"":>10}'
    f'{_ratio(floor["ratio"]):>24}  at most {floor["target"]:g} {met}; {each}'
  )
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


def _line(job, name, seconds, ratio, notes) -> str:
  return (
    f'{job:<14}{name:<26}{_time(seconds["median"]):>10}{_ratio(ratio):>24}  '
    f'{"; ".join(notes)}'
  ).rstrip()


def _ratio(ratio: Mapping[str, float]) -> str:
  spread = f'{ratio["quartile_1"]:.2f} to {ratio["quartile_3"]:.2f}'
  return f'{ratio["median"]:.2f} ({spread})'


def _time(seconds: float) -> str:
  return f'{1000 * seconds:.1f} ms' if seconds < 1 else f'{seconds:.2f} s'


def _tpu_lines(tpu: Mapping[str, Any]) -> list[str]:
  lines = [
    f'{tpu["size"]}, bfloat16, compiled for {tpu["topology"]} (not run): PiE '
    'over PiD'
  ]
  pid, pie = tpu['layouts']['pid'], tpu['layouts']['pie']
  for phase in pid:
    flops, cycles = (pie[phase][k] / pid[phase][k] for k in ('flops', 'cycles'))
    lines.append(
      f'  {phase:<10}{flops:>8.1f}x FLOPs {cycles:>8.1f}x estimated cycles'
    )
  largest = max(phase['largest'] for phase in pid.values())
  tiled = 'no' if largest < tpu['tiled'] else 'PERHAPS A'
  lines.append(f'  {tiled} copy of keys or values per prompt in PiD')
  return lines


def _missing_lines(missing: Mapping[str, list[str]]) -> list[str]:
  return [
    *(f'{name}: not run, needs {", ".join(p)}' for name, p in missing.items()),
    f'install them with: {figures.INSTALL}',
  ]


def _check_type(value: Any, types: Any, where: str) -> None:
  is_number = types in (int, _NUMBER, _MAYBE)
  if not isinstance(value, types) or (is_number and isinstance(value, bool)):
    raise ValueError(f'{where} is {type(value).__name__}, not {types}')
