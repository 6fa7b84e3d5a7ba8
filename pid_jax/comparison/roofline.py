# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""FLOPs of each phase of answering for each byte, and what that allows.

A program that does I FLOPs for each byte of memory that it moves runs at most
at min(peak, I x bandwidth): the roofline. FLOPs and bytes are given twice: by
formula (`pid_jax.costs`), and as the compiler counts them for the programs
themselves, compiled for this machine and, where libtpu is installed, for a TPU.

The compiler counts the bytes of every operation, whether they come from memory
or were kept close, so that its intensity is the lower one. For a TPU that is
on-chip traffic too.
"""

from __future__ import annotations

from collections.abc import Mapping
import json
import sys
from typing import Any

import jax

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.benchmarks import jobs as jobs_lib
from pid_jax.benchmarks import runner
from pid_jax.programs import tpu

PHASES = ('encode', 'prefill', 'step')
TOPOLOGY = 'v5e:1x1'
# Of a v5e chip, as Google states them: FLOP/s in bfloat16, bytes/s of HBM.
TPU_PEAK = {'flop_rate': 197e12, 'bandwidth': 819e9}
_TIMEOUT = 900  # Seconds.


def measure(
  job: jobs_lib.Job, config: config_lib.T5Config
) -> dict[str, dict[str, Any]]:
  """Compiles the phases of a job for this machine and for a TPU.

  Args:
    job: whose layouts are compiled; variants with sizes of their own are not.
    config: of the model; for the TPU in bfloat16.

  Returns:
    'here' and 'tpu', each with 'device', 'dtype' and 'layouts': by layout and
    phase a row of `benchmarks.runner.work`. 'tpu' has 'flop_rate' and
    'bandwidth' besides; or nothing but 'missing', which says why.
  """
  layouts = [v.layout for v in job.variants if not v.sizes]
  asked = {'layouts': layouts, 'sizes': job.sizes, 'config': config.to_dict()}
  found = {'here': _compile(asked, config.dtype, jax.devices()[0])}
  try:
    found['tpu'] = tpu.run_apart(
      'pid_jax.comparison.roofline', json.dumps(asked), timeout=_TIMEOUT
    )
  except errors.UserError as e:
    found['tpu'] = {'missing': str(e)}
  return found


def intensity(row: Mapping[str, float | None], kind: str) -> float | None:
  """FLOPs for each byte.

  Args:
    row: of `measure`.
    kind: 'formula' or 'compiler'.

  Returns:
    None if there is no such program, or the compiler does not say.
  """
  flops, moved = row[f'{kind}_flops'], row[f'{kind}_bytes']
  return flops / moved if flops and moved else None


def _compile(
  asked: Mapping[str, Any], dtype: str, device: Any
) -> dict[str, Any]:
  config = config_lib.T5Config.from_dict({**asked['config'], 'dtype': dtype})
  job = jobs_lib.Job('roofline', '', **asked['sizes'])
  return {
    'device': device.device_kind,
    'dtype': dtype,
    'layouts': {
      layout: runner.work(config, layout, job, device)
      for layout in asked['layouts']
    },
  }


def _compile_for_tpu(asked: Mapping[str, Any]) -> dict[str, Any]:
  """The same for a chip that is not there, in a process of its own."""
  device, *_ = tpu.devices(TOPOLOGY)
  return {**_compile(asked, 'bfloat16', device), **TPU_PEAK}


if __name__ == '__main__':
  print(json.dumps(_compile_for_tpu(json.loads(sys.argv[1]))))
