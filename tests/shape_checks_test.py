# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The suite checks shape annotations, also while a function is traced."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from pid_jax import decoding
from pid_jax import network
from pid_jax.decoding import tokens

IDS = jnp.zeros((2, 3), jnp.int32)


@pytest.mark.parametrize(
  'run',
  [
    lambda: tokens.align_right(IDS[0]),  # rank
    lambda: tokens.align_right(IDS.astype(jnp.float32)),  # dtype
    lambda: tokens.token_log_probs(jnp.zeros((3, 2, 8)), IDS),  # size
    lambda: jax.eval_shape(tokens.present_rows, IDS, IDS),  # traced
    lambda: jax.vmap(decoding.GREEDY, (0, None))(IDS, jax.random.key(0)),
    lambda: network.KVCache((), IDS),  # a field
    lambda: tokens.present_rows(np.zeros((1, 3), np.int32), IDS[:, None]),
  ],
)
def test_wrong_shapes_and_dtypes_are_found(run):
  with pytest.raises(jaxtyping.TypeCheckError):
    run()


def test_dataclasses_can_hold_what_jax_puts_there():
  cache = network.KVCache((), jnp.ones((2, 3), bool))
  assert jax.tree.map(np.shape, cache).mask == (2, 3)
  assert jax.eval_shape(lambda: cache).mask.shape == (2, 3)
