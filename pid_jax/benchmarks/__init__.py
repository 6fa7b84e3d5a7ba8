# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How fast PiD, PiE and joint are, beside other libraries and the machine.

`jobs` says what is timed, `models` with which weights, `ours` and `peers` who
does it, `timing` in which order, `machine` and `pid_jax.costs` how fast it
could be at best. `runner` puts them together, `report` and `plots` write what
came out.
"""

from pid_jax.benchmarks.jobs import JOBS
from pid_jax.benchmarks.jobs import SWEEPS
from pid_jax.benchmarks.peers import INSTALL
from pid_jax.benchmarks.runner import run

__all__ = ['INSTALL', 'JOBS', 'SWEEPS', 'run']
