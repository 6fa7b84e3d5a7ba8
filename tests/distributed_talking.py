# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One process of several that talk, and fail; run by distributed_test.py."""

import itertools
import os
import signal
import time

from pid_jax import cli
from pid_jax import distributed
from pid_jax import errors


def stop_together() -> None:
  """Counts until all stop, after a signal to one."""
  from pid_jax.trainer import interruption

  with interruption.Interruption() as stop:
    for step in itertools.count():
      if stop.requested():
        print(f'stopped at {step}')
        raise SystemExit(stop.exit_status)
      if step == 3 and distributed.process_index() == 1:
        os.kill(os.getpid(), signal.SIGINT)
      time.sleep(0.1 * (1 + distributed.process_index()))


def main(args) -> None:
  me = distributed.process_index()
  texts = [
    distributed.broadcast(f'{me} greets {"again " * i}', source=i)
    for i in range(distributed.process_count())
  ]
  distributed.check_equal('the weather', 'sun\nwind')
  cli.say(''.join(texts))
  if args.scenario == 'differ':
    distributed.check_equal('the recipe', 'flour\nmilk' if me else 'flour\nrye')
  elif args.scenario == 'fail' and me == 1:
    raise errors.UserError('one is unwell')
  elif args.scenario == 'kill' and me == 1:
    os.kill(os.getpid(), signal.SIGKILL)
  elif args.scenario == 'stop':
    stop_together()
  distributed.barrier('never reached by all')


if __name__ == '__main__':
  cli.run(
    main,
    __doc__,
    lambda parser: parser.add_argument('--scenario'),
    join=True,
    stops_on_preemption=True,
  )
