# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Says in one line what JAX's C++ says in forty when a process is gone.

JAX ends a process from C++, by an abort that Python cannot hear of, when
another one of its run has died or cannot be reached. So what C++ writes goes
through this small program, which outlives the process: it passes everything on,
but for that. Run by `ending.start_relay`; imports nothing of pid_jax.
"""

import json
import re
import sys

_FATAL = 'JAX distributed service detected fatal errors'
_LOG_LINE = re.compile(r'[IWEF]\d{4} [\d:.]+ ')
_NOISE = re.compile(
  r'\[Gloo\] |[IWE]\d{4} .*(coordination_service|preemption_sync_manager)'
)
_MOST_LINES = 5
PEERS = '\x1e'  # Begins the line that says who the processes are.


def explain(
  text: str, place: tuple[str, int, int], peers: list | None, timeout: str
) -> str | None:
  """Returns what to say of JAX's last words, or None: another one says it.

  Args:
    text: JAX's words.
    place: coordinator's address, number of processes, number of this one.
    peers: [host, pid] of each process, or None before all had joined.
    timeout: seconds that joining may take.
  """
  address, count, me = place
  if peers is None:
    return _explain_joining(text, address, count, me, timeout)
  gone = re.search(r'stopped sending heartbeats\):\n([\d\s,]+)', text)
  if gone:
    gone = [int(i) for i in re.findall(r'\d+', gone[1])]
  elif 'different incarnation' in text:
    which = re.search(r'(\d+) unexpectedly tried', text)
    number = f'process {which[1]}' if which else 'a process'
    return (
      f'error: {number} of {count} was started a second time: give each its '
      'own --process_id, and start all of them again'
    )
  elif re.search('Socket closed|UNAVAILABLE|leader task', text):
    gone = [0]
  else:
    line = text.partition('absl::Status: ')[2].partition('\n')[0]
    return f'error: the run has broken up: {line}'
  if me != speaker(gone, peers):
    return None
  names = [
    f'process {i} of {count} (host {peers[i][0]}, pid {peers[i][1]})'
    for i in gone
  ]
  is_are, its = ('is', 'its') if len(gone) == 1 else ('are', 'their')
  return (
    f'error: {", ".join(names)} {is_are} gone: killed, or {its} host is down. '
    'All others end, too; start all of them again to go on'
  )


def speaker(gone: list[int], peers: list) -> int | None:
  """Which of those that are left speaks: the first on a host that is up."""
  down = {peers[i][0] for i in gone}
  left = [i for i in range(len(peers)) if i not in gone]
  return next(
    (i for i in left if peers[i][0] not in down), min(left, default=0)
  )


def _explain_joining(text, address, count, me, timeout) -> str:
  which = re.search(r'Unexpected task registered with task=(\d+)', text)
  if which:
    return (
      f'error: process {which[1]} was started with --num_processes={count}, '
      f'but process 0 at {address} with fewer: give all the same'
    )
  if 'different incarnation' in text or 'ALREADY_EXISTS' in text:
    return (
      f'error: process {me} of {count} was started twice: give each its own '
      '--process_id'
    )
  if 'DEADLINE_EXCEEDED' in text:
    return (
      f'error: process {me} waited {timeout} s at {address} for all {count} '
      'processes: start the others, or correct --num_processes'
    )
  line = text.partition('absl::Status: ')[2].partition('\n')[0]
  return f'error: cannot join the run at {address}: {line}'


def main() -> None:
  """Relays standard input to standard error."""
  address, count, me, timeout = sys.argv[1:]
  place = (address, int(count), int(me))
  peers, fatal, num_more = None, None, 0
  for raw in sys.stdin.buffer:
    line = raw.decode(errors='replace')
    if line.startswith(PEERS):
      peers = json.loads(line[1:])
    elif fatal is not None:
      if fatal and line.startswith('*** Check failure'):
        word = explain(''.join(fatal), place, peers, timeout)
        if word:
          print(word, file=sys.stderr, flush=True)
        fatal = []  # The rest is a stack trace.
      elif fatal:
        fatal.append(line)
    elif _FATAL in line:
      fatal = [line]
    else:
      is_new = _LOG_LINE.match(line)
      num_more = 0 if is_new else num_more - 1
      if _NOISE.match(line):  # A message may have a few lines more.
        num_more = _MOST_LINES if is_new else 1
      if num_more <= 0:
        sys.stderr.write(line)
        sys.stderr.flush()


if __name__ == '__main__':
  main()
