# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""FLOPs of each phase of answering for each byte, and what bounds it.

A program that does I FLOPs for each byte of memory that it moves runs at most
at min(peak, I x bandwidth): the roofline (Williams et al., 2009). FLOPs and
bytes are given twice: by formula (`costs`), and as the compiler counts them for
the programs themselves, compiled for this machine and, where libtpu is
installed, for a TPU.

The compiler counts the bytes of every operation, whether they come from memory
or were kept close, so that its intensity is the lower one. For a TPU that is
on-chip traffic too.
"""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
from typing import Any

import jax

from pid_jax import config as config_lib
from pid_jax import errors
from pid_jax.experiments import aot
from pid_jax.experiments import costs
from pid_jax.experiments import layouts
from pid_jax.experiments import tpu
from pid_jax.experiments import workloads

# Programs that are compiled: one step stands for all steps.
PHASES = ('encode', 'prefill', 'step')
# Of `tpu.ONE_CHIP`, as Google states them: FLOP/s in bfloat16, bytes/s of HBM.
TPU_PEAK = {'flop_rate': 197e12, 'bandwidth': 819e9}


def measure(
  job: workloads.Job, config: config_lib.T5Config
) -> dict[str, dict[str, Any]]:
  """Compiles the phases of a job for this machine and for a TPU.

  Args:
    job: whose layouts are compiled; other tasks are not.
    config: of the model; for the TPU in bfloat16.

  Returns:
    'here' and 'tpu', each with 'device', 'dtype' and 'layouts': layout -> phase
    -> figures of `aot.compile_phases`. 'tpu' has 'flop_rate' and
    'bandwidth' too; or only 'missing', which says why.
  """
  sizes = {v.name: job.of(v).sizes for v in job.variants if v.name == v.layout}
  found = {
    'here': {
      'device': jax.devices()[0].device_kind,
      'dtype': config.dtype,
      'layouts': {
        layout: aot.compile_phases(config, layout, of_layout)
        for layout, of_layout in sizes.items()
      },
    }
  }
  try:
    found['tpu'] = {**tpu.compile_phases(config, sizes), **TPU_PEAK}
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
  """A machine's roof, and the points below it.

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
    """Returns the FLOP/s allowed at an intensity, in FLOPs for each byte."""
    return min(self.flop_rate, intensity * self.bandwidth)

  def placed(self) -> list[tuple[Point, float]]:
    """Points with FLOP/s: those measured, or allowed where nothing was run."""
    measured = [(p, p.measured) for p in self.points if p.measured]
    return measured or [(p, self.allowed(p.intensity)) for p in self.points]

  def is_bound_by_memory(self, intensity: float) -> bool:
    """Returns whether memory, not arithmetic, limits an intensity."""
    return intensity * self.bandwidth < self.flop_rate

  def roof(self) -> list[tuple[float, float]]:
    """(FLOPs for each byte, FLOP/s allowed), from the left to the right."""
    ridge = self.flop_rate / self.bandwidth
    found = [point.intensity for point in self.points]
    xs = sorted({min(found) / 2, ridge, max(*found, ridge) * 2})
    return [(x, self.allowed(x)) for x in xs]


def unit(machine: Machine) -> tuple[str, float]:
  """Returns the unit for the FLOP/s of a machine, and its size in FLOP/s."""
  if machine.flop_rate >= 1e13:
    return 'TFLOP/s', 1e12
  return 'GFLOP/s', 1e9


def machines(results: Mapping[str, Any]) -> list[Machine]:
  """Returns this machine at its probed speed, and the TPU if libtpu was there.

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
  work = costs.generate(config, layout, layouts.Sizes(**row['sizes']))
  seconds = row['phases']['measured']
  return {
    phase: flops / seconds[timed]
    for phase, (timed, flops) in zip(PHASES, work.flops().items(), strict=True)
    if seconds[timed] > 0
  }
