# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shares of a program's time, by phase and part of the network.

JAX's profiler notes when each operation of the compiled program began and
ended; the program's text says which line of the network an operation comes
from. Operations of one program overlap on several threads, so times are summed
over threads, and reported as shares of that sum.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import itertools
import pathlib
import re
import statistics
import tempfile
from typing import Any, NamedTuple

import jax

from pid_jax.experiments import hlo

# Parts of a layer by what is in the path of an operation, the first that fits.
_PARTS = {
  'encoder_decoder_attention': 'cross-attention',
  'self_attention': 'self-attention',
  'attention': 'self-attention',
  'mlp': 'mlp',
  'logits': 'logits',
}
_PATH = re.compile(r'op_name="([^"]*)"')


def profile(
  program: Any, run: Callable[[], Any]
) -> dict[str, dict[str, float]]:
  """Runs a program once under JAX's profiler.

  Args:
    program: compiled, of `decoding.generate`, its layers not scanned.
    run: runs it to the end; it has run before, so that nothing is compiled.

  Returns:
    Phase ('encode', 'prefill' or 'steps') -> part ('self-attention',
    'cross-attention', 'mlp', 'logits' or 'other') -> its share of all time of
    threads.
  """
  with _profiled(run) as read:
    return shares(program.as_text(), _events(read))


class Kernel(NamedTuple):
  """Something that a GPU ran.

  Attributes:
    name: of the kernel, or the copy.
    start: nanoseconds.
    nanoseconds: that it took.
  """

  name: str
  start: float
  nanoseconds: float


def profile_gpu(
  run: Callable[[], Any],
) -> tuple[list[Kernel], dict[str, int]]:
  """Runs programs on one GPU under JAX's profiler.

  Args:
    run: as in `profile`.

  Returns:
    What ran on the GPU; none without one. And how often the host called each
    function of the driver that starts kernels ('cuLaunchKernel') or command
    buffers ('cuGraphLaunch').
  """
  kernels, launches = [], collections.Counter()
  with _profiled(run) as read:
    for plane in read.planes:
      on_gpu = plane.name.startswith('/device:GPU')
      for line in plane.lines:
        for event in line.events:
          if on_gpu and line.name.startswith('Stream'):
            kernel = event.name, event.start_ns, event.duration_ns
            kernels.append(Kernel(*kernel))
          elif not on_gpu and re.match(r'cu(Graph)?Launch', event.name):
            launches[event.name] += 1
  return kernels, dict(launches)


@dataclasses.dataclass(frozen=True)
class Gaps:
  """How busy a GPU was between its first kernel and its last.

  Attributes:
    span: seconds from the first to the last.
    busy: seconds in which at least one kernel ran.
    median: seconds of the median gap between kernels; 0 if there is none.
    longest: seconds of the longest gap.
  """

  span: float
  busy: float
  median: float
  longest: float


def gaps(kernels: Sequence[Kernel]) -> Gaps:
  """Measures the time in which nothing ran.

  Args:
    kernels: at least one, in any order; they may overlap.
  """
  ordered = sorted(kernels, key=lambda kernel: kernel.start)
  end = ordered[0].start
  found = []
  for kernel in ordered:
    if kernel.start > end:
      found.append(kernel.start - end)
    end = max(end, kernel.start + kernel.nanoseconds)
  span = end - ordered[0].start
  return Gaps(
    span / 1e9,
    (span - sum(found)) / 1e9,
    statistics.median(found or [0.0]) / 1e9,
    max(found, default=0.0) / 1e9,
  )


def shares(
  text: str, events: Iterable[tuple[str, float]]
) -> dict[str, dict[str, float]]:
  """Adds up events by what their operations belong to.

  Args:
    text: of the compiled program.
    events: name of an operation and its time; others than operations of the
      program are left out.

  Returns:
    As `profile`.
  """
  paths = _paths(text)
  found: dict[str, dict[str, float]] = {}
  for name, seconds in events:
    if name in paths:
      phase, part = classify(paths[name])
      parts = found.setdefault(phase, {})
      parts[part] = parts.get(part, 0.0) + seconds
  total = sum(seconds for parts in found.values() for seconds in parts.values())
  return {
    phase: {part: seconds / total for part, seconds in sorted(parts.items())}
    for phase, parts in sorted(found.items())
  }


def classify(path: str) -> tuple[str, str]:
  """Returns phase and part of an operation by its path (`op_name`)."""
  if 'Transformer.encode/' in path:
    phase = 'encode'
  else:
    phase = 'steps' if 'while/body' in path else 'prefill'
  parts = (part for word, part in _PARTS.items() if word in path)
  return phase, next(parts, 'other')


def _paths(text: str) -> dict[str, str]:
  """Returns the place in the network of each operation, by name.

  Some operations that the compiler makes, among them products of attention,
  have no path: they get that of their first operand which has one.
  """
  computations, _ = hlo.parse(text)
  paths = {}
  for instruction in itertools.chain.from_iterable(computations.values()):
    found = _PATH.search(instruction.attributes)
    known = [paths[name] for name in instruction.operands if name in paths]
    if found or known:
      paths[instruction.name] = found[1] if found else known[0]
  return {name.removeprefix('%'): path for name, path in paths.items()}


@contextlib.contextmanager
def _profiled(run: Callable[[], Any]) -> Iterator[Any]:
  """Yields what JAX's profiler wrote, `jax.profiler.ProfileData`."""
  with tempfile.TemporaryDirectory(prefix='pid_jax_profile_') as folder:
    with jax.profiler.trace(folder):
      run()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    yield jax.profiler.ProfileData.from_file(str(path))


def _events(read: Any) -> Iterator[tuple[str, float]]:
  for plane in read.planes:
    for line in plane.lines:
      for event in line.events:
        yield event.name, event.duration_ns
