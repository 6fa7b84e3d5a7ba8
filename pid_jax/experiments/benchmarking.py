# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs jobs and sweeps: prepares contenders, times them, checks their outputs.

Results are JSON types; `benchmark_report` says what is in them.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import pathlib
import statistics
import tempfile
from typing import Any

import jax
import numpy as np

from pid_jax import config as config_lib
from pid_jax.experiments import aot
from pid_jax.experiments import baselines as baselines_lib
from pid_jax.experiments import costs
from pid_jax.experiments import end_to_end
from pid_jax.experiments import machine
from pid_jax.experiments import output
from pid_jax.experiments import synthetic
from pid_jax.experiments import timer
from pid_jax.experiments import tpu
from pid_jax.experiments import variants
from pid_jax.experiments import workloads

_TPU_MODEL = 't5_1_1_base'


@dataclasses.dataclass(frozen=True)
class Settings:
  """How long to measure.

  Attributes:
    num_rounds: steady comparisons that are wanted of each contender.
    budget: seconds for a job, after which no further round begins.
    least: seconds of a turn, see `timer.interleave`.
    pause: seconds around a turn beside other libraries.
    phases: whether to time the phases of `stepwise`, too.
  """

  num_rounds: int = 5
  budget: float = 110.0
  least: float = 0.0
  pause: float = timer.PAUSE
  phases: bool = True


# A sweep has many points, and wants the shape of a curve.
SWEEP_SETTINGS = Settings(num_rounds=2, budget=60.0)


def run(
  jobs: Sequence[workloads.Job],
  sweeps: Sequence[workloads.Job],
  config: config_lib.T5Config,
  *,
  counts: Sequence[int] = (),
  settings: Settings = Settings(),
  sweep_settings: Settings = SWEEP_SETTINGS,
) -> Iterator[dict[str, Any]]:
  """Measures the machine, then runs the jobs one after another.

  Args:
    jobs: in their order.
    sweeps: points of sweeps, in their order.
    config: of the model, in float32.
    counts: of texts that whole processes answer, see `end_to_end`.
    settings: of jobs.
    sweep_settings: of sweeps.

  Yields:
    After each job 'machine', 'missing' (packages, by baseline), 'jobs',
    'sweeps' and 'end_to_end' of a report, so far.
  """
  output.say('Measuring the machine ...')
  described = machine.describe()
  probe = machine.Probe()
  described['probe'] = dataclasses.asdict(probe())
  wanted = [name for job in (*jobs, *sweeps) for name in job.baselines]
  wanted += end_to_end.BASELINES if counts else ()
  absent = {name: baselines_lib.missing(name) for name in dict.fromkeys(wanted)}
  absent = {name: packages for name, packages in absent.items() if packages}
  results = {'machine': described, 'missing': absent}
  results |= {kind: [] for kind in ('jobs', 'sweeps', 'end_to_end')}
  todo = [('jobs', job, settings) for job in jobs]
  todo += [('sweeps', job, sweep_settings) for job in sweeps]
  with tempfile.TemporaryDirectory(prefix='pid_jax_benchmark_') as folder:
    models = _Models(config, pathlib.Path(folder))
    for kind, job, how_long in todo:
      output.say(f'{job.name}: {job.summary} ...')
      available = tuple(name for name in job.baselines if name not in absent)
      job = dataclasses.replace(job, baselines=available)
      decoder, baselines = models.of(job.weights)
      row = run_job(job, decoder, baselines, probe, how_long)
      if kind == 'jobs':
        row |= _analysed(job, decoder)
      results[kind].append(row)
      yield results
      jax.clear_caches()  # The next job has other shapes.
  for results['end_to_end'] in end_to_end.run(counts, absent):
    yield results


