# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""How the suite compiles: options of XLA, those that the installed one knows.

XLA ends a process that names an unknown option in XLA_FLAGS. Given to a single
program, the same option raises an error, so each is tried on a small one. XLA
has no list to read, and reads XLA_FLAGS once: so `conftest` needs a process to
ask before JAX starts in its own. Run as a script, this module prints the flags.
"""

from collections.abc import Mapping
import subprocess
import sys

# Nearly all the time of the suite is XLA compiling programs that run once.
_IN_A_HURRY = {
  'xla_backend_optimization_level': 0,
  # The old emitters need a third of the time of the new ones, to which JAX 0.12
  # has no alternative; with one module of LLVM to a program, a quarter less.
  'xla_cpu_use_fusion_emitters': False,
  'xla_cpu_parallel_codegen_split_count': 1,
}
# XLA's defaults.
_AS_USERS = {
  'xla_backend_optimization_level': 3,
  'xla_cpu_use_fusion_emitters': True,
}


def as_users() -> dict[str, int | bool]:
  """Options that make a program what it is where nothing is in a hurry."""
  return _known(_AS_USERS)


def hurried_flags() -> str:
  """Flags for XLA_FLAGS with which processes compile fast and run slowly."""
  return subprocess.run(
    [sys.executable, __file__], check=True, stdout=subprocess.PIPE, text=True
  ).stdout.strip()


def _known(options: Mapping[str, int | bool]) -> dict[str, int | bool]:
  import jax  # Not above: who asks for flags has not started JAX yet.

  program = jax.jit(lambda x: x).lower(1.0)
  known = {}
  for name, value in options.items():
    try:
      program.compile({name: value})
    except jax.errors.JaxRuntimeError as e:
      if 'No such compile option' not in str(e):
        raise
    else:
      known[name] = value
  return known


def main():
  flags = _known(_IN_A_HURRY).items()
  print(*(f'--{name}={str(value).lower()}' for name, value in flags))


if __name__ == '__main__':
  main()
