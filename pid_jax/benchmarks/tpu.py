# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PiD and PiE compiled for a TPU that one does not have.

libtpu compiles for a v5e on any machine: encode, prefill and step of both
layouts, their FLOPs and the cycles that the compiler estimates. In a process of
its own (this module, run as a script), since libtpu starts once in a process
and writes to standard error what it likes.

The cycles are the sum of the estimates in the program's text: the compiler's
own total (`optimal_seconds`) can be negative. They are good for ratios of
similar programs, and are no measurement.
"""

import importlib.util
import json
import math
import os
import re
import subprocess
import sys

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.benchmarks import jobs
from pid_jax.benchmarks import ours

SIZE = 't5_1_1_base'
TOPOLOGY = 'v5e:1x1'
_TIMEOUT = 600  # Seconds.
_ESTIMATE = re.compile(r'"estimated_cycles":"?(\d+)')
_SHAPE = re.compile(r'\b(?:f32|bf16|f16|s32|u32|pred)\[([\d,]+)\]')


def is_installed() -> bool:
  """Whether libtpu is there to compile with."""
  return importlib.util.find_spec('libtpu') is not None


def analyse() -> dict:
  """Compiles in another process.

  Returns:
    See `compile_phases`.

  Raises:
    UserError: libtpu is missing, or failed.
  """
  if not is_installed():
    raise errors.UserError(
      "libtpu is missing, which compiles for TPUs: pip install 'pid_jax[tpu]'"
    )
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    'TPU_SKIP_MDS_QUERY': '1',
    # No chip is touched, so another process may compile at the same time.
    'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  }
  try:
    done = subprocess.run(
      [sys.executable, '-m', 'pid_jax.benchmarks.tpu'],
      env=environment,
      capture_output=True,
      text=True,
      timeout=_TIMEOUT,
      check=False,
    )
  except subprocess.TimeoutExpired as e:
    raise errors.UserError(
      f'compiling for a TPU took more than {_TIMEOUT} s; leave --tpu away'
    ) from e
  if done.returncode:
    lines = done.stderr.strip().splitlines() or ['it wrote nothing']
    raise errors.UserError(f'compiling for a TPU failed: {lines[-1]}')
  return json.loads(done.stdout.splitlines()[-1])


def compile_phases() -> dict:
  """Compiles the phases of `dst` for both layouts, in bfloat16.

  Returns:
    'size', 'topology', 'sizes'; 'layouts': by layout and phase 'flops',
    'cycles' and 'largest' (elements of the largest array without an axis of the
    vocabulary's size); and 'tiled', the elements of one layer's keys if they
    existed once per prompt.
  """
  from jax.experimental import topologies

  topology = topologies.get_topology_desc(
    platform='tpu', topology_name=TOPOLOGY, chips_per_host_bounds=(1, 1, 1)
  )
  config = config_lib.named(SIZE, dtype='bfloat16')
  job = jobs.JOBS['dst']
  layouts = {}
  for layout in ('pid', 'pie'):
    programs = ours.compiled_phases(config, layout, job, topology.devices[0])
    layouts[layout] = {
      phase: {
        'flops': program.cost_analysis()['flops'],
        'cycles': estimated_cycles(program.as_text()),
        'largest': largest_array(program.as_text(), config.vocab_size),
      }
      for phase, program in programs.items()
    }
  return {
    'size': SIZE,
    'topology': TOPOLOGY,
    'sizes': job.sizes,
    'layouts': layouts,
    'tiled': job.num_inputs
    * job.num_prompts
    * job.input_length
    * config.num_heads
    * config.head_dim,
  }


def estimated_cycles(text: str) -> int:
  """Sums the compiler's estimates in an optimised program."""
  return sum(map(int, _ESTIMATE.findall(text)))


def largest_array(text: str, vocab_size: int) -> int:
  """Elements of the largest array of a program, embedding and head left out."""
  shapes = [tuple(map(int, s.split(','))) for s in _SHAPE.findall(text)]
  return max(math.prod(s) for s in shapes if vocab_size not in s)


if __name__ == '__main__':
  print(json.dumps(compile_phases()))
