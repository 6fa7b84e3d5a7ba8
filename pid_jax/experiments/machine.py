# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How fast this machine multiplies and reads: the floor of every program.

A machine may change its speed during a measurement (clock rates, neighbours on
the same host, who show in no statistics of the guest). `Probe` takes some
hundredths of a second and runs before and after whatever is timed: times at
different speeds must not be compared.
"""

from collections.abc import Callable
from concurrent import futures
import functools
import importlib.util
import math
import os
import platform
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pid_jax.experiments import output
from pid_jax.experiments import timer

# Of the product: some milliseconds long, and 12 MB in all.
_SIZE = 1024
_REPEATS = 3
# Rows of the products that decoding consists of: one row, the prompts of a job,
# several inputs.
_ROWS = (1, 6, 30, 240)
_MATRIX = (512, 1024)
_NUM_MATRICES = 64  # 134 MB.
_SECONDS = 2.0  # That the products of one number of rows may take.
# Several times the last-level cache of most machines.
_READ_BYTES = 128 << 20


class Probe:
  """Measures the speed of the moment, with all cores."""

  def __init__(self):
    """Allocates 140 MB and compiles the product."""
    self._matrix = jnp.ones((_SIZE, _SIZE), jnp.float32)
    product = jax.jit(jnp.dot).lower(self._matrix, self._matrix)
    self._product = product.compile()  # Kept when caches are cleared.
    cores = num_cores()
    self._parts = np.array_split(np.ones(_READ_BYTES // 4, np.float32), cores)
    self._pool = futures.ThreadPoolExecutor(cores)
    self()  # Starts the threads.

  def __call__(self) -> timer.Speed:
    """Returns medians of a few repeats."""
    return timer.Speed(
      2 * _SIZE**3 / timer.median_seconds(self._multiply, _REPEATS),
      _READ_BYTES / timer.median_seconds(self._read, _REPEATS),
    )

  def _multiply(self) -> None:
    self._product(self._matrix, self._matrix).block_until_ready()

  def _read(self) -> None:
    # NumPy releases the interpreter's lock, so the threads run together.
    list(self._pool.map(np.max, self._parts))


class DeviceProbe:
  """Measures the speed of JAX's default device at the moment."""

  def __call__(self) -> timer.Speed:
    """Returns the rates of a product in bfloat16 and of a copy."""
    on_cpu = jax.default_backend() == 'cpu'
    size, copied = (_SIZE // 8, 1 << 20) if on_cpu else (4096, 1 << 28)
    return timer.Speed(product_rate(size, 'bfloat16'), copy_rate(copied))


def product_rate(size: int, dtype: str, precision: str | None = None) -> float:
  """Returns FLOP/s of a product of two square matrices on JAX's device.

  Args:
    size: rows and columns.
    dtype: of both.
    precision: of JAX; None: its default.
  """
  x = jnp.ones((size, size), dtype) * 1.5
  run = lambda: _product(x, precision).block_until_ready()
  run()
  return 2 * size**3 / timer.median_seconds(run, _REPEATS)


def copy_rate(num_bytes: int) -> float:
  """Returns bytes/s, read and written, of a copy in the device's memory."""
  x = jnp.ones(num_bytes // 4, jnp.float32)
  run = lambda: _next(x).block_until_ready()
  run()
  return 2 * num_bytes / timer.median_seconds(run, _REPEATS)


_product = jax.jit(
  lambda x, precision: jnp.dot(x, x, precision=precision), static_argnums=1
)
_next = jax.jit(lambda x: x + 1)


def describe() -> dict:
  """Returns what the machine is, and its rates of products, as JSON types.

  'gflops_by_rows' are GFLOP/s of the products that decoding consists of, few
  rows times matrices that come from memory, by library and number of rows.
  XLA's bound this library's programs: what is lost there is lost in every
  program. PyTorch's, where it is installed, show what the hardware can do.
  Numbers of rows that would take long are left out.
  """
  multiply = jax.jit(_multiply_rows)
  matrices = [jnp.ones(_MATRIX) for _ in range(_NUM_MATRICES)]
  rates = {
    'xla_float32': _gflops_by_rows(
      'XLA', lambda x: multiply(x, matrices).block_until_ready(), jnp.ones
    )
  }
  if importlib.util.find_spec('torch'):
    import torch

    torch.set_num_threads(num_cores())
    matrices = [torch.ones(_MATRIX) for _ in range(_NUM_MATRICES)]
    rates['torch_float32'] = _gflops_by_rows(
      'PyTorch', lambda x: _multiply_rows(x, matrices), torch.ones
    )
  return {
    'cores': num_cores(),
    'processor': _processor(),
    'system': platform.platform(terse=True),
    'backend': jax.default_backend(),
    'device': jax.devices()[0].device_kind,
    'gflops_by_rows': rates,
  }


def num_cores() -> int:
  """Returns the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _multiply_rows(x, matrices):
  """Multiplies x [rows, K] with each of matrices [K, N], one after another."""
  for matrix in matrices:
    x = (x @ matrix)[:, : x.shape[1]]
  return x


def _gflops_by_rows(
  name: str,
  multiply: Callable[[Any], Any],
  ones: Callable[[tuple[int, int]], Any],
  clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
  """GFLOP/s of `_multiply_rows` by number of rows, as far as time allows.

  Some libraries multiply a hundred times slower on some processors. Row counts
  whose products would take more than `_SECONDS` are left out, and named.

  Args:
    name: of the library, for the message.
    multiply: does the products of x [rows, K], and waits for them.
    ones: returns such an x.
    clock: seconds; replaced in tests.
  """
  rates: dict[str, float] = {}
  for rows in _ROWS:
    flops = 2 * rows * math.prod(_MATRIX) * _NUM_MATRICES
    known = list(rates.values())
    if known and flops / known[-1] / 1e9 > _SECONDS:
      left_out = ', '.join(str(r) for r in _ROWS if r >= rows)
      output.say(
        f'{name} makes {known[-1]:.2g} GFLOP/s: products of {left_out} rows '
        'are not measured'
      )
      break
    x = ones((rows, _MATRIX[0]))
    before = clock()
    multiply(x)  # Compiles, too.
    seconds = clock() - before
    if seconds < _SECONDS:
      seconds = timer.median_seconds(functools.partial(multiply, x), _REPEATS)
    rates[str(rows)] = flops / seconds / 1e9
  return rates


def _processor() -> str:
  try:
    with open('/proc/cpuinfo') as f:
      names = [line for line in f if line.startswith('model name')]
    return names[0].partition(':')[2].strip()
  except (OSError, IndexError):
    return platform.processor() or platform.machine()
