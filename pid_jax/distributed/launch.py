# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Joins the processes of a run by flags, environment or cluster.

`jax.distributed.initialize` does the work. Here are the flags of commands, the
environment variables that JAX does not read, and errors in one line.
"""

import argparse
import logging
import os
import re

from pid_jax import checks
from pid_jax import errors
from pid_jax import flag_types

logger = logging.getLogger('pid_jax.distributed')

_ENVIRONMENT = {  # JAX itself reads the first only.
  'coordinator_address': 'JAX_COORDINATOR_ADDRESS',
  'num_processes': 'JAX_NUM_PROCESSES',
  'process_id': 'JAX_PROCESS_ID',
}
_MOST_SECONDS = 10 * 24 * 3600

# Flags that may differ between the processes of a run.
FLAGS = (
  *_ENVIRONMENT,
  'initialization_timeout',
  'heartbeat_timeout_seconds',
)


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of a command that runs on many hosts; named as in JAX."""
  flags = parser.add_argument_group(
    'many hosts',
    'The same command on every host; TPU pods, SLURM, Open MPI and indexed\n'
    'jobs of Kubernetes need no flags (docs/launch.md).',
  )
  add = flags.add_argument
  add(
    '--coordinator_address',
    metavar='HOST:PORT',
    help='of process 0; or $JAX_COORDINATOR_ADDRESS',
  )
  add(
    '--num_processes',
    type=flag_types.integer(1, checks.MOST_DEVICES),
    metavar='N',
    help='in all; or $JAX_NUM_PROCESSES; 1: run alone, whatever the cluster',
  )
  add(
    '--process_id',
    type=flag_types.integer(0, checks.MOST_DEVICES),
    metavar='I',
    help='of this one, from 0; or $JAX_PROCESS_ID',
  )
  add(
    '--initialization_timeout',
    type=flag_types.integer(1, _MOST_SECONDS),
    default=300,
    metavar='SECONDS',
    help='to wait for all processes to connect; default: 300',
  )
  add(
    '--heartbeat_timeout_seconds',
    type=flag_types.integer(1, _MOST_SECONDS),
    default=30,
    metavar='SECONDS',
    help='of silence, after which a process counts as lost; default: 30',
  )


def initialize(
  args: argparse.Namespace, stops_on_preemption: bool = False
) -> None:
  """Joins the other processes, if there are any; before JAX's backend starts.

  Flags come before the environment, and that before the cluster that JAX
  detects. A process that is alone starts no service and does not wait.

  Args:
    args: with the flags of `add_flags`.
    stops_on_preemption: whether the command looks for SIGTERM itself, by
      `trainer.interruption`. JAX's preemption service then takes note of it;
      otherwise SIGTERM ends the process.

  Raises:
    UserError: what is given is not enough, or cannot be; or JAX cannot join.
      Where the others do not connect in time, JAX aborts the process.
  """
  given = {name: _given(args, name) for name in _ENVIRONMENT}
  is_asked = any(value is not None for value in given.values())
  if given['num_processes'] == 1 or (not is_asked and _is_alone_in_cluster()):
    return
  address = given['coordinator_address']
  if address is not None and not re.fullmatch(r'.+:[0-9]{1,5}', address):
    raise errors.UserError(
      f'--coordinator_address is {checks.shown(address)}, not HOST:PORT'
    )
  import jax

  if not stops_on_preemption:
    jax.config.update('jax_enable_preemption_service', False)
  if None not in given.values():
    logger.info(
      'waiting for all %s processes at %s, %d s at most',
      *(given['num_processes'], address, args.initialization_timeout),
    )
  try:
    jax.distributed.initialize(
      **given,
      initialization_timeout=args.initialization_timeout,
      heartbeat_timeout_seconds=args.heartbeat_timeout_seconds,
      # How long a process that fails alone lets the others work on.
      shutdown_timeout_seconds=args.heartbeat_timeout_seconds,
    )
  except (RuntimeError, ValueError) as e:
    if not is_asked and 'coordinator_address should be defined' in str(e):
      return  # There is no cluster.
    flags = [
      f'--{name}={value}' for name, value in given.items() if value is not None
    ]
    raise errors.UserError(
      f'cannot join the other processes ({" ".join(flags) or "of a cluster"}): '
      f'{str(e).splitlines()[0]}'
    ) from e
  if jax.process_index():
    logging.getLogger('pid_jax').setLevel(logging.ERROR)


def _given(args: argparse.Namespace, name: str) -> str | int | None:
  """Returns what a flag says, else its environment variable, else None."""
  value, variable = getattr(args, name), _ENVIRONMENT[name]
  if value is not None or not os.environ.get(variable):
    return value
  value = os.environ[variable]
  if name == 'coordinator_address':
    return value
  if not re.fullmatch('[0-9]{1,9}', value):
    raise errors.UserError(
      f'${variable} is {checks.shown(value)}, not a number'
    )
  return int(value)


def _is_alone_in_cluster() -> bool:
  """Whether JAX's detection of a cluster could find no other process.

  For a job of one process JAX would start its service, on a port that another
  such process on this host would want as well. In a pod of Kubernetes it would
  fail where all variables are missing of which its detection needs one.
  """
  get = os.environ.get
  if (get('OMPI_COMM_WORLD_SIZE') or get('SLURM_NTASKS')) == '1':
    return True
  needed = (
    'JOB_COMPLETION_INDEX',
    'OMPI_COMM_WORLD_SIZE',
    'SLURM_NTASKS',
    'TPU_WORKER_ID',
  )
  return get('KUBERNETES_SERVICE_HOST') is not None and not any(
    map(get, needed)
  )