class _Models:
  """The models of a run; one at a time is in memory."""

  def __init__(self, config: config_lib.T5Config, folder: pathlib.Path):
    self._config, self._folder = config, folder
    self._weights, self._made = None, None

  def of(
    self, weights: str
  ) -> tuple[variants.Decoder, baselines_lib.Baselines]:
    if weights != self._weights:
      self._made = None  # Frees the other.
      params = synthetic.make_params(self._config, weights)
      folder = self._folder / weights
      folder.mkdir(exist_ok=True)
      self._made = (
        variants.Decoder(self._config, jax.device_put(params)),
        baselines_lib.Baselines(self._config, params, folder),
      )
      self._weights = weights
    return self._made


def run_job(
  job: workloads.Job,
  decoder: variants.Decoder,
  baselines: baselines_lib.Baselines,
  probe: Callable[[], timer.Speed],
  settings: Settings,
) -> dict[str, Any]:
  """Times one job and checks the outputs of all contenders.

  Args:
    job: whose baselines are all installed.
    decoder: of this library.
    baselines: other libraries with the same weights.
    probe: of the machine.
    settings: how long.

  Returns:
    A row of a report, as of a sweep.
  """
  batches = {
    v.name: synthetic.make_batch(decoder.config, job.of(v))
    for v in job.variants
  }
  batch = batches[job.stepwise.name]
  runs, parts = {}, {}
  for variant in job.variants:
    of_variant = variant, job.of(variant), batches[variant.name]
    runs[variant.name] = decoder.generator(*of_variant)
    if settings.phases and (job.all_phases or variant is job.stepwise):
      functions = decoder.parts(*of_variant)
      parts |= zip(_parts(variant.name), functions, strict=True)
  runs |= {name: baselines.run(name, job, batch) for name in job.baselines}
  reference = job.variants[0].name
  timings = timer.interleave(
    {reference: runs[reference], **parts, **runs},
    probe,
    num_rounds=settings.num_rounds,
    budget=settings.budget,
    pause=settings.pause if job.baselines else 0.0,
    least=settings.least,
  )
  contenders = {
    name: {
      'seconds': timer.spread(timings.seconds(name)),
      'ratio': timer.spread(timings.ratios(name)),
      'steady': timings.is_steady(name),
      'equal_tokens': _equal_tokens(
        timings.outputs[name], _expected(name, job, batch, timings, decoder)
      ),
      'sizes': dataclasses.asdict(job.sizes),
      'phases': None,
    }
    for name in runs
  }
  for variant in job.variants:
    row, done = contenders[variant.name], job.of(variant)
    row['sizes'] = dataclasses.asdict(done.sizes)
    if set(_parts(variant.name)) <= set(parts):
      lengths = batches[variant.name].lengths
      row['phases'] = {
        'measured': _phases(timings, variant.name),
        **_floor(timings, variant, done, lengths, decoder.config),
      }
  return {
    'name': job.name,
    'summary': job.summary,
    'sizes': dataclasses.asdict(job.sizes),
    'model': decoder.config.to_dict(),
    'weights': job.weights,
    'lengths': batch.lengths.tolist(),
    'reference': reference,
    'rounds': [
      [dataclasses.asdict(turn) for turn in turns] for turns in timings.rounds
    ],
    'contenders': contenders,
    'stepwise': job.stepwise.name,
    'work': {},
    'profile': None,
  }


def analyse_tpu() -> dict[str, Any]:
  """Compiles the phases of `dst` in PiD and PiE for a TPU, in another process.

  Returns:
    The results of `tpu.compile_phases`; the 'size' of the model, the 'sizes' of
    the job; and 'tiled', the elements of one layer's keys if they existed once
    per prompt.

  Raises:
    UserError: libtpu is missing, or failed.
  """
  config = config_lib.T5Config(size=_TPU_MODEL)
  sizes = workloads.JOBS['dst'].sizes
  keys = sizes.input_length * config.num_heads * config.head_dim
  return {
    'size': _TPU_MODEL,
    'sizes': dataclasses.asdict(sizes),
    'tiled': sizes.rows * keys,
    **tpu.compile_phases(config, dict.fromkeys(('pid', 'pie'), sizes)),
  }


