# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is done differently on CPUs, GPUs and TPUs, and why.

Some forms were tuned on one kind of device: they stand here, each with the
figure that justifies it, and everything else is the same everywhere. Two kinds
of code ask:

- what decides about the structure of a program (loops over layers, how many
  bodies of the step) asks `of` for the `Platform` of its devices, which may
  exist in name only;
- a function whose form differs inside a program leaves the choice to the
  lowering, by `jax.lax.platform_dependent`, and names its figure beside it.
"""

from collections.abc import Mapping
import dataclasses
import types
from typing import Any

import jax


@dataclasses.dataclass(frozen=True)
class Platform:
  """How programs of one kind of device are made.

  Attributes:
    name: 'cpu', 'gpu' or 'tpu', as JAX calls it.
    scan_layers: whether programs of inference loop over their layers, whatever
      the form of the checkpoint, and training does unless told otherwise.
    num_compactions: how often `decoding.generate` may halve the sequences that
      are decoded, see there. Each adds a body of the step to the program.
    tokens_per_step: see `decoding.PromptLookup`.
    flops_per_second: that batches reach, until some were measured.
    seconds_per_part: of compiling an encoder (half of it), a prefill or a loop
      of steps, whatever the number of layers, until some were measured.
    seconds_per_layer: of compiling each layer in a prefill or loop (half of it
      in an encoder); once if layers are scanned.
    compiles_ahead: whether programs are compiled while others run.
    compiler_options: of XLA, for the programs of inference.
  """

  name: str
  scan_layers: bool
  num_compactions: int
  tokens_per_step: int
  flops_per_second: float
  seconds_per_part: float
  seconds_per_layer: float
  compiles_ahead: bool = True
  compiler_options: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: types.MappingProxyType({})
  )


_PLATFORMS = {
  # Unrolled layers run faster on a CPU, where XLA copies the slices of stacked
  # parameters, and few layers compile as fast.
  'cpu': Platform(
    'cpu',
    scan_layers=False,
    num_compactions=2,
    # T5 1.1 small in float32, two cores: 0.32 ms for an extra token and 9 ms
    # for a step of 4 sequences.
    tokens_per_step=32,
    # Two Zen 5 cores, float32, the quickstart's model (3 + 2 layers): 16 inputs
    # of 128 tokens are encoded in 17 ms. Its encoder compiles in 0.6 s, prefill
    # and one loop in 1.9 s, each further loop in 1 s.
    flops_per_second=1.5e11,
    seconds_per_part=0.75,
    seconds_per_layer=0.1,
  ),
  # T5 1.1 base, whole `generate`, compiled for an H100 on two cores: 497
  # products to tune and 28 s unrolled with three bodies of the step; 28 and 7 s
  # scanned with one. On the H100, unrolled programs took more than 320 s.
  'gpu': Platform(
    'gpu',
    scan_layers=True,
    num_compactions=0,
    tokens_per_step=256,
    # T5 1.1 base on an H100, nothing tuned: 250 ms for 16 inputs of 512 tokens
    # with 30 prompts and 8 steps; compiled in 12 s.
    flops_per_second=1e13,
    seconds_per_part=3.0,
    seconds_per_layer=1.0,
    # Products are tuned by timing them, which other programs would disturb.
    compiles_ahead=False,
    # cuBLASLt needs little tuning; Triton's products that were not tuned took 1
    # to 2 ms each, a twentieth of the card's rate.
    compiler_options=types.MappingProxyType(
      {'xla_gpu_enable_triton_gemm': False}
    ),
  ),
  'tpu': Platform(
    'tpu',
    scan_layers=True,
    num_compactions=0,
    tokens_per_step=256,
    # Not measured: as a GPU.
    flops_per_second=1e13,
    seconds_per_part=3.0,
    seconds_per_layer=1.0,
  ),
}


def of(devices: Any = None) -> Platform:
  """Returns the platform of some devices.

  Args:
    devices: a device, a mesh, or an iterable of devices, which may exist in
      name only; None: JAX's default device.
  """
  if devices is None:
    name = jax.default_backend()
  else:
    if isinstance(devices, jax.sharding.Mesh):
      devices = devices.devices.flat
    device = devices if hasattr(devices, 'platform') else next(iter(devices))
    name = device.platform
  # JAX calls GPUs 'gpu', 'cuda' or 'rocm', depending on who asks.
  return _PLATFORMS.get(name, _PLATFORMS['gpu'])
