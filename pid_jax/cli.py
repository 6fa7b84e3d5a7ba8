# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the commands share: flags, gin files, messages and exit status.

A command is a module with a docstring (its `--help`), a function that adds its
flags, and a `main(args)`, passed to `run`, which silences the start-up messages
of TensorFlow and other libraries, and turns a mistake of the user into one line
and exit status 2. Flags that several commands have are added here, so that they
mean the same everywhere. `parse_gin` reads gin files and bindings as T5X does.

Commands import large libraries inside `main`, so that `--help` answers at once
and messages are off before TensorFlow is loaded.
"""

import argparse
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Sequence
import hashlib
import importlib
import importlib.resources
import importlib.util  # gin.resource_reader uses it without importing it.
import logging
import os
import pathlib
import re
import sys
import tokenize
import traceback
from types import TracebackType
from typing import IO, Any, NoReturn

from absl import logging as absl_logging
from etils import epath
import gin

from pid_jax import config
from pid_jax import distributed
from pid_jax import errors
from pid_jax import files
from pid_jax import progress

_QUIET_ENVIRONMENT = {
  'TF_CPP_MIN_LOG_LEVEL': '3',
  'GRPC_VERBOSITY': 'ERROR',
  'GLOG_minloglevel': '3',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}


# Packages whose code must be the same in all processes of a run.
_CODE = ('pid_jax', 'pid_jax.tasks')


def add_model_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags that choose a trained model and how its weights are kept."""
  add_model_dir_flag(parser)
  add_step_flag(parser)
  parser.add_argument(
    '--param_dtype',
    choices=config.PARAM_DTYPES,
    default='float32',
    help='of the weights in memory; default: float32; the others are faster',
  )


def add_model_dir_flag(
  parser: argparse.ArgumentParser, default: str | None = None
) -> None:
  """Adds `--model_dir`, which is required if there is no default."""
  parser.add_argument(
    '--model_dir',
    metavar='DIR',
    default=default,
    required=default is None,
    help='of the training' + ('; default: %(default)s' if default else ''),
  )


def add_step_flag(parser: argparse.ArgumentParser) -> None:
  """Adds `--step`, of a checkpoint: an int, 'best', 'last' or None."""
  parser.add_argument(
    '--step',
    type=_step,
    metavar='{N,best,last}',
    help='checkpoint to read; default: best if known, else last',
  )


def _step(value: str) -> int | str:
  if value.isdigit():
    return int(value)
  if value not in ('best', 'last'):
    raise argparse.ArgumentTypeError(
      f"{value!r} is neither a number nor 'best' nor 'last'"
    )
  return value


def add_mesh_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the mesh of prediction, which is not that of the training.

  There is no flag for NUM_FSDP: what it shards would be gathered again for
  every token.
  """
  parser.add_argument(
    '--num_partitions',
    type=int,
    default=1,
    metavar='N',
    help='devices that share the parameters of a model; default: 1',
  )


def comma_separated(
  kind: str, choices: Collection[str] = ()
) -> Callable[[str], list[str]]:
  """Returns the `type` of a flag that takes a list: 'a,b' -> ['a', 'b'].

  Args:
    kind: what an element is, such as 'layout', for the message.
    choices: all elements that there are; none: anything.
  """

  def parse(value: str) -> list[str]:
    names = [name.strip() for name in value.split(',')]
    for name in names:
      if choices and name not in choices:
        raise argparse.ArgumentTypeError(
          str(errors.unknown(kind, name, choices))
        )
    return names

  return parse


def add_decoding_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of decoding; `decoding_options` reads them."""
  add = parser.add_argument
  add(
    '--max_new_tokens',
    type=int,
    metavar='N',
    help='cut predictions here; default: as in training, else 32',
  )
  add('--temperature', type=float, help='draw predictions, sharper below 1')
  add('--top_k', type=int, metavar='K', help='draw from the K likeliest tokens')
  add('--top_p', type=float, metavar='P', help='draw from the likeliest P of 1')
  add('--seed', type=int, default=0, help='of drawing; default: 0')
  add(
    '--prompt_lookup',
    '--lookup',
    action='store_true',
    help='draft tokens from inputs: same predictions, fewer steps',
  )
  add('--beam_size', type=int, metavar='N', help='search with N beams instead')
  add('--length_penalty', type=float, default=0.6, help='default: 0.6')


