# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles for TPUs on a machine without one, by libtpu.

libtpu starts once in a process, writes to standard error what it likes, and
ends the process on requests that it does not foresee. So what may fail runs in
a process of its own (`run_apart`): this module as a script, which prints what
libtpu knows of a topology, or what the phases of decoding cost there.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
from typing import Any

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax import progress
from pid_jax.experiments import chips
from pid_jax.experiments import hlo
from pid_jax.experiments import layouts

# For a process that compiles, to be set before JAX is imported.
ENVIRONMENT: Mapping[str, str] = {
  'JAX_PLATFORMS': 'cpu',
  'TPU_SKIP_MDS_QUERY': '1',
  # No chip is touched, so another process may compile at the same time.
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  # A program that was not compiled would not tell how long that takes.
  'JAX_COMPILATION_CACHE_DIR': '',
}
NAMES = (
  'TPUs are KIND:SIDExSIDE: v5e and v6e have two dimensions (v5e:4x4, at most '
  '16x16), v4 and v5p three (v5p:2x2x4)'
)
_MAX_SIDE = {'v5e': 16, 'v6e': 16}
_HBM = re.compile(r'available HBM \(([\d.]+)([MGT])\)')
_UNITS = {'M': 2**20, 'G': 2**30, 'T': 2**40}
ONE_CHIP = 'v5e:1x1'
_TIMEOUT = 900  # Seconds of compiling the phases of all layouts.


def is_installed() -> bool:
  """Returns whether libtpu is installed."""
  return importlib.util.find_spec('libtpu') is not None


def check_installed() -> None:
  """Raises UserError unless libtpu is installed."""
  if not is_installed():
    raise errors.UserError(
      "libtpu is missing, which compiles for TPUs: pip install 'pid_jax[tpu]'"
    )


def run_apart(function: str, *args: str, timeout: float) -> Any:
  """Calls one of `_FUNCTIONS` in a process that may load libtpu.

  Args:
    function: its name.
    *args: its arguments.
    timeout: seconds.

  Returns:
    Its result, as JSON types.

  Raises:
    UserError: libtpu is missing, or failed, or took too long.
  """
  check_installed()
  try:
    done = subprocess.run(
      [sys.executable, '-m', __spec__.name, function, *args],
      env={**os.environ, **ENVIRONMENT},
      capture_output=True,
      text=True,
      timeout=timeout,
      check=False,
    )
  except subprocess.TimeoutExpired as e:
    raise errors.UserError(
      f'compiling for a TPU took more than {timeout:.0f} s'
    ) from e
  if done.returncode:
    lines = done.stderr.strip().splitlines() or ['it wrote nothing']
    # libtpu writes further lines after a failed check.
    fatal = [line for line in lines if 'Check failed' in line]
    raise errors.UserError(
      f'compiling for a TPU failed: {(fatal or lines)[-1]}'
    )
  return json.loads(done.stdout.splitlines()[-1])


def find_chip(topology: str) -> chips.Chip:
  """Asks libtpu about a topology such as 'v5e:4x4'.

  Raises:
    UserError: libtpu is missing, or does not know the name.
  """
  kind, _, sides = topology.partition(':')
  numbers = sides.split('x')
  fault = None
  if not all(n.isdigit() and int(n) for n in numbers):
    fault = 'names are KIND:SIDExSIDE'
  elif max(map(int, numbers)) > _MAX_SIDE.get(kind, 1024):
    fault = f'a slice of {kind} has at most {_MAX_SIDE[kind]} chips on a side'
  else:
    try:
      found = run_apart('describe', topology, timeout=300)
      return chips.Chip(**found)
    except errors.UserError as e:
      if 'INVALID_ARGUMENT' not in str(e) and 'Check failed' not in str(e):
        raise
      fault = str(e)
  raise errors.UserError(f'unknown topology {topology!r}; {NAMES}. ({fault})')


def devices(topology: str) -> Sequence[Any]:
  """Returns the devices of a topology that `find_chip` knows.

  JAX must have been started with `ENVIRONMENT`.
  """
  from jax.experimental import topologies

  sides = [int(n) for n in topology.partition(':')[2].split('x')]
  # A host has 2 x 2 chips, or all if there are fewer.
  bounds = [min(side, most) for side, most in zip(sides, (2, 2), strict=False)]
  with progress.stderr_silenced():
    described = topologies.get_topology_desc(
      platform='tpu',
      topology_name=topology,
      chips_per_host_bounds=(*bounds, 1),
    )
  return described.devices


def compile_phases(
  config: config_lib.T5Config,
  sizes: Mapping[str, layouts.Sizes],
  topology: str = ONE_CHIP,
) -> dict[str, Any]:
  """Compiles encode, prefill and step of layouts for one chip, in bfloat16.

  Args:
    config: of the model.
    sizes: layout -> sizes of the job.
    topology: the first of its chips is compiled for.

  Returns:
    'topology'; 'device', its kind; 'dtype'; and 'layouts': layout -> the result
    of `aot.compile_phases`.

  Raises:
    UserError: libtpu is missing, or failed, or took too long.
  """
  asked = {
    'config': {**config.to_dict(), 'dtype': 'bfloat16'},
    'sizes': {k: dataclasses.asdict(v) for k, v in sizes.items()},
    'topology': topology,
  }
  return run_apart('compile_phases', json.dumps(asked), timeout=_TIMEOUT)


def _describe(topology: str) -> dict[str, Any]:
  """Makes libtpu compile two small programs; returns the fields of a Chip."""
  import jax
  import jax.numpy as jnp

  first, *others = devices(topology)
  sharding = jax.sharding.SingleDeviceSharding(first)
  spec = lambda *shape: jax.ShapeDtypeStruct(
    shape, jnp.bfloat16, sharding=sharding
  )
  compiled = lambda fn, x: jax.jit(fn).lower(x).compile()
  try:
    compiled(lambda x: x + 1, spec(2**40))
    raise AssertionError('a terabyte fits on a chip')
  except jax.errors.JaxRuntimeError as e:
    amount, unit = _HBM.search(str(e)).groups()
  product = compiled(lambda x: x @ x, spec(4096, 4096))
  cycles = hlo.summarise(product.as_text()).cycles
  chip = chips.Chip(
    kind=first.device_kind,
    num_devices=1 + len(others),
    memory_bytes=math.floor(float(amount) * _UNITS[unit]),
    seconds_per_cycle=product.cost_analysis()['optimal_seconds'] / cycles,
  )
  return dataclasses.asdict(chip)


def _compile_phases(asked: str) -> dict[str, Any]:
  """`compile_phases` in the process that may load libtpu."""
  from pid_jax.experiments import aot

  request = json.loads(asked)
  device, *_ = devices(request['topology'])
  config = config_lib.T5Config.from_dict(request['config'])
  return {
    'topology': request['topology'],
    'device': device.device_kind,
    'dtype': config.dtype,
    'layouts': {
      layout: aot.compile_phases(config, layout, layouts.Sizes(**sizes), device)
      for layout, sizes in request['sizes'].items()
    },
  }


_FUNCTIONS = {'describe': _describe, 'compile_phases': _compile_phases}

if __name__ == '__main__':
  print(json.dumps(_FUNCTIONS[sys.argv[1]](*sys.argv[2:])))
