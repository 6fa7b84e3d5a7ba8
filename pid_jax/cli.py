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
from collections.abc import Sequence
import contextlib
import hashlib
import importlib
import importlib.resources
import importlib.util  # gin.resource_reader uses it without importing it.
import logging
import os
import pathlib
import re
import stat
import sys
import traceback
from typing import IO, Any, NoReturn

from absl import logging as absl_logging
from etils import epath
import gin
from gin import resource_reader

from pid_jax import checks
from pid_jax import config
from pid_jax import distributed
from pid_jax import errors
from pid_jax import file_errors
from pid_jax import files
from pid_jax import flag_types
from pid_jax import gin_text
from pid_jax import interrupts
from pid_jax import messages
from pid_jax import progress
from pid_jax.subtasks import examples

# Of commands that compute little. JAX would take three quarters of the memory
# of each GPU, or the TPU, which one process alone can hold.
_CPU_ENVIRONMENT = {
  'JAX_PLATFORMS': 'cpu',
  'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
}
_QUIET_ENVIRONMENT = {
  'TF_CPP_MIN_LOG_LEVEL': '3',
  'GRPC_VERBOSITY': 'ERROR',
  'GLOG_minloglevel': '3',
  'TPU_MIN_LOG_LEVEL': '3',
  'TPU_STDERR_LOG_LEVEL': '3',
}
# Files that the run files of the package name.
GIN_FILES = ('TRAIN_FILE', 'VALIDATION_FILE', 'TEST_FILE', 'VOCABULARY')
# Packages whose code must be the same in all processes of a run.
_CODE = ('pid_jax', 'pid_jax.tasks')


def add_model_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of a trained model that answers, and of decoding.

  `check_model_flags` checks them; `load_options` and `decoding_options` read
  them.
  """
  add = parser.add_argument
  add_model_dir_flag(parser)
  add_step_flag(parser)
  add(
    '--param_dtype',
    choices=config.PARAM_DTYPES,
    default='float32',
    help='of the weights in memory; default: float32; the others are faster',
  )
  add(
    '--matmul_precision',
    choices=config.MATMUL_PRECISIONS,
    help='of products of float32 numbers on GPUs and TPUs; default: as in '
    'training; auto: exact where activations are float32',
  )
  add_vocabulary_flags(parser)
  add(
    '--layout',
    choices=('pid', 'pie'),
    help='prompts in the decoder or in the encoder, of a checkpoint that does '
    'not say how it was trained; default: as in training, else pid',
  )
  # None for NUM_FSDP: what it shards would be gathered for every token.
  add(
    '--num_partitions',
    type=flag_types.integer(1, checks.MOST_DEVICES),
    default=1,
    metavar='N',
    help='devices that share the parameters of a model; default: 1',
  )
  add(
    '--long_inputs',
    choices=examples.LONG_INPUTS,
    help='what to do with an input of --input that is too long; default: as in '
    'training',
  )
  add_decoding_flags(parser)


def check_model_flags(args: argparse.Namespace) -> None:
  """Checks the flags of `add_model_flags` before JAX is loaded.

  Raises:
    UserError: there is no such model or vocabulary, or flags exclude each
      other.
  """
  drawing = ('temperature', 'top_k', 'top_p')
  given = [name for name in drawing if getattr(args, name) is not None]
  given += ['prompt_lookup'] if args.prompt_lookup else []
  if args.beam_size is not None and given:
    raise errors.UserError(
      f'--beam_size and --{given[0]} exclude each other: a beam search neither '
      'draws nor drafts'
    )
  check_vocabulary_flags(args)
  check_checkpoint(args.model_dir)


def load_options(args: argparse.Namespace) -> dict[str, Any]:
  """Returns what the flags give to `PromptInDecoder.from_pretrained`.

  Raises:
    UserError: see `vocabulary`.
  """
  return {
    'vocabulary': vocabulary(args),
    'param_dtype': args.param_dtype,
    'matmul_precision': args.matmul_precision,
    'num_partitions': args.num_partitions,
    'long_inputs': args.long_inputs,
    'layout': args.layout,
  }


def add_model_dir_flag(
  parser: argparse.ArgumentParser, default: str | None = None
) -> None:
  """Adds `--model_dir`, which is required if there is no default."""
  parser.add_argument(
    '--model_dir',
    metavar='DIR',
    type=flag_types.path,
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


def add_vocabulary_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of a vocabulary.

  `check_vocabulary_flags` checks them, `vocabulary` reads them.
  """
  parser.add_argument(
    '--vocabulary',
    type=flag_types.path,
    metavar='FILE',
    help='SentencePiece model, for a checkpoint without one',
  )
  parser.add_argument(
    '--extra_ids',
    type=flag_types.integer(0, checks.MOST_EXTRA_IDS),
    metavar='N',
    help='sentinels behind the ids of --vocabulary; default: 100',
  )


