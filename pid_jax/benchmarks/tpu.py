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

import json
import math
import re

from pid_jax import config as config_lib
from pid_jax.benchmarks import jobs
from pid_jax.benchmarks import ours
from pid_jax.programs import tpu

SIZE = 't5_1_1_base'
TOPOLOGY = 'v5e:1x1'
_TIMEOUT = 600  # Seconds.
_ESTIMATE = re.compile(r'"estimated_cycles":"?(\d+)')
_SHAPE = re.compile(r'\b(?:f32|bf16|f16|s32|u32|pred)\[([\d,]+)\]')


def analyse() -> dict:
  """Compiles in another process.

  Returns:
    See `compile_phases`.

  Raises:
    UserError: libtpu is missing, or failed.
  """
  return tpu.run_apart('pid_jax.benchmarks.tpu', timeout=_TIMEOUT)


def compile_phases() -> dict:
  """Compiles the phases of `dst` for both layouts, in bfloat16.

  Returns:
    'size', 'topology', 'sizes'; 'layouts': by layout and phase 'flops',
    'cycles' and 'largest' (elements of the largest array without an axis of the
    vocabulary's size); and 'tiled', the elements of one layer's keys if they
    existed once per prompt.
  """
  device, *_ = tpu.devices(TOPOLOGY)
  config = config_lib.T5Config(size=SIZE, dtype='bfloat16')
  job = jobs.JOBS['dst']
  layouts = {}
  for layout in ('pid', 'pie'):
    programs = ours.compiled_phases(config, layout, job, device)
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
