# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Reads gin files as text, without importing the modules that they name.

gin itself imports them, TensorFlow too, before it finds a mistake in the last
binding. A slip in a file or flag shows here at once.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
import dataclasses
import re
import sys
import tokenize
from typing import IO, Any

from etils import epath
from gin import config_parser

from pid_jax import checks
from pid_jax import errors

_REQUIRED = 'gin.REQUIRED'
_MOST_INCLUDES = 100  # One inside another.


@dataclasses.dataclass(frozen=True)
class Macro:
  """A value `%NAME`."""

  name: str


@dataclasses.dataclass(frozen=True)
class Reference:
  """A value `@NAME` or `@NAME()`."""

  name: str


class _Values(config_parser.ParserDelegate):
  """Makes values of macros and references, which stay what they are."""

  def configurable_reference(self, scoped_configurable_name, evaluate):
    del evaluate
    return Reference(scoped_configurable_name)

  def macro(self, macro_name):
    return Macro(macro_name)


class GinText:
  """What gin files and bindings say.

  Attributes:
    bindings: 'scope/selector.argument' or the name of a macro -> its last
      value, of Python's types, `Macro` and `Reference`.
  """

  def __init__(self, find: Callable[[str], str], open_file: Callable[..., IO]):
    """Has read nothing yet.

    Args:
      find: returns the path of a file that is named or included; raises
        UserError.
      open_file: opens such a path, for text.
    """
    self._find = find
    self._open = open_file
    self._used: set[str] = set()
    self.bindings: dict[str, Any] = {}

  def read_file(self, path: str, depth: int = 0) -> None:
    """Reads a file and those that it includes.

    Raises:
      UserError: a file cannot be found or read, or its syntax is wrong; a
        module that it imports does not exist.
    """
    if depth > _MOST_INCLUDES:
      raise errors.UserError(f'gin: {path} includes itself')
    try:
      with self._open(path) as file:
        for statement in config_parser.ConfigParser(file, _Values()):
          self._add(statement, path, depth)
    except SyntaxError as e:
      raise errors.UserError(f'gin: {_syntax_error(e, path)}') from e
    except tokenize.TokenError as e:
      raise errors.UserError(f'gin: {e.args[0]} in {path}') from e
    except UnicodeDecodeError as e:
      raise errors.UserError(
        f'gin: {path} is not UTF-8; save the file as UTF-8'
      ) from e
    except RecursionError as e:
      raise errors.UserError(f'gin: {path} is nested too deeply') from e

  def read_binding(self, binding: str, any_name: bool = False) -> None:
    """Reads 'NAME = VALUE' of the command line, after all files.

    Args:
      binding: of a macro or an argument.
      any_name: whether it may be a macro that nothing uses.

    Raises:
      UserError: its syntax is wrong, or no file uses its name.
    """
    name, has_value, value = (part.strip() for part in binding.partition('='))
    try:
      statements = list(config_parser.ConfigParser(binding, _Values()))
    except (SyntaxError, tokenize.TokenError, RecursionError) as e:
      bare = value and not any(c in value for c in '\'"[]{}()@%\\\n')
      hint = f'; a string needs quotes: --gin.{name}="\'{value}\'"'
      shown = checks.shown(f'--gin.{name}={value}')[1:-1]
      raise errors.UserError(
        f'cannot read {shown}' + (hint if bare else '')
      ) from e
    if not has_value or not all(
      isinstance(s, config_parser.BindingStatement) for s in statements
    ):
      raise errors.UserError(
        f'a binding is "NAME = VALUE"; got {checks.shown(binding)}'
      )
    for statement in statements:
      key = _key(statement)
      # gin takes any macro in silence, so a slip in its name would do nothing.
      macros = self._used | {k for k in self.bindings if '.' not in k}
      if not (any_name or statement.arg_name or key in macros):
        raise errors.unknown('gin name', key, macros)
      self._add(statement, '', 0)

  def check_complete(self) -> None:
    """Raises UserError if a value that is required has none."""
    missing = [key for key, v in self.bindings.items() if v == Macro(_REQUIRED)]
    if missing:
      flags = ' '.join(map(example_flag, missing))
      raise errors.UserError(f'a required value is missing: give {flags}')

  def value(self, name: str) -> Any:
    """Returns what a macro is bound to, through others; None if to nothing."""
    value, seen = self.bindings.get(name), {name}
    while isinstance(value, Macro) and value.name not in seen:
      seen.add(value.name)
      value = self.bindings.get(value.name)
    return value

  def _add(self, statement: Any, path: str, depth: int) -> None:
    if isinstance(statement, config_parser.IncludeStatement):
      self.read_file(self._find(statement.filename), depth + 1)
    elif isinstance(statement, config_parser.ImportStatement):
      if not _module_exists(statement.module):
        raise errors.UserError(
          f'gin: No module named \'{statement.module}\' in file "{path}", line '
          f'{statement.location.line_num}: '
          f'{statement.location.line_content.strip()}'
        )
    elif isinstance(statement, config_parser.BindingStatement):
      self.bindings[_key(statement)] = statement.value
      self._used.update(_macros(statement.value))


def example_flag(name: str) -> str:
  """Returns a flag that gives a macro a value, as one types it in a shell."""
  value = '"\'VALUE\'"'
  if name == 'TASK_FEATURE_LENGTHS':
    value = "\"{'inputs': 512, 'targets': 64}\""
  elif name.endswith(('_STEPS', '_RATE', '_PERIOD', 'BATCH_SIZE')):
    value = 'NUMBER'
  return f'--gin.{name}={value}'


def _key(statement: config_parser.BindingStatement) -> str:
  scope = f'{statement.scope}/' if statement.scope else ''
  argument = f'.{statement.arg_name}' if statement.arg_name else ''
  return f'{scope}{statement.selector}{argument}'


def _syntax_error(error: SyntaxError, path: str) -> str:
  """Describes a mistake in a gin file: what, file, line and its text."""
  message = str(error.msg or error).splitlines()[0]
  where = f'file "{error.filename or path}", line {error.lineno}'
  return f'{message} in {where}: {(error.text or "").strip()}'


def _macros(value: Any) -> Iterator[str]:
  if isinstance(value, Macro):
    yield value.name
  elif isinstance(value, dict):
    for item in [*value, *value.values()]:
      yield from _macros(item)
  elif isinstance(value, list | tuple):
    for item in value:
      yield from _macros(item)


def _module_exists(name: str) -> bool:
  """Whether a module could be imported, as far as finders say."""
  parts = name.split('.')
  if parts[0] == '__gin__':
    return True
  path: Sequence[str] | None = None
  for length in range(1, len(parts) + 1):
    prefix = '.'.join(parts[:length])
    if prefix in sys.modules:
      path = getattr(sys.modules[prefix], '__path__', None)
    else:
      specs = (f.find_spec(prefix, path) for f in sys.meta_path)
      spec = next(filter(None, specs), None)
      if spec is None:
        return False
      path = spec.submodule_search_locations
    if path is None:
      return length == len(parts)
  return True


def last_config(model_dir: epath.PathLike) -> epath.Path | None:
  """Finds the configuration that a training wrote last; None: it wrote none.

  That is MODEL_DIR/config.gin, or of a run that went on with another one
  config-STEP.gin with the highest step.
  """
  folder = epath.Path(model_dir)
  found = {}
  for path in folder.iterdir() if folder.is_dir() else ():
    if match := re.fullmatch(r'config(?:-(\d+))?\.gin', path.name):
      found[int(match[1] or -1)] = path
  return found[max(found)] if found else None
