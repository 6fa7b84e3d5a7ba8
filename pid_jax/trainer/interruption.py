# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A request to stop, heard between two steps instead of in the middle of one.

The exit status is the shell's for the signal, 143 for SIGTERM and 130 for
SIGINT: a run that is not finished must not look so to `make` or a scheduler.
"""

import signal
import threading

from pid_jax import distributed


class Interruption:
  """A context in which SIGTERM and SIGINT set a flag.

  A second SIGINT has its usual effect, for the impatient. Of many processes it
  is enough that one hears the signal: the flag is set for all, at the same
  place, if all look at it equally often.
  """

  def __init__(self):
    self.signal: signal.Signals | None = None
    self._heard: signal.Signals | None = None
    self._previous = {}

  def __enter__(self) -> 'Interruption':
    if threading.current_thread() is threading.main_thread():
      for number in (signal.SIGTERM, signal.SIGINT):
        self._previous[number] = signal.signal(number, self._note)
    return self

  def __exit__(self, *unused) -> None:
    for number, handler in self._previous.items():
      signal.signal(number, handler)

  def _note(self, number, unused_frame) -> None:
    self._heard = signal.Signals(number)
    if distributed.is_joined():
      distributed.ask_to_stop(number)
    if number == signal.SIGINT:
      signal.signal(number, self._previous[number])

  def __bool__(self) -> bool:
    if self.signal is None:
      if not distributed.is_joined():
        self.signal = self._heard
      elif distributed.must_stop():
        self.signal = signal.Signals(distributed.stop_signal())
    return self.signal is not None

  @property
  def exit_status(self) -> int:
    return 128 + self.signal