def check_vocabulary_flags(args: argparse.Namespace) -> None:
  """Raises UserError for --extra_ids alone, or a file that cannot be read."""
  if args.vocabulary is not None:
    files.check_regular(args.vocabulary, '--vocabulary')
  elif args.extra_ids is not None:
    raise errors.UserError('--extra_ids goes with --vocabulary; give both.')


def vocabulary(args: argparse.Namespace) -> Any:
  """Returns the `Vocabulary` of `add_vocabulary_flags`; None: not given.

  Args:
    args: what `run` parsed.

  Raises:
    UserError: see `vocabulary.Vocabulary`.
  """
  from pid_jax.vocabulary import Vocabulary  # --help must answer at once.

  if args.vocabulary is None:
    return None
  extra_ids = 100 if args.extra_ids is None else args.extra_ids
  return Vocabulary(args.vocabulary, extra_ids)


def _step(value: str) -> int | str:
  if value in ('best', 'last'):
    return value
  if not re.fullmatch('[0-9]{1,18}', value):
    raise argparse.ArgumentTypeError(
      f"{checks.shown(value)} is neither a number nor 'best' nor 'last'"
    )
  return int(value)


def add_decoding_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of decoding; `decoding_options` reads them."""
  add = parser.add_argument
  count = lambda most: flag_types.integer(1, most)
  add(
    '--max_new_tokens',
    type=count(checks.MOST_TOKENS),
    metavar='N',
    help='cut predictions here; default: as in training, else 32',
  )
  add(
    '--temperature',
    type=flag_types.number(*checks.TEMPERATURES),
    help='draw predictions, sharper below 1',
  )
  add(
    '--top_k',
    type=count(checks.MOST_TOKENS),
    metavar='K',
    help='draw from the K likeliest tokens',
  )
  add(
    '--top_p',
    type=flag_types.number(most=1, above=0),
    metavar='P',
    help='draw from the likeliest P of 1',
  )
  add(
    '--seed',
    type=flag_types.integer(0, checks.MOST_SEED),
    default=0,
    help='of drawing; default: 0',
  )
  add(
    '--prompt_lookup',
    '--lookup',
    action='store_true',
    help='draft tokens from inputs: same predictions, fewer steps',
  )
  add(
    '--beam_size',
    type=count(checks.MOST_BEAMS),
    metavar='N',
    help='search with N beams instead',
  )
  add(
    '--length_penalty',
    type=flag_types.number(*checks.LENGTH_PENALTIES),
    default=0.6,
    help='default: 0.6',
  )


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
  compute_on: str | None = 'accelerators',
  join: bool = False,
  stops_on_preemption: bool = False,
  check: Callable[[argparse.Namespace], None] | None = None,
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
    compute_on: 'accelerators', where there are some; 'cpu' for what computes
      little, and leaves accelerators to other processes; None for what computes
      nothing, and does not load JAX.
    join: whether several processes may run the command together, see
      `pid_jax.distributed`.
    stops_on_preemption: whether `main` stops by itself after SIGTERM; of many
      processes, by JAX's preemption service.
    check: raises UserError for mistakes that show without large libraries;
      called with the flags before any of them is imported.
    argv: arguments without the program's name; those of the process if None.

  Raises:
    SystemExit: always. Status 2 after a mistake of the user (`error: ...` on
      standard error), 130 after an interrupt, 1 after anything unforeseen. In a
      program, signals end the process, see `interrupts`.
  """
  if argv is None:
    interrupts.install()
    _repair_standard_streams()
  args = parse_flags(
    sys.argv[1:] if argv is None else argv,
    doc,
    flags,
    use_gin=use_gin,
    join=join,
  )
  quieten(args.verbose)
  if compute_on == 'cpu':
    _leave_accelerators()
  try:
    if compute_on is not None:
      from pid_jax import compilation  # Not above: --help must answer at once.

      compilation.keep_memory()  # Before a thread starts.
    with interrupts.Running(args.verbose):
      if check is not None:
        check(args)
      if compute_on is not None:
        compilation.use_cache()
      if join:
        distributed.initialize(args, stops_on_preemption)
      import_silently(preload, args.verbose)
      if join:
        distributed.check_equal('what they run', _describe(args))
      status = main(args) or 0
      if join:  # JAX does not wait long for those that end later.
        distributed.barrier('end')
      _flush_stdout()
  except KeyboardInterrupt:
    _complain('interrupted', args.verbose)
    status = 130
  except BrokenPipeError:  # The output went to `head`, which has had enough.
    status = 141
  except Exception as e:  # pylint: disable=broad-except
    message = messages.explain(e)
    if message is None:
      raise
    _complain(f'error: {message}', args.verbose)
    status = 2
  try:
    sys.stdout.flush()
  except OSError:  # Python would try again, and complain.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
  interrupts.exit_with(status)