def decoding_options(args: argparse.Namespace) -> Any:
  """Returns the `inference.DecodingOptions` of `add_decoding_flags`.

  Args:
    args: what `run` parsed.

  Raises:
    UserError: a value out of range, or options that exclude each other.
  """
  from pid_jax import decoding  # Not above: --help must answer at once.
  from pid_jax import inference

  return inference.DecodingOptions(
    max_new_tokens=args.max_new_tokens,
    sampler=decoding.make_sampler(args.temperature, args.top_k, args.top_p),
    prompt_lookup=decoding.PromptLookup() if args.prompt_lookup else None,
    beam_size=args.beam_size,
    length_penalty=args.length_penalty,
    seed=args.seed,
  )


def run(
  main: Callable[[argparse.Namespace], int | None],
  doc: str,
  flags: Callable[[argparse.ArgumentParser], None] | None = None,
  *,
  use_gin: bool = False,
  preload: Sequence[str] = (),
  use_jax: bool = True,
  join: bool = False,
  stops_on_preemption: bool = False,
  argv: Sequence[str] | None = None,
) -> NoReturn:
  """Parses the flags, calls `main(args)` and exits with its status.

  Args:
    main: the command; may return an exit status, None means 0.
    doc: the help text: what the command does, with an example. Usually the
      `__doc__` of its module.
    flags: adds the command's flags to the parser.
    use_gin: whether to accept `--gin_file`, `--gin.NAME=VALUE` and the like.
    preload: modules that `main` will need and whose libraries write to standard
      error when imported, whatever their log levels; imported first, silently.
    use_jax: whether to start JAX; False for what computes nothing.
    join: whether several processes may run the command together, see
      `pid_jax.distributed`.
    stops_on_preemption: whether `main` stops by itself after SIGTERM; of many
      processes, by JAX's preemption service.
    argv: arguments without the program's name; those of the process if None.

  Raises:
    SystemExit: always. Status 2 after a mistake of the user (`error: ...` on
      standard error), 130 after an interrupt, 1 after anything unforeseen.
  """
  argv = sys.argv[1:] if argv is None else argv
  args = parse_flags(argv, doc, flags, use_gin=use_gin, join=join)
  quieten(args.verbose)
  if use_jax:
    from pid_jax import compilation  # Not above: --help must answer at once.

    compilation.keep_memory()
    compilation.use_cache()
  try:
    if join:
      distributed.initialize(args, stops_on_preemption)
    if not args.verbose:
      _import_silently(preload)
    if join:
      distributed.check_equal('what they run', _describe(args))
    status = main(args) or 0
    if join:  # JAX does not wait long for those that end later.
      distributed.barrier('end')
  except KeyboardInterrupt:
    _complain('interrupted', args.verbose)
    status = 130
  except BrokenPipeError:  # The output went to `head`, which has had enough.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    status = 141
  except Exception as e:  # pylint: disable=broad-except
    message = user_message(e)
    if message is None:
      raise
    _complain(f'error: {message}', args.verbose)
    status = 2
  sys.exit(status)


def parse_flags(
  argv: Sequence[str],
  doc: str,
  flags: Callable[[argparse.ArgumentParser], None] | None,
  *,
  use_gin: bool,
  join: bool,
) -> argparse.Namespace:
  """Parses a command line; the arguments are those of `run`.

  Raises:
    SystemExit: after `--help`, or with status 2 after a mistake.
  """
  parser = _Parser(
    prog=_program(),
    description=doc,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    allow_abbrev=False,
  )
  if flags is not None:
    flags(parser)
  if use_gin:
    _add_gin_flags(parser)
    argv = [_rewrite_gin_flag(arg) for arg in argv]
  if join:
    distributed.add_flags(parser)
  parser.add_argument(
    '--verbose',
    action='store_true',
    help="show the libraries' own messages, and tracebacks of errors",
  )
  return parser.parse_args(argv)


def _describe(args: argparse.Namespace) -> str:
  """Returns what all processes of a run must have in common, line by line."""
  if distributed.process_count() == 1:
    return ''
  import jax

  # In an editable install the tasks are outside the package's folder.
  folders = [importlib.resources.files(name) for name in _CODE]
  code = hashlib.sha256()
  for folder in map(pathlib.Path, map(str, folders)):
    for path in sorted(folder.rglob('*.py')):
      code.update(path.read_bytes())
  flags = vars(args).items()
  return '\n'.join(
    [
      f'jax {jax.__version__}',
      f'Python {sys.version_info[0]}.{sys.version_info[1]}',
      f'pid_jax with the code {code.hexdigest()[:12]}',
      *(f'--{k}={v}' for k, v in flags if k not in distributed.FLAGS),
    ]
  )


def say(text: str) -> None:
  """Prints a command's result, in the first process."""
  if distributed.process_index() == 0:
    print(text)


