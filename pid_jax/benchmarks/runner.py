# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs jobs and sweeps: prepares contenders, times them, checks their outputs.

The rows of a result are plain JSON types, laid down in `report`.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import pathlib
import statistics
import tempfile
from typing import Any

import jax
import numpy as np

from pid_jax import config as config_lib
from pid_jax import costs
from pid_jax.benchmarks import jobs as jobs_lib
from pid_jax.benchmarks import machine
from pid_jax.benchmarks import models
from pid_jax.benchmarks import ours
from pid_jax.benchmarks import peers as peers_lib
from pid_jax.benchmarks import timing

# What is timed beside a contender, to tell its phases apart.
_PARTS = ('encode', 'encode_and_prefill')


@dataclasses.dataclass(frozen=True)
class Settings:
  """How long to measure.

  Attributes:
    num_rounds: steady comparisons that are wanted of each contender.
    budget: seconds for a job, after which no further round begins.
    least: seconds of a turn, see `timing.interleave`.
  """

  num_rounds: int = 5
  budget: float = 110.0
  least: float = 0.0


# A sweep has many points, and wants the shape of a curve.
SWEEP_SETTINGS = Settings(num_rounds=2, budget=60.0)


def run(
  jobs: Sequence[jobs_lib.Job],
  sweeps: Sequence[jobs_lib.Job],
  config: config_lib.T5Config,
  *,
  settings: Settings = Settings(),
  sweep_settings: Settings = SWEEP_SETTINGS,
  announce: Callable[[str], None] = print,
  keep: Callable[[dict[str, Any]], Any] = lambda results: None,
) -> dict[str, Any]:
  """Measures the machine, then runs the jobs one after another.

  Args:
    jobs: in their order.
    sweeps: points of sweeps, in their order.
    config: of the model, in float32.
    settings: of jobs.
    sweep_settings: of sweeps.
    announce: is told what begins.
    keep: gets what is returned, as far as it is known, after each job.

  Returns:
    'machine', 'missing' (packages, by peer), 'jobs' and 'sweeps' of a report.
  """
  announce('Measuring the machine ...')
  described = machine.describe()
  probe = machine.Probe()
  described['probe'] = dataclasses.asdict(probe())
  wanted = [name for job in (*jobs, *sweeps) for name in job.peers]
  absent = {name: peers_lib.missing(name) for name in dict.fromkeys(wanted)}
  absent = {name: packages for name, packages in absent.items() if packages}
  results = {'machine': described, 'missing': absent, 'jobs': [], 'sweeps': []}
  todo = [('jobs', job, settings) for job in jobs]
  todo += [('sweeps', job, sweep_settings) for job in sweeps]
  with tempfile.TemporaryDirectory(prefix='pid_jax_benchmark_') as folder:
    model = _Models(config, pathlib.Path(folder))
    for kind, job, own in todo:
      announce(f'{job.name}: {job.summary} ...')
      engine, peers = model.of(job.weights)
      available = [name for name in job.peers if name not in absent]
      results[kind].append(
        run_job(
          dataclasses.replace(job, peers=tuple(available)),
          engine,
          peers,
          probe,
          own,
          with_analysis=kind == 'jobs',
        )
      )
      keep(results)
  return results


class _Models:
  """The models of a run; one at a time is in memory."""

  def __init__(self, config: config_lib.T5Config, folder: pathlib.Path):
    self._config, self._folder = config, folder
    self._weights, self._made = None, None

  def of(self, weights: str) -> tuple[ours.Engine, peers_lib.Peers]:
    if weights != self._weights:
      self._made = None  # Frees the other.
      params = models.make_params(self._config, weights)
      folder = self._folder / weights
      folder.mkdir(exist_ok=True)
      self._made = (
        ours.Engine(self._config, jax.device_put(params)),
        peers_lib.Peers(self._config, params, folder),
      )
      self._weights = weights
    return self._made


def run_job(
  job: jobs_lib.Job,
  engine: ours.Engine,
  peers: peers_lib.Peers,
  probe: Callable[[], machine.Speed],
  settings: Settings,
  *,
  with_analysis: bool = True,
) -> dict[str, Any]:
  """Times one job and checks what came of it.

  Args:
    job: whose peers are all installed.
    engine: ours.
    peers: theirs, of the same weights.
    probe: of the machine.
    settings: how long.
    with_analysis: whether to ask the compiler for FLOPs and bytes, and JAX's
      profiler where the time goes.

  Returns:
    A row of a report.
  """
  batches = {
    v.name: models.make_batch(engine.config, job.of(v)) for v in job.variants
  }
  batch = batches[job.stepwise]
  runs, parts = {}, {}
  for variant in job.variants:
    of_variant = (variant, job.of(variant), batches[variant.name])
    runs[variant.name] = engine.generator(*of_variant)
    if job.all_phases or variant.name == job.stepwise:
      for part, function in engine.phases(*of_variant).items():
        parts[f'{variant.name}: {part}'] = function
  runs |= {name: peers.run(name, job, batch) for name in job.peers}
  reference = job.variants[0].name
  timings = timing.interleave(
    {reference: runs[reference], **parts, **runs},
    probe,
    num_rounds=settings.num_rounds,
    budget=settings.budget,
    pause=timing.PAUSE if job.peers else 0.0,
    least=settings.least,
  )
  contenders = {}
  for name in runs:
    contenders[name] = {
      'seconds': timing.spread(timings.seconds(name)),
      'ratio': timing.spread(timings.ratios(name)),
      'target': job.targets.get(name),
      'steady': timings.is_steady(name),
      'equal_tokens': _equal_tokens(
        timings.outputs[name], _expected(name, job, batch, timings, engine)
      ),
      'sizes': job.sizes,
      'phases': None,
    }
  for variant in job.variants:
    name = variant.name
    contenders[name]['sizes'] = job.of(variant).sizes
    if f'{name}: {_PARTS[0]}' in parts:
      least = _floor(
        timings, variant, job.of(variant), batches[name], engine.config
      )
      contenders[name]['phases'] = {
        'measured': _phases(timings, name),
        'floor': least['phases'],
      }
      if name == job.stepwise:
        floor = least
  result = {
    'name': job.name,
    'summary': job.summary,
    'sizes': job.sizes,
    'model': engine.config.to_dict(),
    'weights': job.weights,
    'lengths': batch.lengths.tolist(),
    'copied_share': _copied_share(batch),
    'reference': reference,
    'rounds': [
      [dataclasses.asdict(turn) for turn in turns] for turns in timings.rounds
    ],
    'contenders': contenders,
    'stepwise': job.stepwise,
    'phases': contenders[job.stepwise]['phases']['measured'],
    'floor': floor,
    'work': {},
    'profile': None,
  }
  if with_analysis:
    for layout in dict.fromkeys(v.layout for v in job.variants):
      result['work'][layout] = work(engine.config, layout, job)
    result['profile'] = engine.profile(job, batch)
  return result