def _flush_stdout() -> None:
  try:
    sys.stdout.flush()
  except BrokenPipeError:
    raise
  except OSError as e:
    message = f'cannot write standard output: {file_errors.fault(e)}'
    raise errors.UserError(message) from e


def _repair_standard_streams() -> None:
  """Opens standard streams that are closed, and lets them write any text."""
  # A file opened later would get the number, and what libraries write to it.
  while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
    pass
  os.close(descriptor)
  for name in ('stdin', 'stdout', 'stderr'):
    stream = getattr(sys, name)
    if stream is None:
      setattr(sys, name, open(os.devnull, 'r' if name == 'stdin' else 'w'))
    elif name == 'stdout' and hasattr(stream, 'reconfigure'):
      stream.reconfigure(errors='backslashreplace')


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
    end = argv.index('--') if '--' in argv else len(argv)
    argv = [*map(_rewrite_gin_flag, argv[:end]), *argv[end:]]
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
  and below are shown from INFO on (`verbose`: all), as plain lines on standard
  error; of all others, errors only. What the user has set in the environment is
  left alone.

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
  logger.setLevel(logging.DEBUG if verbose else logging.INFO)
  logger.propagate = False


def _leave_accelerators() -> None:
  """Keeps JAX on the CPU; must run before it is loaded.

  What the user has set in the environment is left alone.
  """
  for name, value in _CPU_ENVIRONMENT.items():
    os.environ.setdefault(name, value)


def import_silently(modules: Sequence[str], verbose: bool) -> None:
  """Imports modules whose C++ logs whatever its log level, unless `verbose`."""
  silence = contextlib.nullcontext if verbose else progress.stderr_silenced
  with silence():
    for module in modules:
      importlib.import_module(module)


def check_gin(
  args: argparse.Namespace,
  first_files: Sequence[str] = (),
  bindings: Sequence[str] = (),
) -> gin_text.GinText:
  """Reads the gin files and bindings of the command line as text.

  Args:
    args: what `run` parsed.
    first_files: read before those that `args` name.
    bindings: see `parse_gin`.

  Returns:
    What they say. No module that they name is imported.

  Raises:
    UserError: no file is named, a file cannot be found or read, the syntax is
      wrong, nothing uses a name that the command line binds, or a required
      value is missing.
  """
  if not args.gin_file and not first_files:
    raise errors.UserError('name a --gin_file; --help shows an example')
  searched = args.gin_search_paths
  text = gin_text.GinText(
    lambda name: _find_included(name, searched), _open_gin_file
  )
  for name in first_files:
    text.read_file(name)
  for name in args.gin_file:
    text.read_file(_find_gin_file(name, searched))
  for binding in bindings:
    text.read_binding(binding, any_name=True)
  for binding in args.gin_bindings:
    text.read_binding(binding)
  text.check_complete()
  return text


