# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Outputs constrained to strings of a set, of any number, row by row.

The strings of a set make a trie: a node is a beginning of some of them, its
children are the tokens that continue one of those. A row carries its node; in
each step the tokens of that node's children alone are let through, and the row
moves on to the child that was chosen. Rows of one batch may have tries of their
own, share one, or be free.

All tries of a job stand in one table, level by level, so that the children of a
node are neighbours and a node needs no more than the place of the first: two
integers for each node, however many rows share it and however wide it is.

Letters: M nodes, V vocab_size, S sets of strings.
"""

from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
import numpy as np

from pid_jax.decoding import prefill

FREE = 0  # The node of rows that are not constrained.

# Tables are few sizes apart: a node is 8 bytes, and a size a program.
_SMALLEST, _GROWTH = 512, 8
# So many children of each row are let through at a time.
_WIDTH = 64


@flax.struct.dataclass
class Tries:
  """A table of nodes; the first one is FREE.

  Attributes:
    tokens: int32 [M], the token that leads to each node.
    first_children: int32 [M + 1]. The children of node n are the nodes from
      first_children[n] to before first_children[n + 1], by rising tokens. A
      node without any (FREE, and what follows EOS) lets everything through.
  """

  tokens: jax.Array
  first_children: jax.Array

  def child(self, nodes: jax.Array, tokens: jax.Array) -> jax.Array:
    """Returns where tokens lead.

    Args:
      nodes: int32 [...].
      tokens: int32 [...].

    Returns:
      int32 [...], FREE where a node has no such child.
    """
    end = self.first_children[nodes + 1]

    def halve(_, bounds):
      low, high = bounds
      middle = (low + high) // 2
      is_before = (low < high) & (self.tokens[middle] < tokens)
      return (
        jnp.where(is_before, middle + 1, low),
        jnp.where(is_before, high, middle),
      )

    bounds = (self.first_children[nodes], end)
    num_halvings = self.tokens.size.bit_length()
    found, _ = jax.lax.fori_loop(0, num_halvings, halve, bounds)
    is_child = (found < end) & (self.tokens[found] == tokens)
    return jnp.where(is_child, found, FREE)

  def walk(self, nodes: jax.Array, drafts: jax.Array) -> jax.Array:
    """Returns the nodes that drafts pass.

    Args:
      nodes: int32 [R], before the drafts.
      drafts: int32 [R, Q - 1].

    Returns:
      int32 [R, Q], before each drafted token and after the last one; FREE
      behind one that is not allowed.
    """

    def follow(nodes, tokens):
      nodes = self.child(nodes, tokens)
      return nodes, nodes

    _, passed = jax.lax.scan(follow, nodes, drafts.T)
    return jnp.concatenate([nodes[:, None], passed.T], axis=1)

  def restrain(
    self, nodes: jax.Array, drafts: jax.Array, lengths: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Cuts drafts where they leave a trie, goes on where that leaves no choice.

    A node's only child is what any sampler takes: as a draft, it costs no step.

    Args:
      nodes: int32 [R], before the drafts.
      drafts: int32 [R, K], of `lookup.PromptLookup.draft`.
      lengths: int32 [R], how many of their tokens are a draft.

    Returns:
      The same, of rows that are free as they were.
    """

    def follow(carry, drafted):
      nodes, agrees, goes_on = carry
      tokens, is_drafted = drafted
      first = self.first_children[nodes]
      is_sole = self.first_children[nodes + 1] == first + 1
      proposed = jnp.where(agrees & is_drafted, self.child(nodes, tokens), FREE)
      reached = jnp.where(is_sole, first, proposed)
      goes_on &= reached != FREE
      carry = jnp.where(goes_on, reached, FREE), reached == proposed, goes_on
      return carry, (self.tokens[reached], goes_on)

    is_drafted = jnp.arange(drafts.shape[1])[None, :] < lengths[:, None]
    yes = jnp.ones(nodes.shape, bool)
    _, (tokens, goes_on) = jax.lax.scan(
      follow, (nodes, yes, yes), (drafts.T, is_drafted.T)
    )
    is_free = nodes == FREE
    return (
      jnp.where(is_free[:, None], drafts, tokens.T),
      jnp.where(is_free, lengths, jnp.sum(goes_on, axis=0)),
    )

  def allow(
    self, nodes: jax.Array, logits: jax.Array
  ) -> tuple[jax.Array, jax.Array]:
    """Returns which tokens may come next, and how likely those are together.

    Args:
      nodes: int32 [...].
      logits: float32 [..., V].

    Returns:
      bool [..., V]; and float32 [...], the natural logarithm of the probability
      that the logits give the tokens let through: 0 at free nodes.
    """
    vocab_size = logits.shape[-1]
    flat = logits.reshape(-1, vocab_size)
    rows = jnp.arange(flat.shape[0])[:, None]
    first = self.first_children[nodes.reshape(-1, 1)]
    end = self.first_children[nodes.reshape(-1, 1) + 1]

    def let_through(i, carry):
      mask, masses = carry
      places = first + i * _WIDTH + jnp.arange(_WIDTH)[None, :]
      is_child = places < end
      tokens = self.tokens[jnp.where(is_child, places, FREE)]
      own = jnp.where(is_child, flat[rows, tokens], -jnp.inf)
      tokens = jnp.where(is_child, tokens, vocab_size)
      return (
        mask.at[rows, tokens].set(True, mode='drop'),
        jnp.logaddexp(masses, jax.nn.logsumexp(own, axis=-1)),
      )

    most = jnp.max(end - first)
    is_free = first == end
    mask, masses = jax.lax.fori_loop(
      0,
      (most + _WIDTH - 1) // _WIDTH,  # Few but in the first steps.
      let_through,
      (
        jnp.broadcast_to(is_free, flat.shape),
        jnp.full(flat.shape[0], -jnp.inf, jnp.float32),
      ),
    )
    masses -= jax.nn.logsumexp(flat, axis=-1)
    masses = jnp.where(is_free[:, 0], 0.0, masses)
    return mask.reshape(logits.shape), masses.reshape(nodes.shape)