def work(
  config: config_lib.T5Config,
  layout: str,
  job: jobs_lib.Job,
  device: Any = None,
) -> dict[str, dict[str, float]]:
  """FLOPs and bytes of each phase, by formula and by the compiler.

  Args:
    config: of the model.
    layout: 'pid', 'pie' or 'joint'.
    job: gives the shapes.
    device: to compile for, see `ours.compiled_phases`.
  """
  phases = costs.generate(config, layout, **job.sizes)
  by_formula = {
    'encode': phases.encode,
    'prefill': phases.prefill,
    'step': phases.steps[0] if phases.steps else costs.Work(),
  }
  rows = {}
  for name, program in ours.compiled_phases(
    config, layout, job, device
  ).items():
    analysis = program.cost_analysis() or {}
    rows[name] = {
      'formula_flops': by_formula[name].flops,
      'formula_bytes': by_formula[name].bytes,
      'compiler_flops': analysis.get('flops'),
      'compiler_bytes': analysis.get('bytes accessed'),
    }
  return rows


def _expected(name, job, batch, timings, engine) -> np.ndarray | None:
  """What a contender should have generated; None where nobody else knows."""
  layouts = {v.name: (v.layout, v.sizes) for v in job.variants}
  peer = 'pid' if name.endswith('_tiled') else 'pie'
  layout, sizes = layouts.get(name, (peer, {}))
  if batch.outputs is not None:  # A planted model.
    if layout == 'pid':
      return batch.outputs
    length = job.new_tokens * (job.num_prompts if layout == 'joint' else 1)
    return models.countdown_from_start(engine.config.num_tokens, length)
  exact = [
    v.name
    for v in job.variants
    if (v.layout, v.sizes) == (layout, sizes) and v.param_dtype == 'float32'
  ]
  return timings.outputs[exact[0]] if exact and exact[0] != name else None


def _equal_tokens(got: np.ndarray, expected: np.ndarray | None) -> float | None:
  if expected is None:
    return None
  if got.shape[-1] != expected.shape[-1]:
    raise RuntimeError(
      f'a contender did other work: it generated {got.shape[-1]} tokens, not '
      f'{expected.shape[-1]}'
    )
  return float(np.mean(got == expected))


def _copied_share(batch: models.Batch) -> float | None:
  """The share of the outputs' tokens that stand in the input."""
  if batch.outputs is None:
    return None
  pairs = zip(batch.outputs, batch.inputs, strict=True)
  found = np.stack([np.isin(out, text) for out, text in pairs])
  return float(found[batch.outputs > 0].mean())


def _phases(timings: timing.Timings, name: str) -> dict[str, float]:
  """Seconds of encode, prefill and all steps of a contender of ours."""
  reference = statistics.median(timings.seconds(timings.reference))
  encode, both, whole = (
    reference * statistics.median(timings.ratios(part))
    for part in (*(f'{name}: {part}' for part in _PARTS), name)
  )
  return {'encode': encode, 'prefill': both - encode, 'steps': whole - both}


def _floor(
  timings: timing.Timings,
  variant: jobs_lib.Variant,
  job: jobs_lib.Job,
  batch: models.Batch,
  config: config_lib.T5Config,
) -> dict[str, Any]:
  """The least time for the work of a layout, at the speed of each turn.

  Drafts save steps, so that they do other work: they have no part in this.
  """
  left = None
  if variant.layout != 'joint':  # Rows that have ended need no further step.
    steps = range(1, batch.lengths.max())
    left = [int(np.sum(batch.lengths > step)) for step in steps]
  phases = costs.generate(config, variant.layout, **job.sizes, rows_left=left)
  seconds, ratios, apart = [], [], []
  for turn in timings.turns(variant.name):
    speed = (turn.flop_rate, turn.bandwidth)
    seconds.append(phases.seconds(*speed))
    ratios.append(turn.seconds / seconds[-1])
    apart.append(
      (
        phases.encode.seconds(*speed),
        phases.prefill.seconds(*speed),
        sum(step.seconds(*speed) for step in phases.steps),
      )
    )
  medians = [statistics.median(values) for values in zip(*apart, strict=True)]
  return {
    'seconds': timing.spread(seconds),
    'ratio': timing.spread(ratios),
    'target': jobs_lib.FLOOR_TARGET,
    'steady': timings.is_steady(variant.name),
    'phases': dict(zip(('encode', 'prefill', 'steps'), medians, strict=True)),
  }