def quieten(verbose: bool = False) -> None:
  """Silences the noise of TensorFlow, absl, gRPC and libtpu.

  Must run before they are imported. Messages of `logging.getLogger('pid_jax')`
  and below are shown from INFO on, as plain lines on standard error; of all
  others, errors only. What the user has set in the environment is left alone.

  Args:
    verbose: True shows everything instead.
  """
  for name, value in _QUIET_ENVIRONMENT.items():
    os.environ.setdefault(name, '0' if verbose else value)
  if files.cache_folder() is None:  # Keras would make a folder named '~'.
    os.environ.setdefault('KERAS_HOME', os.devnull)
  absl_logging.set_verbosity(
    absl_logging.INFO if verbose else absl_logging.ERROR
  )
  # gin's reader of packaged files logs an error for each place it looks in.
  logging.getLogger().addFilter(lambda r: r.module != 'resource_reader')
  logger = logging.getLogger('pid_jax')
  logger.handlers = [_LineHandler()]
  logger.setLevel(logging.INFO)
  logger.propagate = False


def _import_silently(modules: Sequence[str]) -> None:
  """Imports modules whose C++ logs whatever its log level."""
  with progress.stderr_silenced():
    for module in modules:
      importlib.import_module(module)


def parse_gin(
  args: argparse.Namespace,
  bindings: Sequence[str] = (),
) -> None:
  """Reads the gin files and bindings of the command line, in T5X's order.

  Args:
    args: what `run` parsed.
    bindings: more bindings, such as "MODEL_DIR = '/tmp/x'", made from the
      command's flags; those of the command line follow and win.

  Raises:
    UserError: no file is named, a file cannot be found or read, nothing uses a
      binding, a required value is missing, or the processes of a run have read
      different configurations.
  """
  if not args.gin_file:
    raise errors.UserError('name a --gin_file; --help shows an example')
  for path in args.gin_search_paths:
    gin.add_config_file_search_path(path)
  gin.config.register_file_reader(_open_remote, _is_remote_file)
  for name in args.gin_file:
    path = _find_gin_file(name, args.gin_search_paths)
    try:
      gin.parse_config_file(path)
    except tokenize.TokenError as e:
      raise errors.UserError(f'gin: {e.args[0]} in {path}') from e
  used = set(re.findall(r'%([\w./]+)|^([\w./]+) = ', gin.config_str(), re.M))
  used = {name for pair in used for name in pair if name}
  for binding in bindings:
    gin.parse_config(binding)
  for binding in args.gin_bindings:
    _parse_binding(binding, used)
  missing = re.findall(r'^(\S+) = %gin\.REQUIRED', gin.config_str(), re.M)
  if missing:
    flags = ' '.join(f'--gin.{name}=VALUE' for name in missing)
    raise errors.UserError(f'a required value is missing: give {flags}')
  distributed.check_equal('the gin configuration', gin.config_str())
  gin.finalize()


def bindings(configurable: Callable[..., Any]) -> dict[str, Any]:
  """Returns the arguments that gin binds; none if no file names it."""
  try:
    return gin.get_bindings(configurable)
  except ValueError:
    return {}


def check_configured(configurable: Callable[..., Any], include: str) -> None:
  """Raises UserError unless a gin file names it, such as the one to include."""
  try:
    gin.get_configurable(configurable)
  except ValueError as e:
    module = configurable.__module__.removeprefix('pid_jax.').split('.')[0]
    raise errors.UserError(
      f'the gin files do not configure {module}.{configurable.__name__}: '
      f'include {include!r}'
    ) from e


def gin_configs() -> pathlib.Path:
  """Returns the folder of the gin files that ship with the package."""
  return pathlib.Path(str(importlib.resources.files('pid_jax.gin_configs')))


