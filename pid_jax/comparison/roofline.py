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
import dataclasses
import json
import sys
from typing import Any

import jax

from pid_jax import config as config_lib
from pid_jax import costs
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
    job: whose layouts are compiled; other tasks are not.
    config: of the model; for the TPU in bfloat16.

  Returns:
    'here' and 'tpu', each with 'device', 'dtype' and 'layouts': by layout and
    phase a row of `benchmarks.runner.work`. 'tpu' has 'flop_rate' and
    'bandwidth' besides; or nothing but 'missing', which says why.
  """
  sizes = {v.name: job.of(v).sizes for v in job.variants if v.name == v.layout}
  asked = {'sizes': sizes, 'config': config.to_dict()}
  found = {'here': _compile(asked, config.dtype, jax.devices()[0])}
  try:
    found['tpu'] = tpu.run_apart(
      'pid_jax.comparison.roofline', json.dumps(asked), timeout=_TIMEOUT
    )
  except errors.UserError as e:
    found['tpu'] = {'missing': str(e)}
  return found


@dataclasses.dataclass(frozen=True)
class Point:
  """A phase of a layout on a machine.

  Attributes:
    layout: 'pid', 'pie' or 'joint'.
    phase: of `PHASES`.
    intensity: FLOPs for each byte, by formula.
    by_compiler: the same as the compiler counts; None if it does not say.
    measured: FLOP/s that were reached; None if nothing was run, or the phase
      was too short to be told from the others.
  """

  layout: str
  phase: str
  intensity: float
  by_compiler: float | None
  measured: float | None


@dataclasses.dataclass(frozen=True)
class Machine:
  """A roof, and what stands below it.

  Attributes:
    name: of the device.
    flop_rate: its peak, FLOP/s.
    bandwidth: of its memory, bytes/s.
    points: of all layouts and phases.
  """

  name: str
  flop_rate: float
  bandwidth: float
  points: list[Point]

  def allowed(self, intensity: float) -> float:
    """FLOP/s that the machine allows at so many FLOPs for each byte."""
    return min(self.flop_rate, intensity * self.bandwidth)

  def placed(self) -> list[tuple[Point, float]]:
    """Points with FLOP/s: those measured, or allowed where nothing was run."""
    measured = [(p, p.measured) for p in self.points if p.measured]
    return measured or [(p, self.allowed(p.intensity)) for p in self.points]

  def is_bound_by_memory(self, intensity: float) -> bool:
    """Whether memory, not arithmetic, limits so many FLOPs for each byte."""
    return intensity * self.bandwidth < self.flop_rate

  def roof(self) -> list[tuple[float, float]]:
    """(FLOPs for each byte, FLOP/s allowed), from the left to the right."""
    ridge = self.flop_rate / self.bandwidth
    found = [point.intensity for point in self.points]
    xs = sorted({min(found) / 2, ridge, max(*found, ridge) * 2})
    return [(x, self.allowed(x)) for x in xs]


def unit(machine: Machine) -> tuple[str, float]:
  """In which FLOP/s of a machine are best written, and how many that is."""
  if machine.flop_rate >= 1e13:
    return 'TFLOP/s', 1e12
  return 'GFLOP/s', 1e9


def machines(results: Mapping[str, Any]) -> list[Machine]:
  """This machine at the speed that was probed, and the TPU if there was libtpu.

  Args:
    results: contents of comparison.json, with `inference` and `roofline`.

  Returns:
    One or two machines, with the points of all layouts and phases.
  """
  task = results['inference']['task']
  probe, here = task['machine']['probe'], results['roofline']['here']
  rates = {layout: _rates(results, layout, task) for layout in here['layouts']}
  name = f'{task["machine"]["processor"]}, {here["dtype"]}'
  found = [Machine(name, **probe, points=_points(here, rates))]
  chip = results['roofline']['tpu']
  if 'missing' not in chip:
    peak = {key: chip[key] for key in TPU_PEAK}
    name = f'{chip["device"]}, {chip["dtype"]}'
    found.append(Machine(name, **peak, points=_points(chip, {})))
  return found


def _points(
  place: Mapping[str, Any], rates: Mapping[str, Mapping[str, float]]
) -> list[Point]:
  return [
    Point(
      layout,
      phase,
      row['formula_flops'] / row['formula_bytes'],
      row['compiler_flops'] / row['compiler_bytes']
      if row['compiler_flops'] and row['compiler_bytes']
      else None,
      rates.get(layout, {}).get(phase),
    )
    for layout, phases in place['layouts'].items()
    for phase, row in phases.items()
    if row['formula_flops']  # With one token there is no step.
  ]


def _rates(
  results: Mapping[str, Any], layout: str, job: Mapping[str, Any]
) -> dict[str, float]:
  """FLOP/s of the phases of a layout, as they were timed."""
  config = config_lib.T5Config.from_dict(results['model'])
  row = job['contenders'][layout]
  work = costs.generate(config, layout, **row['sizes'])
  seconds = row['phases']['measured']
  flops = {
    'encode': work.encode.flops,
    'prefill': work.prefill.flops,
    'steps': sum(step.flops for step in work.steps),
  }
  return {
    phase: flops[timed] / seconds[timed]
    for phase, timed in zip(PHASES, flops, strict=True)
    if seconds[timed] > 0
  }


def _compile(
  asked: Mapping[str, Any], dtype: str, device: Any
) -> dict[str, Any]:
  config = config_lib.T5Config.from_dict({**asked['config'], 'dtype': dtype})
  return {
    'device': device.device_kind,
    'dtype': dtype,
    'layouts': {
      layout: runner.work(
        config, layout, jobs_lib.Job('roofline', '', **sizes), device
      )
      for layout, sizes in asked['sizes'].items()
    },
  }


def _compile_for_tpu(asked: Mapping[str, Any]) -> dict[str, Any]:
  """The same for a chip that is not there, in a process of its own."""
  device, *_ = tpu.devices(TOPOLOGY)
  return {**_compile(asked, 'bfloat16', device), **TPU_PEAK}


if __name__ == '__main__':
  print(json.dumps(_compile_for_tpu(json.loads(sys.argv[1]))))
