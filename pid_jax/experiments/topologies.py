# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Devices by name, for compiling programs without having any.

Names of TPUs are libtpu's, 'v5e:4x4'; those of GPUs are cards with a number of
them, 'h100' or 'h100:8'.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any

from pid_jax import errors
from pid_jax.experiments import chips
from pid_jax.experiments import gpu
from pid_jax.experiments import tpu

# For a process that compiles, to be set before JAX is imported. libtpu needs
# more of it than the plug-in for GPUs.
ENVIRONMENT: Mapping[str, str] = tpu.ENVIRONMENT


def find_chip(topology: str) -> chips.Chip:
  """Describes the devices of a topology such as 'v5e:4x4' or 'h100:8'.

  Raises:
    UserError: there can be no such topology, or what compiles for it is
      missing.
  """
  module = _module(topology)
  if module is tpu and 'x' not in topology.partition(':')[2]:
    raise errors.UserError(
      f'unknown topology {topology!r}; {tpu.NAMES}; {gpu.NAMES}'
    )
  return module.find_chip(topology)


def devices(topology: str) -> Sequence[Any]:
  """Returns the devices of a topology that `find_chip` knows.

  JAX must have been started with `ENVIRONMENT`.
  """
  return _module(topology).devices(topology)


def _module(topology: str) -> Any:
  return gpu if topology.partition(':')[0] in gpu.CARDS else tpu