def user_message(error: BaseException) -> str | None:
  """Returns the line to show for a mistake of the user; None for a bug.

  A mistake is a `UserError`, a check of subtasks.tf_assertions that failed
  inside tf.data, or whatever gin itself raised about the files and bindings
  that it was given. An exception that gin only passed on is not.

  Args:
    error: an exception that was caught.
  """
  lines = [line.strip() for line in str(error).splitlines()] or ['']
  if isinstance(error, errors.UserError):
    return lines[0]  # gin appends lines that say where it was called.
  assertions = sys.modules.get('pid_jax.subtasks.tf_assertions')
  failed_check = assertions and assertions.user_error(error)
  if failed_check:
    return str(failed_check)
  if not _raised_by_gin(error.__traceback__):
    return None
  if isinstance(error, SyntaxError):
    where = f'file "{error.filename}", line {error.lineno}'
    return f'gin: {error.msg.splitlines()[0]} in {where}: {error.text.strip()}'
  macro = re.match(r"No bindings specified for '(\S+)/gin.macro'", lines[0])
  if macro:
    return (
      f'nothing gives %{macro[1]} a value: add a --gin_file that does, or '
      f'--gin.{macro[1]}=VALUE'
    )
  missing = re.search(
    r'No values supplied by Gin or caller for (.*)', str(error)
  )
  if missing:
    call = re.search(r"In call to configurable '(.+?)'", str(error))
    return f'gin: {call[1]} needs values for {missing[1]}'
  message = f'gin: {lines[0]}'
  for line, content in zip(lines, lines[1:], strict=False):
    if line.startswith('In file'):
      message += f' {line[0].lower()}{line[1:]}: {content}'
  return message


def _program() -> str:
  spec = getattr(sys.modules['__main__'], '__spec__', None)
  return f'python -m {spec.name}' if spec else os.path.basename(sys.argv[0])


def _add_gin_flags(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group('gin')
  group.add_argument(
    '--gin_file',
    action='append',
    default=[],
    metavar='FILE',
    help='a gin file, on disk or in pid_jax.gin_configs; may be repeated',
  )
  group.add_argument(
    '--gin.NAME',
    dest='gin_example',
    metavar='VALUE',
    help='binds NAME, after all files; strings keep their quotes: '
    """--gin.MODEL_DIR="'/tmp/model'" """,
  )
  group.add_argument(
    '--gin_bindings',
    action='append',
    default=[],
    metavar='BINDING',
    help='the same, written "NAME = VALUE"; may be repeated',
  )
  group.add_argument(
    '--gin_search_paths',
    type=comma_separated('folder'),
    default=[],
    metavar='DIR,DIR',
    help='more folders to look for gin files in',
  )


def _rewrite_gin_flag(arg: str) -> str:
  """Turns `--gin.NAME=VALUE` into `--gin_bindings=NAME = VALUE`."""
  if not arg.startswith('--gin.') or '=' not in arg:
    return arg
  name, value = arg.removeprefix('--gin.').split('=', maxsplit=1)
  return f'--gin_bindings={name} = {value}'


def _find_gin_file(name: str, search_paths: Sequence[str]) -> str:
  packaged = gin_configs()
  name = os.fspath(files.path(name, '--gin_file'))
  for folder in ['', *map(files.path, search_paths), packaged]:
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      return os.path.abspath(path)
    if _is_remote_file(path):
      return path
  shipped = [str(p.relative_to(packaged)) for p in packaged.rglob('*.gin')]
  raise errors.unknown('gin file', name, shipped)


def _is_remote_file(path: str) -> bool:
  return '://' in path and epath.Path(path).exists()


def _open_remote(path: str) -> IO[str]:
  return epath.Path(path).open()


def _parse_binding(binding: str, used: set[str]) -> None:
  """Applies one binding of the command line, checking what gin does not."""
  name, _, value = (part.strip() for part in binding.partition('='))
  if '.' not in name.rsplit('/')[-1] and name not in used:
    # gin takes any macro in silence, so a slip in its name would do nothing.
    raise errors.unknown('gin name', name, used)
  try:
    gin.parse_config(binding)
  except (SyntaxError, tokenize.TokenError) as e:
    bare = value and not any(c in value for c in '\'"[]{}()@%')
    hint = f'; a string needs quotes: "\'{value}\'"' if bare else ''
    raise errors.UserError(f'cannot read --gin.{name}={value}{hint}') from e


def _raised_by_gin(tb: TracebackType | None) -> bool:
  """Whether gin's own code raised it, rather than something that gin called."""
  frames = [frame for frame, _ in traceback.walk_tb(tb)]
  return frames[-1].f_globals.get('__name__', '').startswith('gin.')


def _complain(message: str, verbose: bool) -> None:
  if verbose:
    traceback.print_exc()
  progress.write_line(message)


class _Parser(argparse.ArgumentParser):
  """Complains in one line, as about every other mistake."""

  def error(self, message: str) -> NoReturn:
    progress.write_line(f'error: {message}; --help shows the usage')
    sys.exit(2)


class _LineHandler(logging.Handler):
  """Writes log messages as plain lines that do not break a progress bar."""

  def emit(self, record: logging.LogRecord) -> None:
    prefix = '' if record.levelno <= logging.INFO else 'warning: '
    if record.levelno >= logging.ERROR:
      prefix = 'error: '
    progress.write_line(prefix + self.format(record))
