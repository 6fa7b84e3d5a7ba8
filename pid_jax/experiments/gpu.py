# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Compiles for NVIDIA's GPUs on a machine without one, by JAX's CUDA plug-in.

XLA asks a GPU for some facts, such as the number of its processors, and
compiles for one that is described to it as well. Without one it measures no
kernels: it takes the defaults of cuBLAS and of its own kernels, so that a
program that is compiled for the card itself may hold other, faster ones.
"""

from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import importlib.util
import os
import types
from typing import Any

from pid_jax import errors
from pid_jax import progress
from pid_jax.experiments import chips

_PLUGINS = ('jax_cuda13_plugin', 'jax_cuda12_plugin')
# Cards of one host; more are hosts of so many.
_CARDS_PER_HOST = 8
# Of all memory, what JAX's allocator takes unless one of these says otherwise.
_MEMORY_FRACTION = 0.75
_FRACTION_VARIABLES = (
  'XLA_CLIENT_MEM_FRACTION',
  'XLA_PYTHON_CLIENT_MEM_FRACTION',
)
_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


@dataclasses.dataclass(frozen=True)
class Card:
  """A kind of GPU, from NVIDIA's data sheets and CUDA's programming guide.

  Attributes:
    name: as the driver reports it.
    capability: compute capability, (major, minor).
    num_cores: streaming multiprocessors.
    fpus_per_core: float32 units of each.
    threads_per_core: that are resident at most.
    shared_kib: shared memory of a core; a block may take all but 1 KiB.
    clock_ghz: boost clock.
    l2_mib: second-level cache.
    memory_gib: total, as CUDA reports it.
    bandwidth: bytes/s of memory.
    flop_rates: dtype -> FLOP/s of dense matrix products.
  """

  name: str
  capability: tuple[int, int]
  num_cores: int
  fpus_per_core: int
  threads_per_core: int
  shared_kib: int
  clock_ghz: float
  l2_mib: int
  memory_gib: float
  bandwidth: float
  flop_rates: Mapping[str, float]

  @property
  def memory_bytes(self) -> int:
    return int(self.memory_gib * _GIB)

  def target_config(self) -> str:
    """Returns XLA's description of the card, a GpuTargetConfigProto as text."""
    major, minor = self.capability
    # Parts that all processors since Volta share stand here as numbers.
    device = {
      'threads_per_warp': 32,
      'threads_per_block_limit': 1024,
      'threads_per_core_limit': self.threads_per_core,
      'core_count': self.num_cores,
      'fpus_per_core': self.fpus_per_core,
      'clock_rate_ghz': self.clock_ghz,
      'registers_per_core_limit': 64 * _KIB,
      'registers_per_block_limit': 64 * _KIB,
      'shared_memory_per_core': self.shared_kib * _KIB,
      'shared_memory_per_block': 48 * _KIB,
      'shared_memory_per_block_optin': (self.shared_kib - 1) * _KIB,
      'block_dim_limit_x': 2**31 - 1,
      'block_dim_limit_y': 2**16 - 1,
      'block_dim_limit_z': 2**16 - 1,
      'l2_cache_size': self.l2_mib * _MIB,
      'device_memory_size': self.memory_bytes,
      'memory_bandwidth': int(self.bandwidth),
    }
    facts = ' '.join(f'{name}: {value}' for name, value in device.items())
    # Kernels of cuBLAS for Hopper alone need the features of its own.
    features = ' feature_extension: ACCELERATED_FEATURES' if major == 9 else ''
    return (
      f'gpu_device_info {{ {facts} cuda_compute_capability '
      f'{{ major: {major} minor: {minor}{features} }} }} '
      'platform_name: "CUDA" dnn_version_info { major: 9 minor: 10 } '
      'runtime_version { major: 13 minor: 0 } '
      f'device_description_str: "{self.name}"'
    )


