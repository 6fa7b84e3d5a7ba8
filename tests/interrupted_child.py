# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A command that is in the middle of something; run by interrupts_test.py."""

import argparse
import hashlib
import pathlib
import subprocess
import sys
import time
import weakref

from pid_jax import cli
from pid_jax import interrupts


class _Thing:
  pass


def _say_ready() -> None:
  print('ready', flush=True)


def _lose(unused_reference) -> None:
  """Is called where exceptions are written down and dropped."""
  for _ in range(1000):
    time.sleep(0.002)


def main(args: argparse.Namespace) -> int | None:
  _say_ready()
  if args.scenario == 'tidy':
    path = pathlib.Path(args.file)
    path.touch()
    try:
      time.sleep(60)
    finally:
      time.sleep(0.8)  # It is raised again meanwhile, but not here.
      path.unlink()
  elif args.scenario == 'callback':
    while True:
      thing = _Thing()
      reference = weakref.ref(thing, _lose)
      del thing, reference
  elif args.scenario == 'compute':  # C works without the interpreter's lock.
    hashlib.pbkdf2_hmac('sha256', b'a', b'b', (1 << 31) - 1)
  elif args.scenario == 'swallow':
    while True:
      try:
        time.sleep(60)
      except BaseException as e:
        raise RuntimeError('a bug of a library') from e
  elif args.scenario == 'child':
    program = 'import time; print("ready", flush=True); time.sleep(60)'
    return interrupts.run_child([sys.executable, '-c', program])
  elif args.scenario == 'run':
    subprocess.run(['sleep', '60'], check=False)
  elif args.scenario == 'import':
    pathlib.Path(args.file).write_text('import time\ntime.sleep(60)\n')
    sys.path.insert(0, str(pathlib.Path(args.file).parent))
    __import__(pathlib.Path(args.file).stem)
  return None


def _flags(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('scenario')
  parser.add_argument('file')


if __name__ == '__main__':
  cli.run(main, __doc__, _flags, compute_on=None)
