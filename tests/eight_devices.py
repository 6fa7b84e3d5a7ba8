# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs a script where there are eight devices.

Their number is fixed when JAX starts, so it takes a process of its own.
"""

import json
import os
import pathlib
import subprocess
import sys
from typing import Any


def run(script: str, *arguments: str) -> Any:
  """Runs a script of this folder; returns the JSON of its last line."""
  flags = os.environ.get('XLA_FLAGS', '')
  result = subprocess.run(
    [sys.executable, str(pathlib.Path(__file__).parent / script), *arguments],
    env={
      **os.environ,
      'XLA_FLAGS': f'{flags} --xla_force_host_platform_device_count=8',
      'JAX_PLATFORMS': 'cpu',
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  return json.loads(result.stdout.splitlines()[-1])
