# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PiD, PiE and joint on one task, trained and timed like with like.

`updates` gives them the same examples in the same updates, `training` what else
a run needs, `inference` times how they answer, `roofline` says what holds them
back, `runner` does it all and resumes where it was stopped. `summary` says what
came out, `page` and `plots` show it, `report` writes it down.
"""

from pid_jax.comparison.report import write
from pid_jax.comparison.runner import run
from pid_jax.comparison.settings import Settings
from pid_jax.comparison.summary import table

__all__ = ['Settings', 'run', 'table', 'write']
