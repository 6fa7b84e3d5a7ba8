# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The check of one GPU, rehearsed on the CPU, and its limits."""

import json
import os
import pathlib
import subprocess
import sys
import time
import zipfile

import pytest

from pid_jax.experiments import gpu_check
from pid_jax.experiments import profiling

# What a machine for GPUs lacks, and what no part may need.
_ABSENT = ('tensorflow', 'tensorflow_text', 'seqio', 'rouge_score')


def _run(name, code, limit, folder):
  rows = []
  command = [sys.executable, '-c', code]
  gpu_check.run_part(name, command, limit, rows.append, folder / 'log')
  return rows


def test_all_parts_run_on_a_cpu_without_tensorflow(tmp_path):
  for name in _ABSENT:
    (tmp_path / f'{name}.py').write_text(f'raise ImportError("{name}")')
  command = [sys.executable, '-P', gpu_check.__file__, '--tiny']
  done = subprocess.run(
    [*command, f'--output={tmp_path}'],
    env={**os.environ, 'PYTHONPATH': str(tmp_path)},
    capture_output=True,
    text=True,
    check=False,
  )
  log = (tmp_path / 'log').read_text()
  assert done.returncode == 0, done.stdout + log
  lines = (tmp_path / 'rows.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert list(dict.fromkeys(row['part'] for row in rows)) == [*gpu_check.LIMITS]
  # The device is the CPU itself.
  equal = [r['value'] for r in rows if 'outputs equal' in r['what']]
  assert equal and set(equal) == {100.0}
  errors = {r['what']: r['value'] for r in rows if 'error of log' in r['what']}
  assert errors.pop('packed rows, float32: relative error of logits') == 0
  (rounded,) = errors.values()
  assert 1e-4 < rounded < 3e-2  # Tells bfloat16 from float32.
  table = (tmp_path / 'table.md').read_text()
  assert table.count('\n| ') == len(rows) + 1


def test_a_part_that_hangs_costs_only_itself(tmp_path):
  child = tmp_path / 'child'
  code = (
    'import subprocess, time\n'
    'print(\'{"part": "x", "reached": true}\', flush=True)\n'
    'p = subprocess.Popen(["sleep", "60"])\n'
    f'open({str(child)!r}, "w").write(str(p.pid))\n'
    'time.sleep(60)\n'
  )
  start = time.monotonic()
  rows = _run('x', code, 2, tmp_path)
  assert time.monotonic() - start < 30
  assert [row['reached'] for row in rows] == [True, False]
  assert 'stopped after 2 s' in rows[1]['unit']
  while _is_running(int(child.read_text())):  # What it started.
    assert time.monotonic() - start < 30
    time.sleep(0.05)


def _is_running(pid):
  state = subprocess.run(
    ['ps', '-o', 'state=', '-p', str(pid)],
    capture_output=True,
    text=True,
    check=False,
  ).stdout.strip()
  return state not in ('', 'Z')


def test_a_part_that_fails_says_so_and_keeps_its_rows(tmp_path):
  code = (
    'import sys\nprint("noise")\nprint(\'{"part": "x", "reached": null}\')\n'
    'print("{cut off")\nsys.exit("what went wrong")'
  )
  rows = _run('x', code, 60, tmp_path)
  assert [row['reached'] for row in rows] == [None, False]
  assert 'status 1' in rows[1]['unit']
  log = (tmp_path / 'log').read_text()
  assert all(x in log for x in ('noise', 'cut off', 'what went wrong'))


def test_the_table_is_written_row_by_row(tmp_path, capsys):
  table = gpu_check.Table(tmp_path, time.monotonic(), ['A card.'])
  row = {'part': 'xl', 'what': 'a | b', 'unit': 'ms', 'wanted': '<= 5'}
  table.add({**row, 'value': 4.0, 'reached': True})
  first = (tmp_path / 'table.md').read_text()
  table.add({**row, 'value': 6.0, 'reached': False})
  second = (tmp_path / 'table.md').read_text()
  assert second.startswith(first)
  assert '| 0 s | xl | a / b | 4 ms | <= 5 | yes |' in first
  assert [missed['value'] for missed in table.missed()] == [6.0]
  assert capsys.readouterr().out.count('| xl |') == 2


def test_a_checkout_and_wheels_are_enough(tmp_path):
  wheels, site = tmp_path / 'wheels', tmp_path / 'site'
  wheels.mkdir()
  site.mkdir()
  with zipfile.ZipFile(wheels / 'thing-1-py3-none-any.whl', 'w') as archive:
    archive.writestr('thing/__init__.py', 'NAME = "of the wheel"')
  gpu_check.lay_out(site, wheels)
  code = (
    'import importlib.util, pid_jax, thing\n'
    'names = ["pid_jax.tasks", "pid_jax.gin_configs"]\n'
    'paths = [importlib.util.find_spec(name).origin for name in names]\n'
    'print(thing.NAME, pid_jax.__file__, *paths, sep="\\n")'
  )
  done = subprocess.run(
    [sys.executable, '-P', '-c', code],
    env={**os.environ, 'PYTHONPATH': str(site)},
    cwd=tmp_path,
    check=True,
    capture_output=True,
    text=True,
  )
  name, *paths = done.stdout.splitlines()
  assert name == 'of the wheel'
  assert all(pathlib.Path(path).is_relative_to(site) for path in paths)


@pytest.mark.parametrize('flag', ['--output', '--wheels'])
def test_wrong_folders_are_named_at_once(tmp_path, capsys, flag):
  (tmp_path / 'file').touch()
  (tmp_path / 'wheels').mkdir()
  (tmp_path / 'wheels' / 'cut_off.whl').write_bytes(b'PK')
  name = {'--output': 'file', '--wheels': 'wheels'}[flag]
  with pytest.raises(SystemExit, match='2'):
    gpu_check.main(['--tiny', f'{flag}={tmp_path / name}'])
  error = capsys.readouterr().err.splitlines()[-1]
  assert flag in error and str(tmp_path / name) in error


def test_gaps_between_kernels():
  kernel = profiling.Kernel
  # 0..10, 5..20 overlap; then gaps of 10, 2 and 0.
  kernels = [
    kernel('d', 52, 8),
    kernel('a', 0, 10),
    kernel('b', 5, 15),
    kernel('c', 30, 20),
    kernel('e', 60, 40),
  ]
  found = profiling.gaps(kernels)
  assert found == profiling.Gaps(100e-9, 88e-9, 6e-9, 10e-9)
  alone = profiling.gaps(kernels[:1])
  assert alone == profiling.Gaps(8e-9, 8e-9, 0.0, 0.0)
