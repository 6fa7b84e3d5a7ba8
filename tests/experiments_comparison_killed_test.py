# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A comparison that is killed goes on where it was, to the same results."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from toys import training as toy

from pid_jax import checkpoints

_SCRIPT = pathlib.Path(__file__).parent / 'experiments_toy.py'


def _compare(output: pathlib.Path, die_at: str = '') -> int:
  """Compares in another process; returns its status."""
  vocabulary = output.parent / 'toy.model'
  done = subprocess.run(
    [sys.executable, _SCRIPT, f'--output={output}', f'--die_at={die_at}'],
    env={**os.environ, 'TOY_VOCABULARY': str(vocabulary)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode in (0, -9), done.stderr
  return done.returncode


def _results(output: pathlib.Path) -> dict:
  """What was found, without the times that were measured."""
  results = json.loads((output / 'comparison.json').read_text())
  for run in results['runs'].values():
    del run['seconds_per_update']
  return results


def _params(output: pathlib.Path, run: str):
  opened = checkpoints.open_checkpoint(output / 'runs' / run)
  return opened.restore(
    toy.t5_config(), checkpoints.abstract_params(toy.t5_config())
  )


@pytest.mark.slow
def test_killed_at_any_point_it_ends_with_the_same_results(tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  assert _compare(whole) == 0
  wanted = _results(whole)
  assert list(wanted['runs']) == ['pid-5', 'pie-5']

  found = []
  for die_at in (
    'part:2',  # The updates were read.
    'part:5',  # Some of the answers were timed.
    'update:4',  # In the training of PiD, after a checkpoint.
    'part:2',  # Between the two trainings.
    'update:5',  # In that of PiE.
  ):
    assert _compare(killed, die_at) == -9, die_at
    found.append(_results(killed))
  known = lambda results: len(results['shapes']) + len(results['inference'])
  assert known(found[0]) < known(found[1]) < known(found[2])
  assert [len(results['runs']) for results in found] == [0] * 3 + [1, 1]
  assert _compare(killed) == 0
  assert _results(killed) == wanted
  for run in wanted['runs']:
    for mine, other in zip(
      jax.tree.leaves(_params(killed, run)),
      jax.tree.leaves(_params(whole, run)),
      strict=True,
    ):
      np.testing.assert_array_equal(mine, other)
