# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What is compiled of a network: programs that are started before they run.

`jax.jit` compiles when it is called, so a program would stop everything until
it is there. Here one is traced and lowered when it is asked for, and compiled
in a thread: XLA holds no lock of Python meanwhile, so that other programs run,
are traced or are compiled. Each says how long it took, and whether it came from
JAX's persistent cache, which `compilation` switches on.
"""

from collections.abc import Hashable
from collections.abc import Mapping
from concurrent import futures
import contextlib
import dataclasses
import functools
import threading
import time
from typing import Any

import jax

from pid_jax import compilation
from pid_jax import partitioning
from pid_jax import platforms
from pid_jax import progress
from pid_jax.inference import memory
from pid_jax.inference import planning

# Python waits for them when it exits. More threads than this would take the
# processors from what runs.
_THREADS = 2
_CACHE_HIT = '/jax/compilation_cache/cache_hits'


class Program:
  """A compiled program, or one that is still being compiled.

  Attributes:
    kind: what it does, such as 'encode'.
    tracing_seconds: of tracing and lowering.
  """

  def __init__(
    self,
    kind: str,
    lowered: jax.stages.Lowered,
    compiler_options: Mapping[str, Any],
    tracing_seconds: float,
    announcement: str,
  ):
    """Starts compiling; see `Programs.start`."""
    self.kind, self.tracing_seconds = kind, tracing_seconds
    self._announcement = announcement
    self._compiled = _threads().submit(
      _compile, lowered, dict(compiler_options) or None
    )

  @property
  def is_ready(self) -> bool:
    """Whether it can run without waiting."""
    return self._compiled.done()

  @property
  def has_failed(self) -> bool:
    """Whether compiling it raised an exception."""
    return self.is_ready and self._compiled.exception() is not None

  @property
  def compiling_seconds(self) -> float:
    """Seconds of compiling, or of reading it from the persistent cache."""
    return self._result().seconds

  @property
  def was_kept(self) -> bool:
    """Whether the persistent cache had it."""
    return self._result().was_kept

  def wait(self) -> None:
    """Waits until it is compiled, which is said if it takes long."""
    if not self.is_ready:
      with progress.announced(self._announcement):
        self._result()

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """Runs it, as the function it was made of, without static arguments.

    Raises:
      UserError: there is not enough memory.
    """
    self.wait()
    with memory.explained():
      return self._result().executable(*args, **kwargs)

  def _result(self) -> '_Compiled':
    with memory.explained():
      return self._compiled.result()


@dataclasses.dataclass(frozen=True)
class _Compiled:
  executable: jax.stages.Compiled
  seconds: float
  was_kept: bool


@dataclasses.dataclass(frozen=True)
class Summary:
  """What programs there are, and what they cost.

  Attributes:
    num_programs: compiled, or read from the persistent cache.
    num_kept: of these, read from the persistent cache.
    tracing_seconds: of tracing and lowering.
    compiling_seconds: of compiling or reading; threads add up.
    running_seconds: in which batches ran.
  """

  num_programs: int
  num_kept: int
  tracing_seconds: float
  compiling_seconds: float
  running_seconds: float

  def __str__(self) -> str:
    return (
      f'{self.num_programs} program{"s" * (self.num_programs != 1)}: '
      f'{self.tracing_seconds:.1f} s tracing, {self.compiling_seconds:.1f} s '
      f'compiling ({self.num_kept} kept from before), '
      f'{self.running_seconds:.1f} s running'
    )


class Programs:
  """The programs of a network on a mesh.

  Attributes:
    functions: by their names, jitted.
    platform: of the devices.
    measured: what they took.
    running_seconds: in which batches ran; the caller adds to it.
  """

  def __init__(
    self,
    functions: Mapping[str, jax.stages.Wrapped],
    partitioner: partitioning.Partitioner | None,
  ):
    """Compiles nothing yet.

    Args:
      functions: by their names, jitted.
      partitioner: of the mesh, or None: one device.
    """
    compilation.use_cache()
    self.functions = functions
    self.measured = planning.Measurements()
    self.platform = platforms.of(partitioner and partitioner.mesh)
    self.running_seconds = 0.0
    self._partitioner = partitioner
    self._programs: dict[Hashable, Program] = {}
    self._forms: dict[Hashable, int] = {}
    self._lock = threading.Lock()

  def find(self, kind: str, key: Hashable) -> Program | None:
    """Returns a program that was started, or None."""
    program = self._programs.get((kind, key))
    return None if program is None or program.has_failed else program

  def start(
    self,
    kind: str,
    key: Hashable,
    *args: Any,
    announcement: str = '',
    **static: Any,
  ) -> Program:
    """Returns a program, and starts compiling it if it is new.

    Args:
      kind: the name of the function.
      key: of all that the program depends on besides.
      *args: arrays or ShapeDtypeStructs.
      announcement: a line for the user who has to wait for it.
      **static: arguments by name that are fixed in the program.
    """
    with self._lock:
      program = self.find(kind, key)
      if program is None:
        began = time.perf_counter()
        with self.scope(), memory.explained():
          lowered = self.functions[kind].trace(*args, **static).lower()
        program = Program(
          kind,
          lowered,
          self.platform.compiler_options,
          time.perf_counter() - began,
          announcement,
        )
        self._programs[kind, key] = program
    return program

  def form(self, tree: Any) -> int:
    """Returns a number for what a program depends on of its arguments.

    Args:
      tree: of arrays. Trees of equal structure, shapes, dtypes, shardings and
        layouts in memory have the same number.
    """
    leaves, structure = jax.tree.flatten(tree)
    # Random keys have no format; NumPy's arrays have neither.
    placed = lambda x: (
      getattr(x, 'sharding', None),
      getattr(x, 'format', None),
    )
    form = structure, tuple((x.shape, x.dtype, *placed(x)) for x in leaves)
    with self._lock:
      return self._forms.setdefault(form, len(self._forms))

  def scope(self) -> contextlib.AbstractContextManager[None]:
    """Context of tracing: logical axes resolve to the mesh."""
    if self._partitioner is None:
      return contextlib.nullcontext()
    return self._partitioner.scope()

  def summary(self) -> Summary:
    """Returns what there is; of programs that are being compiled nothing."""
    ready = [
      program
      for program in list(self._programs.values())  # Other threads add some.
      if program.is_ready and not program.has_failed
    ]
    return Summary(
      num_programs=len(ready),
      num_kept=sum(program.was_kept for program in ready),
      tracing_seconds=sum(program.tracing_seconds for program in ready),
      compiling_seconds=sum(program.compiling_seconds for program in ready),
      running_seconds=self.running_seconds,
    )


@functools.cache
def _threads() -> futures.ThreadPoolExecutor:
  jax.monitoring.register_event_listener(_note_event)
  return futures.ThreadPoolExecutor(_THREADS, 'pid_jax_compiler')


# JAX tells the thread that compiles where the program comes from.
_events = threading.local()


def _note_event(event: str, **unused: Any) -> None:
  if event == _CACHE_HIT:
    _events.hits = getattr(_events, 'hits', 0) + 1


def _compile(
  lowered: jax.stages.Lowered, compiler_options: dict[str, Any] | None
) -> _Compiled:
  _events.hits = 0
  began = time.perf_counter()
  executable = lowered.compile(compiler_options)
  return _Compiled(executable, time.perf_counter() - began, _events.hits > 0)
