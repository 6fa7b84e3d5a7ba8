# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Pages in one HTML file each, to look at what models did.

    viewer.write_report('/tmp/model', '/tmp/report.html')

`markup` and `shell` make any page, `figures` its plots; the rest is the report
on predictions: `sources` finds them, `records` reads them, `comparing` says
what is wrong with each, `dialogues` puts turns together, `curves` reads what
training logged, `tables` counts and packs, and `predictions` lays it out. The
scripts and styles lie in assets/. No JAX, no TensorFlow.
"""

from pid_jax.viewer.predictions import Summary
from pid_jax.viewer.predictions import default_output
from pid_jax.viewer.predictions import write_report

__all__ = ['Summary', 'default_output', 'write_report']
