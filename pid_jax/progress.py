# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Progress of a long loop: a bar on a terminal, occasional lines elsewhere.

A log file should not fill with carriage returns, and a training step should
not wait for its loss to be printed: values are read only when they are shown.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import os
import sys
import threading
import time
from typing import Any, TextIO

import tqdm


class Progress:
  """Shows how far a loop has come; a context manager.

  Example:
      with Progress(1000, label='train', unit='step') as progress:
        for step in range(1, 1001):
          loss = train_step(...)
          progress.update(step, {'loss': loss})
  """

  def __init__(
    self,
    total: int | None,
    *,
    label: str,
    unit: str = 'step',
    start: int = 0,
    enabled: bool = True,
    seconds_between_lines: float = 20.0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Starts the clock.

    Args:
      total: the count at which the loop ends; None when it is not known.
      label: the first word of the bar or line.
      unit: what is counted, in the singular.
      start: the count already done, for a loop that was resumed.
      enabled: False shows nothing, as on every host but the first.
      seconds_between_lines: least time between two plain lines.
      stream: where to show it; standard error when None.
      clock: seconds that only grow; replaced in tests.
    """
    self._total, self._label, self._unit = total, label, unit
    self._start = self._done = start
    self._stream = stream or sys.stderr
    self._clock = clock
    self._began = self._shown_at = clock()
    self._shown = start
    self._values: Mapping[str, Any] = {}
    self._enabled = enabled
    self._bar = None
    self._interval = seconds_between_lines
    if enabled and self._stream.isatty():
      self._interval = 0.2
      self._bar = tqdm.tqdm(
        total=total,
        initial=start,
        desc=label,
        unit=' ' + unit,
        file=self._stream,
        dynamic_ncols=True,
        leave=True,
      )

  def __enter__(self) -> 'Progress':
    return self

  def __exit__(self, *exc_info) -> None:
    if self._enabled and self._done != self._shown:
      self._show(self._clock())
    if self._bar is not None:
      self._bar.close()

  def update(self, done: int, values: Mapping[str, Any] | None = None) -> None:
    """Notes the count done so far, and shows it when it is time to.

    Args:
      done: how many of `total` are done, `start` included.
      values: numbers to show beside it. They may be JAX arrays that are still
        being computed: they are read only when shown, a few times a minute
        (a few times a second on a terminal).
    """
    self._done = done
    if values is not None:
      self._values = values
    now = self._clock()
    if self._enabled and now - self._shown_at >= self._interval:
      self._show(now)

  def restart_clock(self) -> None:
    """Measures the speed from here on, without the compilation before."""
    self._start, self._began = self._done, self._clock()

  def _show(self, now: float) -> None:
    values = ' '.join(f'{k} {_number(v)}' for k, v in self._values.items())
    if self._bar is not None:
      self._bar.set_postfix_str(values, refresh=False)
      self._bar.update(self._done - self._shown)
    else:
      total = '' if self._total is None else f'/{self._total}'
      speed = (self._done - self._start) / max(now - self._began, 1e-9)
      left = ''
      if speed and self._total is not None and self._done < self._total:
        seconds = (self._total - self._done) / speed
        left = f', {tqdm.tqdm.format_interval(seconds)} left'
      line = (
        f'{self._label} {self._done}{total} {self._unit}s '
        f'({_number(speed)}/s{left}) {values}'
      )
      write_line(line.rstrip(), self._stream)
    self._shown, self._shown_at = self._done, now


def _number(value: Any) -> str:
  return f'{float(value):.4g}'


@contextlib.contextmanager
def announced(line: str, seconds: float = 3.0) -> Iterator[None]:
  """Writes a line to standard error if what is within takes long.

  Args:
    line: what takes its time.
    seconds: that it may take in silence.
  """
  timer = threading.Timer(seconds, write_line, [line])
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def write_line(line: str, stream: TextIO | None = None) -> None:
  """Writes a line to standard error (or `stream`) without breaking a bar.

  A line that cannot be written, as to a full disk, is dropped: it must not
  change how a command ends.
  """
  with contextlib.suppress(OSError):
    tqdm.tqdm.write(line, file=stream or sys.stderr)


@contextlib.contextmanager
def stderr_silenced() -> Iterator[None]:
  """Discards what is written to file descriptor 2 of the process.

  For one import or call of a library whose C++ logs before its log level can be
  set: TensorFlow reports its build and missing drivers whatever the environment
  says. Python's errors pass as exceptions.
  """
  sys.stderr.flush()
  kept = os.dup(2)
  try:
    with open(os.devnull, 'w') as nowhere:
      os.dup2(nowhere.fileno(), 2)
    yield
  finally:
    os.dup2(kept, 2)
    os.close(kept)
