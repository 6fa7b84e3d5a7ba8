# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Web pages for viewing predictions, each a single HTML file.

    viewer.write_report('/tmp/model', '/tmp/report.html')

`markup` and `shell` build any page, `figures` its plots. The other modules
build the report on predictions: `sources` finds them, `records` reads them,
`comparing` classifies errors, `dialogues` groups turns, `curves` reads the logs
of training, `tables` counts and encodes, and `predictions` builds the page. The
scripts and styles are in assets/. No JAX, no TensorFlow.
"""

from pid_jax.viewer.predictions import Summary
from pid_jax.viewer.predictions import default_output
from pid_jax.viewer.predictions import write_report

__all__ = ['Summary', 'default_output', 'write_report']
