# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A request to stop, obeyed between two steps.

The exit status is the shell's for the signal, 143 for SIGTERM and 130 for
SIGINT: a run that is not finished must not look finished to `make` or to a
scheduler.
"""

import contextlib
import signal
import threading

import jax
import orbax.checkpoint as ocp

from pid_jax import interrupts


class Interruption:
  """A context in which SIGTERM and SIGINT ask for a stop.

  A second one has its usual effect. In a command the first one has, too, before
  the first call of `requested`: there is nothing to save then. Of many
  processes it is enough that one receives SIGTERM: JAX's preemption service
  tells the others, and finds a check that none has passed yet, at which all
  stop. It knows SIGTERM only, so SIGINT is turned into that.

  Attributes:
    signal: that the run stops for; None until then.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None
    self._num_checks = 0
    self._previous = {}
    self._stack = contextlib.ExitStack()
    self._is_open = False

  def __enter__(self) -> 'Interruption':
    self._is_open = True
    # Other processes must learn of it; without a command it has no good effect.
    if jax.distributed.is_initialized() or not interrupts.is_installed():
      self._install()
    return self

  def __exit__(self, *unused) -> None:
    self._is_open = False
    self._restore()
    self._stack.close()

  def _install(self) -> None:
    if threading.current_thread() is not threading.main_thread():
      return
    # JAX handles SIGTERM where it has been initialized for many processes.
    numbers = {signal.SIGTERM, signal.SIGINT}
    if jax.distributed.is_initialized():
      numbers.remove(signal.SIGTERM)
    self._stack.enter_context(interrupts.Spared())
    for number in numbers:
      self._previous[number] = signal.signal(number, self._note)

  def _restore(self) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number, unused_frame) -> None:
    self._restore()
    if jax.distributed.is_initialized():
      signal.raise_signal(signal.SIGTERM)
    else:
      self.signal = signal.Signals(number)

  def requested(self) -> bool:
    """Returns whether to stop here.

    All processes must ask equally often: they get the same answers.
    """
    if self._is_open and not self._previous:
      self._install()
    if self.signal is None and jax.distributed.is_initialized():
      self._num_checks += 1
      if ocp.multihost.reached_preemption(self._num_checks):
        self.signal = signal.SIGTERM
    return self.signal is not None

  @property
  def exit_status(self) -> int:
    return 128 + self.signal
