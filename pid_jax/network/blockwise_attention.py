# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Attention whose memory grows with the length, not with its square.

Logits, biases and masks exist for one block of queries and keys at a time. The
softmax is accumulated over the blocks of keys with a running maximum (Milakov
and Gimelshein, arXiv 1805.02867; Rabe and Staats, arXiv 2112.05682), and the
backward pass computes the blocks again from the logarithm of the softmax's
denominator (Dao et al., arXiv 2205.14135). T5's relative position bias is
learned, and depends on the distance alone, up to a longest one: the few blocks
that differ are made once for all layers (`bias_blocks`), and gradients are
summed in them. To lay out each block again takes ten times as long as to
attend, by the cycles of the compiler for TPUs.

Blocks in which no query may attend to a key, as above the diagonal of a causal
mask and between the examples of a packed row, are skipped.

Plain JAX: it runs wherever XLA does, and sharding over batch and heads passes
through. Axis letters are those of `pid_jax.network`; q and k are the lengths of
blocks.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int32
import numpy as np

from pid_jax.network import masks
from pid_jax.network import precision
from pid_jax.network.kv_cache import KVLayer

# Length of blocks, of queries and of keys. Unequal ones are three times slower
# in XLA on CPUs.
BLOCK = 512
# Logits of a head from which blocks are at least as fast as one [Q, K] matrix.
_MIN_LOGITS = 1 << 20


def pays(num_queries: int, num_keys: int) -> bool:
  """Whether to attend block by block rather than by a matrix of all pairs."""
  return num_queries * num_keys >= _MIN_LOGITS


