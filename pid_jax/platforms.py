# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is done differently on CPUs, GPUs and TPUs, and why.

Some forms were tuned on one kind of device: they stand here, each with the
figure that justifies it, and everything else is the same everywhere.

A program is made for the platform of the devices that it is to run on, which
may exist in name only: `of` tells it from the devices. `Partitioner.scope`
enters its `scope`, and `current` returns it to whatever is traced there;
without a partitioner JAX's default device decides.

Seconds of CPUs are those of two cores of an AMD EPYC (Zen 5) unless they say
otherwise, in float32. "Compiled" programs did not run.
"""

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import contextvars
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
    nests_loops: whether steps with drafts and without are two loops within one,
      not the branches of one.
    joins_rows: whether products with trained kernels have one axis of rows.
    repeats_by_product: whether position biases are repeated over a batch by a
      product with ones.
    splits_argmax: whether an argmax finds a block first.
    min_narrow_rows: rows that a product with narrow weights is padded to.
    widens_results: whether products with bfloat16 weights have float32 results,
      which are rounded after.
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
  nests_loops: bool = False
  joins_rows: bool = False
  repeats_by_product: bool = False
  splits_argmax: bool = False
  min_narrow_rows: int = 1
  widens_results: bool = False
  compiler_options: Mapping[str, Any] = dataclasses.field(
    default_factory=lambda: types.MappingProxyType({})
  )


_PLATFORMS = {
  'cpu': Platform(
    'cpu',
    # Unrolled layers run faster on a CPU, where XLA copies the slices of
    # stacked parameters, and few layers compile as fast.
    scan_layers=False,
    num_compactions=2,
    # T5 1.1 small, another processor: 0.32 ms for an extra token and 9 ms for a
    # step of 4 sequences.
    tokens_per_step=32,
    # Two Zen 5 cores, float32, the quickstart's model (3 + 2 layers): 16 inputs
    # of 128 tokens are encoded in 17 ms, 11 of these for weights. Its encoder
    # compiles in 0.6 s, prefill and one loop in 1.9 s, a further loop in 1 s.
    flops_per_second=2e11,
    seconds_per_part=0.75,
    seconds_per_layer=0.1,
    # XLA copies the cache into and out of branches: a seventh of a step.
    nests_loops=True,
    # A gated block, 128 x 512, of 16 x 128 tokens, forward and backward: 32 ms,
    # with two axes of rows 85.
    joins_rows=True,
    # The gradient of a [4, 128, 128] bias of 16 rows: 0.8 ms, of a broadcast,
    # which is a sum, 5.1.
    repeats_by_product=True,
    # Maxima use vector instructions, argmax does not. 30 rows of 32,128: 0.13
    # and 2.2 ms.
    splits_argmax=True,
    # A row times 512 x 32,128 in int8: 0.9 ms, not padded 29.
    min_narrow_rows=4,
    # Sums in bfloat16 are slower on CPUs, and wrong.
    widens_results=True,
  ),
  # T5 1.1 base, whole `generate`, compiled for an H100 on two cores: 497
  # products, 36 of them different, and 24 s unrolled with three bodies of the
  # step; 27, 24 different, and 7 s scanned with one. On the H100, four unrolled
  # programs took more than 320 s.
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
  # The plain forms, compiled for a v5e. Of the gradient of T5 1.1 base with two
  # layers to a stack, 16 rows of 512 and 128 tokens: 7 % fewer estimated cycles
  # with two axes of rows, scanned 9 %. Of prompt lookup for 4 inputs, 180 MB of
  # temporaries with branches, 264 with nested loops, in equal cycles. Of 480
  # sequences, 408 MB with a plain argmax, 483 with one in blocks.
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

_current: contextvars.ContextVar[Platform | None] = contextvars.ContextVar(
  'platform', default=None
)


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


@contextlib.contextmanager
def scope(devices: Any) -> Iterator[None]:
  """Context of tracing programs for some devices, see `of`.

  JAX keeps what it traced by functions and shapes: trace no function in two
  scopes, unless the scopes are those of partitioners, whose meshes count too.
  """
  token = _current.set(of(devices))
  try:
    yield
  finally:
    _current.reset(token)


def current() -> Platform:
  """Returns the platform that a program is being traced for."""
  return _current.get() or of()
