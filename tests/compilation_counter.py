# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Counts what XLA compiles, as JAX's own events tell it."""

import jax


class Compilations:
  """Counts from when it is made.

  Attributes:
    count: programs that were compiled; may be set back to 0.
  """

  def __init__(self):
    self.count = 0
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event, duration, **unused):
    self.count += event == '/jax/core/compile/backend_compile_duration'