def check_gin_files(text: gin_text.GinText) -> None:
  """Raises UserError for a file that a configuration names and lacks.

  Args:
    text: of `check_gin`; what is remote is not looked at.
  """
  for name in GIN_FILES:
    value = text.value(name)
    is_file = isinstance(value, str) and files.is_given(value)
    if is_file and not files.is_remote(value):
      files.check_regular(value, name)
  initial = text.value('INITIAL_CHECKPOINT_PATH')
  if isinstance(initial, str):
    check_checkpoint(initial, 'INITIAL_CHECKPOINT_PATH')


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
    UserError: see `check_gin`, or the processes of a run have read different
      configurations.
  """
  check_gin(args, bindings=bindings)
  for path in args.gin_search_paths:
    gin.add_config_file_search_path(path)
  gin.config.register_file_reader(_open_gin_file, _is_remote_file)
  for name in args.gin_file:
    gin.parse_config_file(_find_gin_file(name, args.gin_search_paths))
  for binding in [*bindings, *args.gin_bindings]:
    gin.parse_config(binding)
  distributed.check_equal('the gin configuration', gin.config_str())
  gin.finalize()


def bindings(configurable: Callable[..., Any]) -> dict[str, Any]:
  """Returns the arguments that gin binds; none if no file names it."""
  try:
    gin.get_configurable(configurable)
  except ValueError:
    return {}
  return gin.get_bindings(configurable)


def check_checkpoint(folder: str, name: str = '--model_dir') -> None:
  """Raises UserError unless a folder that should hold a checkpoint exists.

  Args:
    folder: local, or gs://, which is not looked at.
    name: of the flag or setting, for the message.
  """
  found = files.path(folder, name)
  if files.is_remote(found):
    return
  with files.explained(f'cannot read {name} {found}'):
    if not stat.S_ISDIR(os.stat(found).st_mode):
      raise errors.UserError(
        f'{name} {found} is a file; give the folder that it is in.'
      )


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
    type=flag_types.paths,
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
  for folder in ['', *search_paths, packaged]:
    path = os.path.join(folder, name)
    if os.path.isfile(path):
      return os.path.abspath(path)
    if _is_remote_file(path):
      return path
  shipped = [str(p.relative_to(packaged)) for p in packaged.rglob('*.gin')]
  raise errors.unknown('gin file', name, shipped)


def _find_included(name: str, search_paths: Sequence[str]) -> str:
  """As `_find_gin_file`, by gin's rules for what a file includes."""
  for folder in ['', *search_paths]:
    path = os.path.join(folder, name)
    if os.path.isfile(path) or _is_remote_file(path):
      return path
  try:
    if resource_reader.system_path_file_exists(name):
      return name
  except Exception:  # It imports what the name says.
    logging.getLogger('pid_jax').debug('no package has %s', name)
  raise errors.UserError(
    f'gin: cannot find the included file {checks.shown(name)}'
  )


def _is_remote_file(path: str) -> bool:
  return files.is_remote(path) and epath.Path(path).exists()


def _open_gin_file(path: str) -> IO[str]:
  if files.is_remote(path):
    return epath.Path(path).open()
  if os.path.isfile(path):
    with files.explained(f'cannot read the gin file {path}'):
      return open(path, encoding='utf-8')
  return resource_reader.system_path_reader(path)


def _complain(message: str, verbose: bool) -> None:
  if verbose:
    traceback.print_exc()
  progress.write_line(message)


class _Parser(argparse.ArgumentParser):
  """Complains in one line, as about every other mistake."""

  def error(self, message: str) -> NoReturn:
    message = messages.one_line(message)
    progress.write_line(f'error: {message}; --help shows the usage')
    sys.exit(2)


class _LineHandler(logging.Handler):
  """Writes log messages as plain lines that do not break a progress bar."""

  def emit(self, record: logging.LogRecord) -> None:
    prefix = '' if record.levelno <= logging.INFO else 'warning: '
    if record.levelno >= logging.ERROR:
      prefix = 'error: '
    progress.write_line(prefix + self.format(record))
