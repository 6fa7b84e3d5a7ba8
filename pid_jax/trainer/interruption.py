# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A request to stop, obeyed between two steps.

The exit status is the shell's for the signal, 143 for SIGTERM and 130 for
SIGINT: a run that is not finished must not look finished to `make` or to a
scheduler.
"""

import signal
import threading

import jax
import orbax.checkpoint as ocp


class Interruption:
  """A context in which SIGTERM and SIGINT ask for a stop.

  A second SIGINT has its usual effect. Of many processes it is enough that one
  receives SIGTERM: JAX's preemption service tells the others, and finds a check
  that none has passed yet, at which all stop. It knows SIGTERM only, so SIGINT
  is turned into that.

  Attributes:
    signal: that the run stops for; None until then.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None
    self._num_checks = 0
    self._previous = {}

  def __enter__(self) -> 'Interruption':
    if threading.current_thread() is threading.main_thread():
      # JAX handles SIGTERM where it has been initialized for many processes.
      numbers = {signal.SIGTERM, signal.SIGINT}
      if jax.distributed.is_initialized():
        numbers.remove(signal.SIGTERM)
      for number in numbers:
        self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *unused) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number, unused_frame) -> None:
    if jax.distributed.is_initialized():
      signal.raise_signal(signal.SIGTERM)
    else:
      self.signal = signal.Signals(number)
    if number == signal.SIGINT:
      signal.signal(number, self._previous[number])

  def requested(self) -> bool:
    """Returns whether to stop here.

    All processes must ask equally often: they get the same answers.
    """
    if self.signal is None and jax.distributed.is_initialized():
      self._num_checks += 1
      if ocp.multihost.reached_preemption(self._num_checks):
        self.signal = signal.SIGTERM
    return self.signal is not None

  @property
  def exit_status(self) -> int:
    return 128 + self.signal
