# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One process of several that talk, and end badly; run by hosts_test.py."""

import os
import signal
import time

from pid_jax import cli
from pid_jax import distributed
from pid_jax import errors


def main(args) -> None:
  me = distributed.index()
  words = distributed.gather('greeting', f'{me} greets') + distributed.gather(
    'greeting', f'{me} greets again'
  )
  distributed.agree('the weather', 'sun\nwind')
  cli.say(' '.join(words))
  if args.scenario == 'differ':
    distributed.agree('the recipe', 'flour\nmilk' if me else 'flour\nwater')
  elif me == 1 and args.scenario == 'fail':
    raise errors.UserError('one is unwell')
  elif me == 1 and args.scenario == 'kill':
    os.kill(os.getpid(), signal.SIGKILL)
  time.sleep(600)


if __name__ == '__main__':
  cli.run(
    main,
    __doc__,
    lambda parser: parser.add_argument('--scenario'),
    join=True,
  )
