# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Joins the processes of a run, as flags, environment or cluster say.

A process that is alone is left alone: nothing is started, nothing waited for.
"""

import argparse
import json
import logging
import os
import signal
import socket
import time
from typing import NamedTuple
import warnings

from pid_jax import errors
from pid_jax.distributed import coordination
from pid_jax.distributed import shutdown

# What differs between the processes of a run, or matters to none but it.
FLAGS = (
  'coordinator_address',
  'num_processes',
  'process_id',
  'initialization_timeout',
  'heartbeat_timeout_seconds',
)
_ENVIRONMENT = {  # The first is JAX's own.
  'coordinator_address': 'JAX_COORDINATOR_ADDRESS',
  'num_processes': 'JAX_NUM_PROCESSES',
  'process_id': 'JAX_PROCESS_ID',
}


class Place(NamedTuple):
  """Where a process stands in its run."""

  coordinator_address: str  # HOST:PORT of process 0.
  num_processes: int
  process_id: int


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of a command that runs on many hosts; named as in JAX."""
  flags = parser.add_argument_group(
    'many hosts',
    'The same command on every host; TPU pods, SLURM, Open MPI and indexed '
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
    type=int,
    metavar='N',
    help='in all; or $JAX_NUM_PROCESSES; 1: run alone, whatever the cluster',
  )
  add(
    '--process_id',
    type=int,
    metavar='I',
    help='of this one, from 0; or $JAX_PROCESS_ID',
  )
  add(
    '--initialization_timeout',
    type=int,
    default=300,
    metavar='SECONDS',
    help='to wait until all processes are there; default: 300',
  )
  add(
    '--heartbeat_timeout_seconds',
    type=int,
    default=30,
    metavar='SECONDS',
    help='of silence, after which a process counts as gone; default: 30',
  )


def find_place(args: argparse.Namespace) -> Place | None:
  """Finds this process's place in its run.

  Args:
    args: with the flags of `add_flags`.

  Returns:
    None if it is alone.

  Raises:
    UserError: what is given is not enough, or cannot be.
  """
  given = {name: _given(args, name) for name in _ENVIRONMENT}
  if given['num_processes'] == 1:
    return None
  if None in given.values():
    cluster = _find_cluster()
    if cluster is None and set(given.values()) == {None}:
      return None
    if cluster is not None:
      if set(given.values()) == {None} and cluster.get_process_count() == 1:
        return None
      found = cluster.auto_detect_unset_distributed_params(
        *given.values(), None, None, args.initialization_timeout
      )
      given = dict(zip(given, found, strict=False))
  missing = [name for name, value in given.items() if value is None]
  if missing:
    flags = ' and '.join(f'--{name}' for name in missing)
    raise errors.UserError(
      f'give {flags}, too, to run on many hosts: no cluster that JAX knows '
      'tells them'
    )
  place = Place(**given)
  if not 0 <= place.process_id < place.num_processes:
    raise errors.UserError(
      f'--process_id={place.process_id} is none of --num_processes='
      f'{place.num_processes}: they are numbered from 0'
    )
  host, _, port = place.coordinator_address.rpartition(':')
  if not host or not port.isdigit():
    raise errors.UserError(
      f'--coordinator_address={place.coordinator_address} is not HOST:PORT'
    )
  return place


def join(args: argparse.Namespace) -> None:
  """Joins the other processes, if there are any; before JAX's backend starts.

  Args:
    args: with the flags of `add_flags`, and `verbose`.

  Raises:
    UserError: see `find_place`; or the others cannot be reached. Where JAX ends
      the process instead, `relay` says why.
  """
  place = find_place(args)
  if place is None:
    return
  import jax

  began = time.monotonic()
  if place.process_id:
    _await_coordinator(place, args.initialization_timeout)
  else:
    _check_port(place)
  left = args.initialization_timeout - (time.monotonic() - began)
  if not args.verbose:
    shutdown.start_relay(*place, args.initialization_timeout)
  options = {}
  if jax.__version_info__ >= (0, 7):  # Before, it was 100 seconds.
    options['heartbeat_timeout_seconds'] = args.heartbeat_timeout_seconds
  try:
    jax.distributed.initialize(
      *place, initialization_timeout=max(5, round(left)), **options
    )
  except RuntimeError as e:
    raise errors.UserError(
      f'cannot join the other processes: {str(e).splitlines()[0]}'
    ) from e
  # JAX listens to SIGTERM from here on, and would only take note of it.
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  if place.process_id:
    logging.getLogger('pid_jax').setLevel(logging.ERROR)
  about_me = json.dumps([socket.gethostname(), os.getpid()])
  peers = [json.loads(text) for text in coordination.gather('peers', about_me)]
  shutdown.watch(peers, args.heartbeat_timeout_seconds)


def _given(args: argparse.Namespace, name: str) -> str | int | None:
  value = getattr(args, name)
  variable = _ENVIRONMENT[name]
  if value is not None or not os.environ.get(variable):
    return value
  value = os.environ[variable]
  if name == 'coordinator_address':
    return value
  if not value.isdigit():
    raise errors.UserError(f'${variable} is {value!r}, not a number')
  return int(value)


def _find_cluster():
  """JAX's class for the cluster that this process is in, or None."""
  from jax._src import clusters  # There is no public way.

  for kind in clusters.ClusterEnv._cluster_types:
    if kind.opt_in_only_method:
      continue
    if kind.__name__ == 'K8sCluster' and 'JOB_COMPLETION_INDEX' not in (
      os.environ
    ):
      continue  # In a pod that is no job JAX would find no number.
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')  # Of a package that is not installed.
      if kind.is_env_present():
        return kind
  return None


def _check_port(place: Place) -> None:
  port = int(place.coordinator_address.rpartition(':')[2])
  with socket.socket() as tried:
    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
      tried.bind(('', port))
    except OSError as e:
      raise errors.UserError(
        f'process 0 cannot listen on port {port} of --coordinator_address='
        f'{place.coordinator_address}: {e.strerror}. Choose another port, on '
        'all hosts.'
      ) from e


def _await_coordinator(place: Place, timeout: float) -> None:
  """Waits for process 0, of which JAX's own error would say nothing."""
  host, _, port = place.coordinator_address.rpartition(':')
  end = time.monotonic() + timeout
  while True:
    try:
      socket.create_connection((host.strip('[]'), int(port)), 5.0).close()
      return
    except OSError as e:
      if time.monotonic() > end:
        raise errors.UserError(
          f'process {place.process_id} of {place.num_processes} finds nobody '
          f'at --coordinator_address={place.coordinator_address} for '
          f'{timeout:g} s ({e.strerror or e}): start process 0 there, and let '
          'the port through the firewall.'
        ) from e
      time.sleep(0.2)
