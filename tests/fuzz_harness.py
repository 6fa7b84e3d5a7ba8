# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs commands inside this process and proves what they changed.

A case is a command line in a folder of its own. It is right if the command ends
with status 0, having changed its outputs alone, or with status 2 and one line
`error: ...`, having changed nothing.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import pathlib
import resource
import runpy
import shutil
import signal
import stat
import sys
import traceback
from unittest import mock
import warnings

import gin
from toys import configs
from toys import vocabularies
from toys import weights

from pid_jax import cli
from pid_jax import errors

SECONDS = 60  # After which a command hangs.
_MEMORY = 4 << 30  # That a command may take, in bytes of addresses.
QUESTIONS = [
  {
    'id': f'row-{i}',
    'inputs': f'ant bee {word}',
    'subtasks': [
      {'name': 'one', 'prompt': 'dog', 'target': 'cat'},
      {'name': 'two', 'prompt': 'eel fox', 'target': 'bee', 'choices': ['bee']},
    ],
  }
  for i, word in enumerate(('cat', 'dog'))
]


class Accepted(BaseException):
  """A command has found nothing wrong and begins to work."""


class Hanging(BaseException):
  """A command takes too long."""


@dataclasses.dataclass
class Result:
  """What a command did.

  Attributes:
    status: its exit status; None if an exception got out.
    stderr: what it wrote there.
    wrong: why it is not right; empty if it is.
  """

  status: int | None
  stderr: str
  wrong: str = ''


def snapshot(folder: pathlib.Path) -> dict[str, tuple]:
  """Returns path -> type, mode, size and digest of all below a folder."""
  found = {}
  for directory, folders, names in os.walk(os.fsencode(folder)):
    for name in [*folders, *names]:
      path = os.path.join(directory, name)
      info = os.lstat(path)
      content = b''
      if stat.S_ISREG(info.st_mode) and info.st_size < 1 << 24:
        with open(path, 'rb') as file:
          content = hashlib.sha256(file.read()).digest()
      elif stat.S_ISLNK(info.st_mode):
        content = os.readlink(path)
      size = info.st_size if stat.S_ISREG(info.st_mode) else 0
      found[os.fsdecode(path)] = (info.st_mode, size, content)
  return found


@functools.cache
def template(parent: pathlib.Path) -> pathlib.Path:
  """Makes a folder of valid files: a model, its data, and other formats."""
  # Not above: they start JAX, and the suite's options come first.
  import jax
  import jax.numpy as jnp
  import orbax.checkpoint as ocp

  from pid_jax import checkpoints
  from pid_jax import vocabulary

  folder = parent / 'template'
  model = folder / 'model'
  model.mkdir(parents=True)
  words = vocabularies.of_text()  # Such as transformers can read, too.
  own = vocabulary.Vocabulary(words)
  config = dataclasses.replace(configs.T5_1_1, num_tokens=own.size)
  checkpoints.write_config(
    model,
    config=config,
    task={
      'name': 'animals',
      'layout': 'pid',
      'feature_lengths': {'inputs': 32, 'prompts': 16, 'targets': 8},
    },
    vocabulary=own,
  )
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(
      model / 'checkpoints' / '7' / 'params',
      jax.tree.map(jnp.asarray, weights.random_params(config, seed=0)),
    )
  shutil.copy(words, folder / 'spiece.model')
  lines = ''.join(json.dumps(line) + '\n' for line in QUESTIONS)
  (folder / 'data.jsonl').write_text(lines)
  (folder / 'mine').mkdir()
  (folder / 'mine' / 'notes.txt').write_text('of the user')
  with contextlib.chdir(folder):
    for argv in (
      ['convert', 'model', 'hf', '--to=hugging_face'],
      ['predict', *PREDICT, '--output=answers.jsonl'],
    ):
      result = run(folder, argv[0], argv[1:], outputs=('hf', 'answers.jsonl'))
      assert not result.wrong and result.status == 0, result
  return folder


PREDICT = ('--model_dir=model', '--input=data.jsonl')


@functools.cache
def _entry(command: str) -> tuple[tuple, dict]:
  """Returns the arguments with which a command's module calls `cli.run`."""
  with mock.patch.object(cli, 'run') as called, warnings.catch_warnings():
    warnings.simplefilter('ignore')  # The module may be imported already.
    runpy.run_module(f'pid_jax.{command}', run_name='__main__')
  return called.call_args.args, called.call_args.kwargs


@contextlib.contextmanager
def _at_the_door() -> Iterator[None]:
  """Stops `train` where it would begin to write, `evaluate` to compute."""
  from pid_jax import trainer
  from pid_jax.distributed import run_lock

  def accept(*args, **kwargs):
    raise Accepted

  with (
    mock.patch.object(run_lock.RunLock, '__enter__', accept),
    mock.patch.object(trainer, 'evaluate', accept),
  ):
    yield


