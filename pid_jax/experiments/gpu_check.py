# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
r"""Measures this library on one GPU, most important first, within 8 minutes.

Example:
  make gpu-check PYTHON=python3 WHEELS=wheels OUTPUT=gpu_check

or python3 -P pid_jax/experiments/gpu_check.py --wheels=wheels. Needs JAX for
CUDA, flax, optax and orbax-checkpoint; what else is missing comes as a folder
of wheels. Installs nothing: a temporary folder on PYTHONPATH holds links to the
checkout and what is in the wheels.

Each part is a process with a limit of seconds; one that hangs is ended with all
that it started, and the next begins. The table is written whenever a row is
known: DIR/table.md, DIR/rows.jsonl, and DIR/log, what the parts wrote to
standard error. Ends with status 1 if something failed or missed what was
wanted, which a rehearsal (--tiny) may. `gpu_parts` says what is measured.

This file is a script that imports nothing but Python's own modules.
"""

import argparse
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import datetime
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any
import zipfile

_ROOT = pathlib.Path(__file__).parents[2]
_PARTS_MODULE = 'pid_jax.experiments.gpu_parts'
# Of all parts: 8 minutes, less what is around them.
_SECONDS = 465
# Seconds of each part, in the order in which they run.
LIMITS = {
  'prepare': 40,
  'first_cold': 75,
  'first_warm': 25,
  'dst_batch': 75,
  'numerics': 55,
  'jobs': 90,
  'training': 60,
  'xl': 90,
  'steps': 40,
  'encoder': 30,
  'rates': 20,
  'compiled': 75,
}
_TINY_LIMIT = 300  # Seconds of all parts together.
# What the parts import, by the name of the package.
_NEEDED = {
  'absl': 'absl-py',
  'clu': 'clu',
  'etils': 'etils',
  'flax': 'flax',
  'gin': 'gin-config',
  'google.protobuf': 'protobuf',
  'jax': 'jax',
  'jaxtyping': 'jaxtyping',
  'ml_collections': 'ml_collections',
  'numpy': 'numpy',
  'optax': 'optax',
  'orbax.checkpoint': 'orbax-checkpoint',
  'regex': 'regex',
  'sentencepiece': 'sentencepiece',
  'tensorstore': 'tensorstore',
  'tqdm': 'tqdm',
}
_DESCRIBE = """
import importlib, importlib.metadata, json, platform, subprocess, sys
missing = []
for module, package in json.loads(sys.argv[1]).items():
  try:
    importlib.import_module(module)
  except ImportError:
    missing.append(package)
versions = {'python': platform.python_version()}
for name in ('jax', 'jaxlib', 'flax', 'transformers', 'torch'):
  try:
    versions[name] = importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    versions[name] = 'not installed'
devices = []
if 'jax' not in missing:
  import jax
  devices = [d.device_kind for d in jax.devices()]
try:
  query = ['nvidia-smi', '--query-gpu=driver_version', '--format=csv,noheader']
  driver = subprocess.run(query, capture_output=True, text=True, timeout=20)
  versions['driver'] = driver.stdout.split()[0]
except Exception:
  versions['driver'] = 'unknown'
print(json.dumps([missing, versions, devices]))
"""


@dataclasses.dataclass
class Table:
  """What is known so far, and the files that say so.

  Attributes:
    folder: to write to.
    title: lines above the table.
    rows: as `gpu_parts` prints them, each with 'at', the seconds since the
      check began.
    begin: `time.monotonic` of then.
  """

  folder: pathlib.Path
  begin: float
  title: list[str] = dataclasses.field(default_factory=list)
  rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)

  def add(self, row: dict[str, Any]) -> None:
    """Adds a row, prints it and writes all files."""
    row = {**row, 'at': round(time.monotonic() - self.begin, 1)}
    self.rows.append(row)
    print(_line(row), flush=True)
    with open(self.folder / 'rows.jsonl', 'a', encoding='utf-8') as f:
      f.write(json.dumps(row) + '\n')
    self.write()

  def write(self) -> None:
    """Writes table.md, whole or not at all."""
    lines = [
      *(f'{line}\n' for line in self.title),
      '| at | part | what | measured | wanted | reached |',
      '|---|---|---|---|---|---|',
      *map(_line, self.rows),
    ]
    path = self.folder / 'table.md'
    written = path.with_suffix('.incomplete')
    written.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    written.replace(path)

  def missed(self) -> list[dict[str, Any]]:
    """Returns the rows that failed or did not reach what was wanted."""
    return [row for row in self.rows if row['reached'] is False]


