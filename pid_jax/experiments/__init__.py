# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""All that measures: nothing else of the library imports it.

Shared by all experiments:
  layouts          PiD, PiE and joint: their sizes, labels and token ids
  workloads        jobs to be timed, and the sweeps over their sizes
  costs            FLOPs and bytes by formula, phase by phase
  timer, machine   turns, spreads, and how fast the machine is meanwhile
  hlo, aot, tpu    what compiled programs tell, without the device
  figures          what is drawn (`viewer.figures` draws it)

python -m pid_jax.benchmark:
  synthetic        weights and token ids whose outputs are known
  variants         decoding by this library
  baselines        decoding by transformers and CTranslate2
  profiling        shares of time by phase and part of the network
  benchmarking     runs jobs
  benchmark_report benchmark.json and its table

python -m pid_jax.compare:
  matched_batches  the same examples in the same updates for every layout
  trainings        a training of each layout, and the time of its updates
  comparison       all parts of a comparison, resumable
  roofline         what bounds each phase
  summary, page    what the comparison found: as a table, and as report.html

python -m pid_jax.precompile:
  fitting          whether the programs of a run fit on a slice of TPUs

make gpu-check:
  gpu_check        runs parts as processes with limits; a table as it goes
  gpu_parts        what the parts measure on one GPU
"""