def _analysed(job: workloads.Job, decoder: variants.Decoder) -> dict[str, Any]:
  """FLOPs and bytes by formula and compiler, and a profile of `stepwise`."""
  work = {
    layout: aot.compile_phases(decoder.config, layout, job.sizes)
    for layout in dict.fromkeys(v.layout for v in job.variants)
  }
  batch = synthetic.make_batch(decoder.config, job.of(job.stepwise))
  return {'work': work, 'profile': decoder.profile(job, batch)}


def _parts(name: str) -> list[str]:
  """Names of the timed programs that stop after encode, and after prefill."""
  return [f'{name}: {part}' for part in variants.PARTS]


def _expected(
  name: str,
  job: workloads.Job,
  batch: synthetic.Batch,
  timings: timer.Timings,
  decoder: variants.Decoder,
) -> np.ndarray | None:
  """Returns what a contender should have generated.

  Known from the batch with synthetic weights; else it is what this library
  generates with the same layout and prompts in float32. None if that is the
  contender itself.
  """
  done = {v.name: (v.layout, v.sizes) for v in job.variants}
  of_baseline = 'pid' if name.endswith('_tiled') else 'pie'
  layout, sizes = done.get(name, (of_baseline, {}))
  if batch.outputs is not None:
    if layout == 'pid':
      return batch.outputs
    length = job.sizes.of(layout).new_tokens
    return synthetic.countdown_from_start(decoder.config.num_tokens, length)
  exact = [
    v.name
    for v in job.variants
    if (v.layout, v.sizes) == (layout, sizes) and v.param_dtype == 'float32'
  ]
  return timings.outputs[exact[0]] if exact and exact[0] != name else None


def _equal_tokens(got: np.ndarray, expected: np.ndarray | None) -> float | None:
  """Returns the share of tokens that are equal; None if none are expected."""
  if expected is None:
    return None
  if got.shape[-1] != expected.shape[-1]:
    raise RuntimeError(
      f'a contender did other work: it generated {got.shape[-1]} tokens, not '
      f'{expected.shape[-1]}'
    )
  return float(np.mean(got == expected))


def _phases(timings: timer.Timings, name: str) -> dict[str, float]:
  """Seconds of each phase of a variant: differences of longer programs."""
  reference = statistics.median(timings.seconds(timings.reference))
  until = [
    reference * statistics.median(timings.ratios(end))
    for end in (*_parts(name), name)
  ]
  lengths = np.diff(until, prepend=0.0).tolist()
  return dict(zip(costs.PHASES, lengths, strict=True))


def _floor(
  timings: timer.Timings,
  variant: workloads.Variant,
  job: workloads.Job,
  lengths: np.ndarray,
  config: config_lib.T5Config,
) -> dict[str, Any]:
  """The least time for the work of a layout, at the speed of each turn.

  Drafts save steps, which is other work: the floor does not cover them.

  Args:
    timings: of the job.
    variant: that was timed.
    job: as the variant does it.
    lengths: int32 [B, U], generated tokens.
    config: of the model.

  Returns:
    'floor', seconds by phase; 'over_floor', the ratio of the measured time to
    the floor's.
  """
  rows_left = None
  if variant.layout != 'joint':  # Rows that have ended need no further step.
    rows_left = [
      int(np.sum(lengths > step)) for step in range(1, lengths.max())
    ]
  work = costs.generate(config, variant.layout, job.sizes, rows_left)
  turns = timings.turns(variant.name)
  by_turn: list[Mapping[str, float]] = [
    work.seconds(**dataclasses.asdict(turn.speed)) for turn in turns
  ]
  return {
    'floor': {
      phase: statistics.median(phases[phase] for phases in by_turn)
      for phase in costs.PHASES
    },
    'over_floor': timer.spread(
      [
        turn.seconds / sum(phases.values())
        for turn, phases in zip(turns, by_turn, strict=True)
      ]
    ),
  }