def _line(row: Mapping[str, Any]) -> str:
  value = row['value']
  shown = row['unit'] if value is None else f'{value:.4g} {row["unit"]}'.strip()
  reached = {None: '', True: 'yes', False: '**no**'}[row['reached']]
  at = f'{row["at"]:.0f} s'
  cells = at, row['part'], row['what'], shown, row['wanted'], reached
  return f'| {" | ".join(cell.replace("|", "/") for cell in cells)} |'


def run_part(
  name: str,
  command: Sequence[str],
  limit: float,
  add: Callable[[dict[str, Any]], None],
  log: pathlib.Path,
  environment: Mapping[str, str] | None = None,
) -> None:
  """Runs a process, and ends it with all that it started after a while.

  Args:
    name: of the part.
    command: prints rows as lines of JSON.
    limit: seconds.
    add: called with each row when it comes, and with one that says so if the
      process failed.
    log: gets the standard error, appended.
    environment: further variables.
  """
  failed = lambda why: add(
    {
      'part': name,
      'what': 'the whole part',
      'value': None,
      'unit': why,
      'wanted': 'no error',
      'reached': False,
    }
  )
  with open(log, 'ab') as stderr:
    stderr.write(f'--- {name}\n'.encode())
    stderr.flush()
    child = subprocess.Popen(
      command,
      stdout=subprocess.PIPE,
      stderr=stderr,
      env={**os.environ, **(environment or {})},
      start_new_session=True,
    )
    stopped = threading.Event()

    def stop() -> None:
      stopped.set()
      _kill_group(child.pid)

    alarm = threading.Timer(limit, stop)
    alarm.start()
    try:
      for line in child.stdout:
        try:
          row = json.loads(line)
        except ValueError:  # Also of a row that was cut off.
          row = None
        if isinstance(row, dict):
          add(row)
        else:
          stderr.write(line)
      status = child.wait()
    finally:
      alarm.cancel()
      _kill_group(child.pid)
      child.stdout.close()
      child.wait()
  if stopped.is_set():
    failed(f'stopped after {limit:.0f} s')
  elif status:
    failed(f'ended with status {status}, see the log')


def _kill_group(pid: int) -> None:
  try:
    os.killpg(pid, signal.SIGKILL)
  except (ProcessLookupError, PermissionError):
    pass  # It has ended, and all that it started.


def lay_out(folder: pathlib.Path, wheels: pathlib.Path | None) -> None:
  """Makes a folder for PYTHONPATH, without installing anything.

  It gets the package as it is when installed, with `pid_jax.tasks` and
  `pid_jax.gin_configs`, as links to the checkout; and what is in the wheels.

  Args:
    folder: empty.
    wheels: holds *.whl; None: there are none.
  """
  package = folder / 'pid_jax'
  package.mkdir()
  for path in [
    *(_ROOT / 'pid_jax').iterdir(),
    *(_ROOT / name for name in ('tasks', 'gin_configs')),
  ]:
    if path.name != '__pycache__':
      (package / path.name).symlink_to(path)
  for wheel in sorted(wheels.glob('*.whl')) if wheels else ():
    with zipfile.ZipFile(wheel) as archive:
      archive.extractall(folder)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the check; returns the exit status."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  add = parser.add_argument
  add('--wheels', type=pathlib.Path, metavar='DIR', help='what is missing here')
  add(
    '--output',
    type=pathlib.Path,
    metavar='DIR',
    default=pathlib.Path(os.environ.get('OUT', 'gpu_check')),
    help='default: $OUT, else gpu_check',
  )
  add(
    '--parts',
    type=lambda text: text.split(','),
    default=list(LIMITS),
    metavar='NAME,NAME',
    help=f'some of {",".join(LIMITS)}; default: all',
  )
  add(
    '--tiny',
    action='store_true',
    help='tiny models in one process on the CPU: a rehearsal',
  )
  args = parser.parse_args(argv)
  unknown = set(args.parts) - set(LIMITS)
  if unknown:
    parser.error(f'no such part: {", ".join(sorted(unknown))}')
  if args.wheels and not args.wheels.is_dir():
    parser.error(f'--wheels: {args.wheels} is no folder')
  for wheel in args.wheels.glob('*.whl') if args.wheels else ():
    if not zipfile.is_zipfile(wheel):
      parser.error(f'--wheels: {wheel} is damaged')
  try:
    args.output.mkdir(parents=True, exist_ok=True)
    for name in ('table.md', 'rows.jsonl', 'log'):
      (args.output / name).unlink(missing_ok=True)
  except OSError as error:
    parser.error(f'--output: {error}')
  with tempfile.TemporaryDirectory(prefix='pid_jax_gpu_check_') as temporary:
    return _check(args, pathlib.Path(temporary))


