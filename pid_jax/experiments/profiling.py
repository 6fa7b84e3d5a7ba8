# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Shares of a program's time, by phase and part of the network.

JAX's profiler notes when each operation of the compiled program began and
ended; the program's text says which line of the network an operation comes
from. Operations of one program overlap on several threads, so times are summed
over threads, and reported as shares of that sum.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import itertools
import pathlib
import re
import tempfile
from typing import Any

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
  with tempfile.TemporaryDirectory(prefix='pid_jax_profile_') as folder:
    with jax.profiler.trace(folder):
      run()
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    read = jax.profiler.ProfileData.from_file(str(path))
    return shares(program.as_text(), _events(read))


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


def _events(read: Any) -> Iterator[tuple[str, float]]:
  for plane in read.planes:
    for line in plane.lines:
      for event in line.events:
        yield event.name, event.duration_ns
