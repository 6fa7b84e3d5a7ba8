# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""One run on many hosts, thin over `jax.distributed` and `multihost_utils`.

Every process runs the same command. `initialize` joins them before JAX's
backend starts; a process that is alone skips all of this. JAX itself
finds clusters, notices lost processes, and ends a run that has lost one; orbax
and JAX's preemption service stop all processes at one step.

    launch        flags, environment and cluster: `initialize`
    coordination  barriers, and checks that all processes run the same
    run_lock      one run at a time in a MODEL_DIR
"""

from pid_jax.distributed.coordination import barrier
from pid_jax.distributed.coordination import broadcast
from pid_jax.distributed.coordination import check_equal
from pid_jax.distributed.coordination import process_count
from pid_jax.distributed.coordination import process_index
from pid_jax.distributed.launch import FLAGS
from pid_jax.distributed.launch import add_flags
from pid_jax.distributed.launch import initialize