def bias_blocks(
  by_distance: Float[Array, 'H distances'],
  num_queries: int,
  num_keys: int,
  *,
  block: int | None = None,
) -> Float[Array, 'offsets H k k']:
  """Returns the blocks of biases that differ, for `attend`.

  Args:
    by_distance: [H, 2 M + 1], of key position minus query position from -M to
      M; beyond these the first and the last hold.
    num_queries: Q.
    num_keys: K.
    block: k, the length of blocks on both sides; None: BLOCK, or less where
      there are fewer tokens.

  Returns:
    [2 m + 1, H, k, k]: of blocks of keys from m before that of the queries to m
    after it; beyond these the first and the last hold.
  """
  longest = max(num_queries, num_keys)
  k = min(block or BLOCK, longest)
  most = by_distance.shape[1] // 2
  # Further away all distances are beyond M, or no block is.
  m = min(-(-(most + k - 1) // k), (longest - 1) // k)
  distances = np.arange(-m, m + 1)[:, None] * k + np.arange(2 * k) - (k - 1)
  cut = jnp.take(by_distance, np.clip(distances, -most, most) + most, axis=1)

  def one(of_block):
    # Row r starts one distance further left than row r - 1, by reshaping: its
    # gradient is a sum, that of a gather a slow scatter.
    rows = jnp.tile(of_block, (1, k))[:, k - 1 : k * 2 * k - 1]
    return rows.reshape(-1, k, 2 * k - 1)[..., :k]

  # One after another: on TPUs laying out takes several times the result.
  return jax.lax.map(one, cut.swapaxes(0, 1))


def attend(
  query: Float[Array, 'B Q H D'],
  key_values: KVLayer,
  mask: masks.Mask,
  bias: Float[Array, 'offsets H k k'] | None = None,
  *,
  block_queries: int | None = None,
  block_keys: int | None = None,
) -> Float[Array, 'B Q H D']:
  """Returns softmax(query keys + bias) values.

  Args:
    query: [B, Q, H, D].
    key_values: of one layer, K positions.
    mask: of Q queries and K keys. What a query returns that may attend to
      nothing is finite and without meaning.
    bias: of `bias_blocks`, which decides the lengths of blocks; or None for 0.
    block_queries: q without a bias; None: BLOCK.
    block_keys: k without a bias; None: BLOCK.

  Returns:
    [B, Q, H, D] in the dtype of the values.
  """
  num_queries, num_keys = query.shape[1], mask.num_keys
  if bias is None:
    blocks = (
      min(block_queries or BLOCK, num_queries),
      min(block_keys or BLOCK, num_keys),
    )
  else:
    blocks = bias.shape[2:]
  more_queries, more_keys = -num_queries % blocks[0], -num_keys % blocks[1]
  pad = lambda x, axis, count, value=0: jnp.pad(
    x,
    [(0, count if i == axis % x.ndim else 0) for i in range(x.ndim)],
    constant_values=value,
  )
  # Ids of padding that match no other: negative, and unequal on both sides.
  attended = _attend(
    blocks,
    mask.causal,
    precision.current(),
    pad(query.swapaxes(1, 2), 2, more_queries),
    pad(key_values.keys, -1, more_keys),
    pad(key_values.values, -2, more_keys),
    bias,
    tuple(pad(ids, 1, more_queries, -1) for ids in mask.query_ids),
    tuple(
      pad(ids, 1, more_keys, -2 if mask.query_ids else 0)
      for ids in mask.key_ids
    ),
  )
  return attended[:, :, :num_queries].swapaxes(1, 2)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _attend(
  blocks, causal, products, query, keys, values, bias, query_ids, key_ids
):
  """`attend` in lengths that the blocks divide; query and result [B,H,Q,D].

  `products` is the precision of products, see `precision.current`.
  """
  del products  # Of the gradients' rules.
  return _forward(
    blocks, causal, query, keys, values, bias, query_ids, key_ids
  )[0]


def _forward(blocks, causal, query, keys, values, bias, query_ids, key_ids):
  q, k = blocks
  first, last = _visible(blocks, causal, query, keys, query_ids, key_ids)
  logits = functools.partial(
    _logits, blocks, causal, query, keys, bias, query_ids, key_ids
  )

  def of_queries(i):
    def of_keys(j, carry):
      highest, total, attended = carry
      block = logits(i, j)
      new = jnp.maximum(highest, jnp.max(block, axis=-1))
      weights = jnp.exp(block - new[..., None])
      rescale = jnp.exp(highest - new)
      product = jnp.einsum(
        'bhqk,bhkd->bhqd',
        weights.astype(values.dtype),
        _cut(values, -2, j, k),
        preferred_element_type=jnp.float32,
      )
      return (
        new,
        total * rescale + jnp.sum(weights, axis=-1),
        attended * rescale[..., None] + product,
      )

    rows = (*query.shape[:2], q)
    highest, total, attended = jax.lax.fori_loop(
      first[i],
      last[i],
      of_keys,
      (
        jnp.full(rows, masks.MASKED, jnp.float32),
        jnp.zeros(rows, jnp.float32),
        jnp.zeros((*rows, values.shape[-1]), jnp.float32),
      ),
    )
    total = jnp.where(total == 0, 1.0, total)
    attended = (attended / total[..., None]).astype(values.dtype)
    return attended, highest + jnp.log(total)

  attended, log_total = jax.lax.map(of_queries, jnp.arange(first.shape[0]))
  # [blocks, B, H, q, ...] -> [B, H, Q, ...]
  join = lambda x: jnp.moveaxis(x, 0, 2).reshape(query.shape[:3] + x.shape[4:])
  attended, log_total = join(attended), join(log_total)
  kept = query, keys, values, bias, query_ids, key_ids
  return attended, (*kept, attended, log_total)


def _backward(blocks, causal, kept, gradient):
  query, keys, values, bias, query_ids, key_ids, attended, log_total = kept
  q, k = blocks
  first, last = _visible(blocks, causal, query, keys, query_ids, key_ids)
  logits = functools.partial(
    _logits, blocks, causal, query, keys, bias, query_ids, key_ids
  )
  # [B, H, Q]: what all weights of a query have in common.
  common = jnp.sum(
    gradient.astype(jnp.float32) * attended.astype(jnp.float32), axis=-1
  )
  product = functools.partial(jnp.einsum, preferred_element_type=jnp.float32)

  def of_queries(sums, i):
    query_block = _cut(query, 2, i, q)
    gradient_block = _cut(gradient, 2, i, q)
    log_total_block = _cut(log_total, 2, i, q)[..., None]
    common_block = _cut(common, 2, i, q)[..., None]

    def of_keys(j, carry):
      of_query, (of_key, of_values, of_bias) = carry
      weights = jnp.exp(logits(i, j) - log_total_block)
      of_weights = product(
        'bhqd,bhkd->bhqk', gradient_block, _cut(values, -2, j, k)
      )
      of_logits = weights * (of_weights - common_block)
      if of_bias is not None:
        of_bias = _add(
          of_bias, 0, _offset(bias, i, j), jnp.sum(of_logits, axis=0)[None]
        )
      of_logits = of_logits.astype(query.dtype)
      return (
        of_query + product('bhqk,bhdk->bhqd', of_logits, _cut(keys, -1, j, k)),
        (
          _add(
            of_key, 3, j * k, product('bhqk,bhqd->bhdk', of_logits, query_block)
          ),
          _add(
            of_values,
            2,
            j * k,
            product(
              'bhqk,bhqd->bhkd', weights.astype(values.dtype), gradient_block
            ),
          ),
          of_bias,
        ),
      )

    zero = jnp.zeros(query_block.shape, jnp.float32)
    of_query, sums = jax.lax.fori_loop(first[i], last[i], of_keys, (zero, sums))
    return sums, of_query.astype(query.dtype)

  zeros = lambda x: None if x is None else jnp.zeros(x.shape, jnp.float32)
  sums, of_query = jax.lax.scan(
    of_queries,
    (zeros(keys), zeros(values), zeros(bias)),
    jnp.arange(first.shape[0]),
  )
  of_key, of_values, of_bias = sums
  return (
    jnp.moveaxis(of_query, 0, 2).reshape(query.shape),
    of_key.astype(keys.dtype),
    of_values.astype(values.dtype),
    None if of_bias is None else of_bias.astype(bias.dtype),
    None,
    None,
  )


def _again(rule):
  """Runs a rule in the precision of `_attend`: it is traced later."""

  def wrapped(blocks, causal, products, *args):
    with jax.default_matmul_precision(products):
      return rule(blocks, causal, *args)

  return wrapped


_attend.defvjp(_again(_forward), _again(_backward))


def _logits(
  blocks, causal, query, keys, bias, query_ids, key_ids, i, j
) -> Float32[Array, 'B H q k']:
  """Returns the masked logits of block (i, j)."""
  q, k = blocks
  logits = jnp.einsum(
    'bhqd,bhdk->bhqk',
    _cut(query, 2, i, q),
    _cut(keys, -1, j, k),
    preferred_element_type=jnp.float32,
  )
  if bias is not None:
    logits = logits + _cut(bias, 0, _offset(bias, i, j), 1)
  mask = masks.allowed(
    [_cut(ids, 1, i, q) for ids in query_ids],
    [_cut(ids, 1, j, k) for ids in key_ids],
  )
  if causal:
    key_positions = (j * k + jnp.arange(k))[None, None, :]
    mask = mask & (key_positions <= (i * q + jnp.arange(q))[None, :, None])
  return jnp.where(mask[:, None], logits, masks.MASKED)


def _offset(bias, i, j) -> Int32[Array, '']:
  """Returns which of the `bias_blocks` is that of block (i, j)."""
  most = bias.shape[0] // 2
  return jnp.clip(j - i, -most, most) + most


def _visible(
  blocks, causal, query, keys, query_ids, key_ids
) -> tuple[Int32[Array, ' blocks'], Int32[Array, ' blocks']]:
  """Returns the first block of keys of each block of queries, and the end.

  Ids of a row rise but for padding, so blocks can only match if their ranges of
  ids overlap.
  """
  q, k = blocks
  num_query_blocks, num_key_blocks = query.shape[2] // q, keys.shape[-1] // k
  visible = jnp.ones((1, num_query_blocks, num_key_blocks), bool)
  split = lambda ids, length: ids.reshape(ids.shape[0], -1, length)
  for n, key_block in enumerate(split(ids, k) for ids in key_ids):
    if not query_ids:
      visible = visible & jnp.any(key_block != 0, axis=-1)[:, None, :]
      continue
    query_block = split(query_ids[n], q)
    visible = visible & (
      (
        jnp.min(query_block, axis=-1)[:, :, None]
        <= jnp.max(key_block, -1)[:, None]
      )
      & (
        jnp.max(query_block, axis=-1)[:, :, None]
        >= jnp.min(key_block, -1)[:, None]
      )
    )
  visible = jnp.any(visible, axis=0)
  if causal:
    ends = (jnp.arange(num_query_blocks) + 1) * q
    visible = visible & ((jnp.arange(num_key_blocks) * k)[None] < ends[:, None])
  seen = jnp.any(visible, axis=1)
  first = jnp.argmax(visible, axis=1)
  last = num_key_blocks - jnp.argmax(visible[:, ::-1], axis=1)
  return jnp.where(seen, first, 0), jnp.where(seen, last, 0)


def _cut(x: Array, axis: int, index: Int32[Array, ''], length: int) -> Array:
  """Returns block number `index` of an axis."""
  return jax.lax.dynamic_slice_in_dim(x, index * length, length, axis)


def _add(x: Array, axis: int, start: Int32[Array, ''], more: Array) -> Array:
  """Adds to a part of an axis."""
  old = jax.lax.dynamic_slice_in_dim(x, start, more.shape[axis], axis)
  return jax.lax.dynamic_update_slice_in_dim(x, old + more, start, axis)
