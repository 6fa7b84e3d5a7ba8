# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Ends commands on SIGINT and SIGTERM: soon, in one line, status 130 or 143.

A KeyboardInterrupt in the main thread is not enough. During imports it would be
a traceback; in a callback of C++ or a destructor it is lost; and while C++
compiles or computes, none is raised. So there are three phases:

    start, end   the process ends at once: there is nothing to tidy up
    `Running`    a KeyboardInterrupt lets files be tidied up; it is raised again
                 if it was lost; after some seconds the process ends regardless

Only programs install this, `python -m pid_jax.NAME`: other programs handle
signals themselves. SIGHUP keeps its default, which ends the process; a signal
that is ignored, as by nohup, stays so. What Python has not loaded by itself is
imported late here: until the handlers are there, a signal is a traceback.
"""

from __future__ import annotations

import _thread
import atexit
import os
import signal
import sys
import time

TYPE_CHECKING = False  # Without importing typing.
if TYPE_CHECKING:
  from collections.abc import Sequence
  from types import FrameType
  from typing import NoReturn

_WORDS = {signal.SIGINT: 'interrupted', signal.SIGTERM: 'terminated'}
_SECONDS_TO_END = 3.0
_SECONDS_TO_RAISE_AGAIN = 0.5


class _State:
  """Of this process.

  Attributes:
    installed: whether this module handles signals.
    running: whether there may be something to tidy up.
    verbose: whether libraries may still write after a signal.
    stderr: a copy of descriptor 2, which is silenced at times.
    received: the signal that ends the process; None until then.
    spared: how many signals somebody else handles first.
    status: with which the process ends; None until it is known.
    line_written: held by the thread that wrote the line.
  """

  installed = False
  running = False
  verbose = False
  stderr: int | None = None
  received: int | None = None
  spared = 0
  status: int | None = None
  line_written = _thread.allocate_lock()


_state = _State()


def install_in_program() -> None:
  """Installs the handlers if this is `python -m pid_jax.NAME` starting.

  Called by the package's first line: while Python locates a module that is
  started by `-m`, that is what `sys.argv[0]` says.
  """
  # What follows the options of Python is the module and its arguments.
  if sys.argv[:1] == ['-m'] and 'pid_jax.' in sys.orig_argv[-len(sys.argv)]:
    install()


def install() -> None:
  """Makes signals end this process at once; repeated calls are no-ops."""
  if _state.installed:
    return
  for number in _WORDS:
    if signal.getsignal(number) is not signal.SIG_IGN:
      signal.signal(number, _handle)
  _state.installed = True
  try:
    _state.stderr = os.dup(2)
  except OSError:  # It is closed.
    pass
  atexit.register(_at_exit)
  os.register_at_fork(after_in_child=_uninstall)


def is_installed() -> bool:
  """Whether this process is a command."""
  return _state.installed


class Running:
  """A context in which a signal raises KeyboardInterrupt in the main thread.

  Leaving it after a signal ends the process. Without effect where the handlers
  are not installed.
  """

  def __init__(self, verbose: bool = False):
    """Has no effect yet.

    Args:
      verbose: whether a traceback and libraries may write to standard error
        after a signal, besides the one line.
    """
    _state.verbose = verbose

  def __enter__(self) -> None:
    if _state.installed:
      receiver, sender = os.pipe()
      os.set_blocking(sender, False)
      # C's handler writes there even while no Python code can run.
      signal.set_wakeup_fd(sender, warn_on_full_buffer=False)
      _thread.start_new_thread(_watch, (receiver,))
      _state.running = True

  def __exit__(self, kind, error, tb) -> None:
    _state.running = False
    if _state.received is not None and _state.verbose and error is not None:
      sys.excepthook(kind, error, tb)
    _end_if_received()


class Spared:
  """A context in which the caller's handlers get the first signals.

  Further ones end the process even while C++ computes.
  """

  def __init__(self, count: int = 1):
    self._count = count

  def __enter__(self) -> None:
    _state.spared = self._count

  def __exit__(self, *unused) -> None:
    _state.spared = 0


def run_child(command: Sequence[str]) -> int:
  """Runs a program, which gets the signals of this process, each once.

  A separate process group: Ctrl-C on a terminal reaches it only from here. It
  decides itself how long it takes to end.

  Args:
    command: its arguments, the program first.

  Returns:
    Its exit status, as the shell gives it: 128 + N after signal N.
  """
  import subprocess  # Not above: commands start without it.

  relayed = [n for n in _WORDS if signal.getsignal(n) is not signal.SIG_IGN]
  with Spared(sys.maxsize):
    early: list[int] = []
    send = early.append
    previous = {
      number: signal.signal(number, lambda number, _: send(number))
      for number in relayed
    }
    try:
      with subprocess.Popen(command, process_group=0) as child:
        send = child.send_signal
        for number in early:
          send(number)
        status = child.wait()
    finally:
      for number, handler in previous.items():
        signal.signal(number, handler)
  return status if status >= 0 else 128 - status


def exit_with(status: int) -> NoReturn:
  """As `sys.exit`, but handles signals until the process has ended.

  While the interpreter is taken down they would have their default effects. So
  the last function of `atexit`, which is the first that was registered, ends
  the process.
  """
  _end_if_received()
  if _state.installed:
    _state.status = status
  sys.exit(status)


def _at_exit() -> None:
  if _state.status is not None:
    os._exit(_state.status)


def _handle(number: int, frame: FrameType | None) -> None:
  """Python's handler, called in the main thread."""
  # Modules of C++ crash if an exception interrupts their import.
  if not _state.running or _is_importing(frame):
    _end(number)
  _note(number)
  # While one is on its way out, files are being tidied up.
  error = sys.exception()
  while error is not None:
    if isinstance(error, KeyboardInterrupt):
      return
    error = error.__context__
  raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
  while frame is not None:
    if frame.f_globals.get('__name__') == 'importlib._bootstrap':
      return True
    frame = frame.f_back
  return False


def _watch(receiver: int) -> None:
  """Ends the process seconds after a signal, whatever the main thread does.

  Args:
    receiver: descriptor of a pipe into which the number of each signal goes.
  """
  while True:
    number = os.read(receiver, 1)[0]
    if number not in _WORDS:
      continue
    if not _state.spared:
      break
    _state.spared -= 1
  _note(number)
  end = time.monotonic() + _SECONDS_TO_END
  while time.monotonic() < end:
    time.sleep(_SECONDS_TO_RAISE_AGAIN)
    _thread.interrupt_main(number)
  _end(number)


def _end_if_received() -> None:
  if _state.received is not None:
    _end(_state.received)


def _note(number: int) -> None:
  """Notes what ends the process; from here on it writes its one line only."""
  if not _state.verbose:  # First, since the other thread may be at this, too.
    try:
      os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    except OSError:
      pass
  if _state.received is None:
    _state.received = number


def _end(number: int) -> None:
  """Writes the line and ends the process, without waiting for any thread."""
  if _state.line_written.acquire(blocking=False) and _state.stderr is not None:
    try:
      os.write(_state.stderr, f'{_WORDS[number]}\n'.encode())
    except OSError:
      pass
  os._exit(128 + number)


def _uninstall() -> None:
  """Gives a forked process, which runs something else, the usual handlers."""
  signal.set_wakeup_fd(-1)
  for number, default in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGTERM, signal.SIG_DFL),
  ):
    if signal.getsignal(number) is _handle:
      signal.signal(number, default)