def root(s: int) -> int:
  """Returns the node where the trie of set `s` of `build` begins."""
  return s + 1


def build(sets: Sequence[Sequence[Sequence[int]]]) -> Tries:
  """Makes the tries of some sets of strings.

  Args:
    sets: S of them; each of at least one string, all different: ids of tokens,
      EOS, which is added, and padding not among them. A string may be empty.

  Returns:
    The table, its size one of few.
  """
  return _table(*_nodes(sets))


class Growing:
  """A table of sets that come one after another, and begin where they did.

  Sets that are known cost nothing again. A node without meaning stands behind
  the nodes of each set: children end where the next node's begin.

  Attributes:
    num_nodes: of all sets.
  """

  def __init__(self):
    self._roots: dict[tuple[tuple[int, ...], ...], int] = {}
    self._blocks = [_END_OF_FREE]
    self.num_nodes = len(_END_OF_FREE[0])

  def root(self, strings: tuple[tuple[int, ...], ...]) -> int:
    """Returns the node where a set begins; adds it where it is new.

    Args:
      strings: as in `build`.
    """
    if strings not in self._roots:
      tokens, first = (x[1:] for x in _nodes([strings]))
      shift = self.num_nodes - 1
      end = self.num_nodes + len(tokens)
      self._blocks.append((np.append(tokens, 0), np.append(first + shift, end)))
      self._roots[strings] = self.num_nodes
      self.num_nodes = end + 1
    return self._roots[strings]

  def table(self) -> Tries:
    """Returns the table, its size one of few."""
    return _table(*map(np.concatenate, zip(*self._blocks, strict=True)))


# FREE, which has no children, and the end of those.
_END_OF_FREE = (np.zeros(2, int), np.ones(2, int))


def _nodes(
  sets: Sequence[Sequence[Sequence[int]]],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the token that leads to each node, and its first child."""
  strings = sorted((s, *ids) for s, own in enumerate(sets) for ids in own)
  longest = max(map(len, strings), default=0)
  # The set stands before the tokens: what is first in a row leads to a root.
  table = np.full((len(strings), longest + 1), prefill.PAD_ID, np.int32)
  for row, ids in zip(table, strings, strict=True):
    row[: len(ids)] = ids
    row[len(ids)] = prefill.EOS_ID
  lengths = np.array([len(ids) for ids in strings], int)
  differs = np.ones(table.shape, bool)
  differs[1:] = table[1:] != table[:-1]
  # Beginnings that the string before does not have are nodes, level by level.
  is_node = np.logical_or.accumulate(differs, axis=1)
  is_node &= np.arange(longest + 1) <= lengths[:, None]
  levels, rows = np.nonzero(is_node.T)
  numbers = np.zeros(is_node.shape, int)
  numbers[rows, levels] = 1 + np.arange(len(levels))
  numbers = np.maximum.accumulate(numbers, axis=0)
  parents = np.where(levels > 0, numbers[rows, levels - 1], -1)
  tokens = np.append(prefill.PAD_ID, table[rows, levels])
  # Parents rise from level to level, and children follow in their order.
  return tokens, 1 + np.searchsorted(parents, np.arange(len(tokens)))


def _table(tokens: np.ndarray, first_children: np.ndarray) -> Tries:
  """Pads a table to one of few sizes."""
  size = _SMALLEST
  while size < len(tokens):
    size *= _GROWTH
  missing = size - len(tokens)
  end = len(tokens)  # Of the last node's children.
  return Tries(
    jnp.asarray(np.pad(tokens, (0, missing)), jnp.int32),
    jnp.asarray(
      np.pad(first_children, (0, missing + 1), constant_values=end), jnp.int32
    ),
  )
