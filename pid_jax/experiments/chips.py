# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is known of a device that programs are compiled for."""

from collections.abc import Mapping
import dataclasses


@dataclasses.dataclass(frozen=True)
class Chip:
  """A device of a topology.

  Attributes:
    kind: such as 'TPU v5 lite'.
    num_devices: of the topology, as JAX counts them; those of v4 are its cores.
    memory_bytes: of a device, that programs may use.
    seconds_per_cycle: of the compiler's estimates, for a large product; 0 where
      it makes none.
    flop_rates: dtype -> FLOP/s of matrix products, as the maker states them;
      empty where the compiler estimates cycles.
    bandwidth: bytes/s of memory, likewise 0.
  """

  kind: str
  num_devices: int
  memory_bytes: int
  seconds_per_cycle: float = 0.0
  flop_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
  bandwidth: float = 0.0