def call(
  folder: pathlib.Path,
  work: Callable[[], int | None],
  outputs: Sequence[str] = (),
) -> Result:
  """Runs something that ends as a command does, and judges it.

  Args:
    folder: in which it runs; nothing else there may change but `outputs`.
    work: returns or exits with a status; a UserError is status 2.
    outputs: names in the folder, of what may change if the status is 0.
  """

  def hang(*unused):
    raise Hanging

  before = snapshot(folder)
  err = io.StringIO()
  limits = resource.getrlimit(resource.RLIMIT_AS)
  used = int(pathlib.Path('/proc/self/statm').read_text().split()[0])
  most = used * resource.getpagesize() + _MEMORY
  resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
  previous = signal.signal(signal.SIGALRM, hang)
  signal.alarm(SECONDS)
  status, wrong = None, ''
  try:
    with (
      contextlib.chdir(folder),
      contextlib.redirect_stderr(err),
      contextlib.redirect_stdout(
        io.TextIOWrapper(io.BytesIO(), 'utf-8', 'backslashreplace')
      ),
      warnings.catch_warnings(),
      mock.patch.dict(os.environ, {'JAX_NUM_PROCESSES': '1'}),
    ):
      warnings.simplefilter('ignore')
      status = work() or 0
  except SystemExit as e:
    status = e.code
  except Accepted:
    status = 0
  except errors.UserError as e:
    status = 2
    err.write(f'error: {e}\n')
  except BaseException as e:
    if isinstance(e, KeyboardInterrupt):
      raise
    wrong = ''.join(traceback.format_exception(e)[-3:])
  finally:
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, limits)
    signal.signal(signal.SIGALRM, previous)
  text = err.getvalue()
  if not wrong and 'not enough memory' in text:
    wrong = 'no memory'
  lines = [x for x in text.splitlines() if x.startswith('error: ')]
  if not wrong and status not in (0, 2):
    wrong = f'status {status}'
  if (
    not wrong
    and status == 2
    and (
      len(lines) != 1
      or not text.endswith(lines[0] + '\n')
      or 'Traceback' in text
    )
  ):
    wrong = 'not one line'
  if not wrong and status == 2 and len(lines[0]) > 1100:
    wrong = 'a line too long'
  allowed = [str(folder / name) for name in outputs] if status == 0 else []
  allowed += map(os.path.realpath, allowed.copy())  # Symlinks are followed.
  after = snapshot(folder)
  changed = [
    path
    for path in sorted(before.keys() | after.keys())
    if before.get(path) != after.get(path)
    and not any(f'{path}/'.startswith(f'{name}/') for name in allowed)
  ]
  if changed and not wrong:
    wrong = f'changed {changed[:5]}'
  return Result(status, text, wrong)


def run(
  folder: pathlib.Path,
  command: str,
  argv: Sequence[str],
  outputs: Sequence[str] = (),
) -> Result:
  """Runs a command in this process; see `call`."""
  args, kwargs = _entry(command)

  def work() -> None:
    gin.clear_config()
    with contextlib.ExitStack() as stack:
      if command in ('train', 'evaluate'):
        stack.enter_context(_at_the_door())
      cli.run(*args, **{**kwargs, 'argv': list(argv)})

  return call(folder, work, outputs)


class Table:
  """Counts cases by kind: tried, right, wrong."""

  def __init__(self):
    self._counts: dict[str, list[int]] = {}
    self.faults: list[str] = []

  def add(self, kind: str, what: object, result: Result) -> None:
    """Adds a case."""
    counts = self._counts.setdefault(kind, [0, 0, 0])
    counts[0] += 1
    counts[1] += result.status == 0
    counts[2] += bool(result.wrong)
    if result.wrong:
      self.faults.append(
        f'{kind}: {what!r:.700}\n  {result.wrong[-1500:]}\n'
        f'  {result.stderr[-300:]}'
      )

  @property
  def counts(self) -> Mapping[str, Sequence[int]]:
    """Kind -> tried, accepted, wrong."""
    return self._counts

  def __str__(self) -> str:
    rows = [('kind', 'tried', 'accepted', 'refused', 'wrong')]
    for kind, (tried, accepted, wrong) in sorted(self._counts.items()):
      rows.append((kind, tried, accepted, tried - accepted - wrong, wrong))
    return '\n'.join('{:<16}{:>8}{:>10}{:>10}{:>8}'.format(*r) for r in rows)


if __name__ == '__main__':
  sys.exit('a helper of fuzz_test.py')
