# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The one line that a command shows for an error that the user can fix."""

import os
import re
import sys
import traceback
from types import TracebackType

from pid_jax import checks
from pid_jax import errors
from pid_jax import file_errors
from pid_jax import gin_text

_MAX_LINE = 1000  # Characters of a message.
# Packages that come with extras.
_EXTRAS = {
  'train': (
    *('clu', 'rouge_score', 'seqio', 'tensorboard', 'tensorflow'),
    *('tensorflow_datasets', 'tensorflow_text', 't5', 'editdistance'),
  ),
  'experiments': ('ctranslate2', 'matplotlib', 'torch', 'transformers'),
  'tpu': ('libtpu',),
}


def explain(error: BaseException) -> str | None:
  """Returns the line to show for a mistake of the user; None for a bug.

  A mistake is a `UserError`, a check of subtasks.tf_assertions that failed
  inside tf.data, whatever gin itself raised about the files and bindings that
  it was given, what the operating system refused, memory that is not enough, or
  a package that is not installed. What gin only passed on is not.

  Args:
    error: an exception that was caught.
  """
  message = _explain(error)
  return None if message is None else one_line(message)


def one_line(text: str) -> str:
  """Returns a text without line ends and control characters, cut if long."""
  text = ''.join(c if c.isprintable() else ' ' for c in text)
  text = ' '.join(text.split())
  half = _MAX_LINE // 2
  return text if len(text) <= _MAX_LINE else f'{text[:half]} ... {text[-half:]}'


def _explain(error: BaseException) -> str | None:
  # gin appends where it was called.
  text = str(error).partition('\n  In call to configurable ')[0]
  if isinstance(error, errors.UserError):
    return text
  assertions = sys.modules.get('pid_jax.subtasks.tf_assertions')
  failed_check = assertions and assertions.user_error(error)
  if failed_check:
    return str(failed_check)
  if _raised_by_gin(error.__traceback__):
    return _explain_gin(error)
  if isinstance(error, MemoryError) or 'RESOURCE_EXHAUSTED' in text[:2000]:
    said = checks.shown(text.strip()) if text.strip() else 'the system has none'
    return (
      f'not enough memory ({said}): lower the batch size, or the lengths of '
      'inputs and targets'
    )
  if isinstance(error, ModuleNotFoundError):
    return _explain_missing(error.name or '')
  if isinstance(error, UnicodeEncodeError) and checks.has_surrogate(
    error.object[error.start : error.end]
  ):
    near = error.object[max(0, error.start - 20) : error.end + 20]
    return (
      f'a name has bytes that are not UTF-8: {checks.shown(near)}; rename the '
      'file'
    )
  if isinstance(error, FileNotFoundError) and error.filename is None:
    try:
      os.getcwd()
    except OSError:
      return 'the current folder has been removed; change to another one'
  return file_errors.explain(error)


def _explain_missing(module: str) -> str | None:
  """Names the extra that a package comes with; None for others."""
  package = module.partition('.')[0]
  extra = next((e for e, names in _EXTRAS.items() if package in names), None)
  if extra is None:
    return None
  note = ''
  if extra == 'train' and sys.version_info >= (3, 13):
    note = ', which compiles C++ on Python 3.13; Python 3.12 comes with it'
  return f"{package} is not installed: pip install 'pid_jax[{extra}]'{note}"


def _explain_gin(error: BaseException) -> str:
  lines = [line.strip() for line in str(error).splitlines()] or ['']
  macro = re.match(r"No bindings specified for '(\S+)/gin.macro'", lines[0])
  if macro:
    return (
      f'nothing gives %{macro[1]} a value: add a --gin_file that does, or '
      f'{gin_text.example_flag(macro[1])}'
    )
  missing = re.search(
    r'No values supplied by Gin or caller for (.*)', str(error)
  )
  call = re.search(r"In call to configurable '(.+?)'", str(error))
  if missing and call:
    return f'gin: {call[1]} needs values for {missing[1]}'
  message = f'gin: {lines[0]}'
  for line, content in zip(lines, lines[1:], strict=False):
    if line.startswith('In file'):
      message += f' {line[0].lower()}{line[1:]}: {content}'
  return message


def _raised_by_gin(tb: TracebackType | None) -> bool:
  """Whether gin's code raised it, rather than something that gin called."""
  frames = [frame for frame, _ in traceback.walk_tb(tb)]
  return frames[-1].f_globals.get('__name__', '').startswith('gin.')
