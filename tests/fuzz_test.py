# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever comes in: status 0, or status 2 with one line and nothing changed.

`make test-slow` tries a thousand cases, `make test` some. FUZZ_SEED chooses
others, FUZZ_CASES their number; the table of what was tried is printed with
`pytest -s`.
"""

import os
import pathlib
import shutil
import tempfile

import fuzz_cases
import fuzz_harness
import hypothesis
from hypothesis import strategies as st
import pytest

_SEED = int(os.environ.get('FUZZ_SEED', '0'))
_QUICK, _MANY = 66, 1000


@pytest.fixture(scope='module', name='template')
def _template(tmp_path_factory):
  return fuzz_harness.template(tmp_path_factory.mktemp('fuzz'))


def _try(template, count: int, seed: int) -> fuzz_harness.Table:
  table = fuzz_harness.Table()

  @hypothesis.seed(seed)
  @hypothesis.settings(
    max_examples=count,
    database=None,
    deadline=None,
    phases=[hypothesis.Phase.generate],
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(st.data())
  def attempt(data):
    with tempfile.TemporaryDirectory() as parent:
      folder = pathlib.Path(parent) / 'work'
      shutil.copytree(template, folder, symlinks=True)
      door = data.draw(st.sampled_from(fuzz_cases.DOORS))
      command, argv, outputs = door(data.draw, folder)
      result = fuzz_harness.run(folder, command, argv, outputs)
      kind = door.__name__
      table.add(f'{kind} {command}', (command, argv), result)
      if os.environ.get('FUZZ_SHOW') and result.wrong:
        print(table.faults[-1], flush=True)

  attempt()
  print(f'\n{table}')
  return table


def test_some_odd_cases(template):
  count = int(os.environ.get('FUZZ_CASES', _QUICK))
  table = _try(template, count, _SEED)
  assert not table.faults, '\n\n'.join(table.faults[:20])


@pytest.mark.slow
def test_a_thousand_odd_cases(template):
  table = _try(template, _MANY, _SEED + 1)
  assert not table.faults, '\n\n'.join(table.faults[:20])