_HOPPER = dict(
  capability=(9, 0),
  num_cores=132,
  fpus_per_core=128,
  threads_per_core=2048,
  shared_kib=228,
  clock_ghz=1.98,
  l2_mib=50,
  flop_rates={
    'bfloat16': 989e12,
    'tensorfloat32': 495e12,
    'float32': 67e12,
  },
)
_AMPERE = dict(
  capability=(8, 0),
  num_cores=108,
  fpus_per_core=64,
  threads_per_core=2048,
  shared_kib=164,
  clock_ghz=1.41,
  l2_mib=40,
  flop_rates={
    'bfloat16': 312e12,
    'tensorfloat32': 156e12,
    'float32': 19.5e12,
  },
)
# Those with SXM, where there are several.
CARDS: Mapping[str, Card] = types.MappingProxyType(
  {
    'h100': Card(
      'NVIDIA H100 80GB HBM3', memory_gib=79.11, bandwidth=3.35e12, **_HOPPER
    ),
    'h200': Card('NVIDIA H200', memory_gib=141.0, bandwidth=4.8e12, **_HOPPER),
    'a100': Card(
      'NVIDIA A100-SXM4-80GB',
      memory_gib=79.25,
      bandwidth=2.039e12,
      **_AMPERE,
    ),
    'a100_40gb': Card(
      'NVIDIA A100-SXM4-40GB',
      memory_gib=39.42,
      bandwidth=1.555e12,
      **_AMPERE,
    ),
    'l4': Card(
      'NVIDIA L4',
      capability=(8, 9),
      num_cores=58,
      fpus_per_core=128,
      threads_per_core=1536,
      shared_kib=100,
      clock_ghz=2.04,
      l2_mib=48,
      memory_gib=22.03,
      bandwidth=300e9,
      flop_rates={
        'bfloat16': 121e12,
        'tensorfloat32': 60e12,
        'float32': 30.3e12,
      },
    ),
  }
)
NAMES = f'GPUs are {", ".join(CARDS)}, with a number of cards (h100:8)'


def is_installed() -> bool:
  """Returns whether JAX's CUDA plug-in is installed."""
  return any(importlib.util.find_spec(name) for name in _PLUGINS)


def find_chip(topology: str) -> chips.Chip:
  """Describes the cards of a topology such as 'h100' or 'h100:8'.

  Their memory is what JAX's allocator takes of it: three quarters, or the
  fraction that XLA_CLIENT_MEM_FRACTION says, here as on the card.

  Raises:
    UserError: JAX's CUDA plug-in is missing, there can be no such topology, or
      the fraction is none.
  """
  card, (hosts, cards) = _parse(topology)
  if not is_installed():
    raise errors.UserError(
      "JAX's CUDA plug-in is missing, which compiles for GPUs: pip install "
      "'pid_jax[cuda13]'"
    )
  return chips.Chip(
    kind=card.name,
    num_devices=hosts * cards,
    memory_bytes=int(card.memory_bytes * _memory_fraction()),
    flop_rates=card.flop_rates,
    bandwidth=card.bandwidth,
  )


def devices(topology: str) -> Sequence[Any]:
  """Returns the devices of a topology that `find_chip` knows.

  JAX must have been started with JAX_PLATFORMS=cpu where there is no GPU.
  """
  from jax.experimental import topologies

  card, (hosts, cards) = _parse(topology)
  with progress.stderr_silenced():  # It tells that there is no driver.
    described = topologies.get_topology_desc(
      platform='cuda',
      target_config=card.target_config(),
      topology=f'1x{hosts}x{cards}',
    )
  return described.devices


def _parse(topology: str) -> tuple[Card, tuple[int, int]]:
  """Returns the card, and the numbers of hosts and of cards in each."""
  name, colon, count = topology.partition(':')
  number = int(count) if count.isdecimal() else 1 - bool(colon)
  hosts, cards = 1, number
  if number > _CARDS_PER_HOST:
    hosts, cards = number // _CARDS_PER_HOST, _CARDS_PER_HOST
  if name not in CARDS or number < 1 or hosts * cards != number:
    raise errors.UserError(
      f'unknown topology {topology!r}; {NAMES}, from 1 to {_CARDS_PER_HOST} '
      f'or a multiple of {_CARDS_PER_HOST}'
    )
  return CARDS[name], (hosts, cards)


def _memory_fraction() -> float:
  for variable in _FRACTION_VARIABLES:
    text = os.environ.get(variable)
    if text:
      try:
        fraction = float(text)
      except ValueError:
        fraction = 0.0
      if not 0 < fraction <= 1:
        raise errors.UserError(
          f'{variable}={text}: a fraction of the memory of a GPU is above 0 '
          'and at most 1'
        )
      return fraction
  return _MEMORY_FRACTION