def _check(args: argparse.Namespace, temporary: pathlib.Path) -> int:
  begin = time.monotonic()  # Of all.
  site, work = temporary / 'site', temporary / 'work'
  site.mkdir()
  work.mkdir()
  lay_out(site, args.wheels)
  paths = [str(site), *filter(None, [os.environ.get('PYTHONPATH')])]
  environment = {
    'PYTHONPATH': os.pathsep.join(paths),
    'JAX_COMPILATION_CACHE_DIR': str(work / 'compiled'),
    # PyTorch needs some of the memory.
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'HF_HUB_OFFLINE': '1',
    'TOKENIZERS_PARALLELISM': 'false',
    **({'JAX_PLATFORMS': 'cpu'} if args.tiny else {}),
  }
  python = [sys.executable, '-P']  # Not this checkout, but its links.
  missing, versions, devices = _describe(python, environment)
  if missing:
    names = ' '.join(missing)
    print(
      f'error: {names} cannot be imported; put their wheels into a folder (pip '
      f'download --no-deps --dest=DIR {names}) and name it by --wheels',
      file=sys.stderr,
    )
    return 2
  table = Table(args.output, begin)
  table.title = [
    f'Measured on {datetime.date.today()} by `make gpu-check` on '
    f'{" and ".join(sorted(set(devices)))} ({len(devices)}): '
    + ', '.join(f'{k} {v}' for k, v in versions.items())
    + '.'
    + (' Tiny sizes, a rehearsal.' if args.tiny else '')
  ]
  print(table.title[0], flush=True)
  groups = [args.parts] if args.tiny else [[name] for name in args.parts]
  if 'prepare' not in args.parts:
    groups.insert(0, ['prepare'])
  for names in groups:
    left = _SECONDS - (time.monotonic() - begin)
    limit = _TINY_LIMIT if args.tiny else min(LIMITS[names[0]], left)
    command = [*python, '-m', _PARTS_MODULE, *names, f'--folder={work}']
    run_part(
      ', '.join(names) if len(names) == 1 else 'all',
      command + ['--tiny'] * args.tiny,
      max(limit, 0),
      table.add,
      args.output / 'log',
      {**environment, 'PID_JAX_STARTED': str(time.time())},
    )
  print(
    f'\n{args.output / "table.md"} written after '
    f'{time.monotonic() - begin:.0f} s',
    flush=True,
  )
  missed = table.missed()
  if args.tiny:  # How fast a tiny model is does not matter.
    missed = [row for row in missed if row['value'] is None]
  return 1 if missed else 0


def _describe(
  python: Sequence[str], environment: Mapping[str, str]
) -> tuple[list[str], dict[str, str], list[str]]:
  """Returns what is missing, versions, and the kinds of JAX's devices."""
  done = subprocess.run(
    [*python, '-c', _DESCRIBE, json.dumps(_NEEDED)],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  if done.returncode:
    sys.exit(f'error: JAX does not start: {done.stderr.strip()[-500:]}')
  return json.loads(done.stdout.splitlines()[-1])


if __name__ == '__main__':
  sys.exit(main())
