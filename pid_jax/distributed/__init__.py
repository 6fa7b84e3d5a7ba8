# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run on many hosts: how its processes find, hear and outlive each other.

Every process runs the same command. `join` makes one run of them, before JAX
starts; everything else here is of no effect, and costs nothing, where there is
but one process. The devices are not needed for any of it.

    launch    joins the processes: flags, environment, cluster
    group     what they tell one another: `gather`, `agree`, `barrier`
    ending    one word to the user when one of them ends, and all stop together
    claim     one run at a time in a MODEL_DIR
    relay     turns what C++ says of a process that is gone into that word
"""

from pid_jax.distributed.coordination import agree
from pid_jax.distributed.coordination import barrier
from pid_jax.distributed.coordination import count
from pid_jax.distributed.coordination import gather
from pid_jax.distributed.coordination import index
from pid_jax.distributed.coordination import is_joined
from pid_jax.distributed.launch import FLAGS
from pid_jax.distributed.launch import add_flags
from pid_jax.distributed.launch import join
from pid_jax.distributed.shutdown import ask_to_stop
from pid_jax.distributed.shutdown import await_word
from pid_jax.distributed.shutdown import comes_from_another
from pid_jax.distributed.shutdown import leave
from pid_jax.distributed.shutdown import must_stop
from pid_jax.distributed.shutdown import stop_signal
from pid_jax.distributed.shutdown import tells

__all__ = [
  'FLAGS',
  'add_flags',
  'agree',
  'ask_to_stop',
  'await_word',
  'barrier',
  'comes_from_another',
  'count',
  'gather',
  'index',
  'is_joined',
  'join',
  'leave',
  'must_stop',
  'stop_signal',
  'tells',
]
