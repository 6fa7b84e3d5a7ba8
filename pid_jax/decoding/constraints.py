# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Outputs constrained to a set of strings, for each sequence of a batch.

The strings of a set form a trie: a node is a prefix of some of them, and its
children are the tokens that continue it. Each sequence carries its node; a step
allows only the tokens of that node's children, and the sequence moves to the
child that was chosen. Sequences of one batch may have separate tries, share
one, or be unconstrained.

All tries of a job are stored in one table, level by level, so that the children
of a node are contiguous and a node needs only the index of its first child: two
integers per node, whatever the number of its children and of the sequences that
share it.

Axis letters are those of `pid_jax.decoding`.
"""

from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float32, Int32
import numpy as np

from pid_jax.decoding import tokens as tokens_lib

FREE = 0  # The node of unconstrained sequences.

# Tables are padded to 512 * 8^k nodes (of 8 bytes), so that few shapes are
# compiled.
_SMALLEST, _GROWTH = 512, 8
# Children of a node that one iteration of `logit_mask` handles.
_WIDTH = 64


@flax.struct.dataclass
class Tries:
  """A table of nodes; the first one is FREE.

  Attributes:
    tokens: int32 [nodes], the token that leads to each node.
    first_children: int32 [nodes + 1]. The children of node n are the nodes
      first_children[n] up to, but not including, first_children[n + 1], in the
      order of their tokens. A node without children (FREE, and the nodes after
      EOS) allows every token.
  """

  tokens: Int32[Array, ' nodes']
  first_children: Int32[Array, ' nodes+1']

  def child(
    self, nodes: Int32[Array, '*R'], tokens: Int32[Array, '*R']
  ) -> Int32[Array, '*R']:
    """Returns the nodes that tokens lead to.

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

  def walk(
    self, nodes: Int32[Array, ' A'], drafts: Int32[Array, 'A draft']
  ) -> Int32[Array, 'A draft+1']:
    """Returns the nodes along drafts.

    Args:
      nodes: int32 [A], before the drafts.
      drafts: int32 [A, draft].

    Returns:
      int32 [A, draft + 1], the node before each drafted token and after the
      last one; FREE after a token that is not allowed.
    """

    def follow(nodes, tokens):
      nodes = self.child(nodes, tokens)
      return nodes, nodes

    _, passed = jax.lax.scan(follow, nodes, drafts.T)
    return jnp.concatenate([nodes[:, None], passed.T], axis=1)

  def constrain_draft(
    self,
    nodes: Int32[Array, ' A'],
    drafts: Int32[Array, 'A draft'],
    lengths: Int32[Array, ' A'],
  ) -> tuple[Int32[Array, 'A draft'], Int32[Array, ' A']]:
    """Cuts drafts where they leave a trie; extends them by only children.

    Every sampler takes the only child of a node: as a draft, it costs no step.

    Args:
      nodes: int32 [A], before the drafts.
      drafts: int32 [A, draft], of `prompt_lookup.PromptLookup.draft`.
      lengths: int32 [A], the length of each draft.

    Returns:
      The new drafts and lengths; those of unconstrained sequences unchanged.
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

  def logit_mask(
    self, nodes: Int32[Array, '*R'], logits: Float32[Array, '*R V']
  ) -> tuple[Bool[Array, '*R V'], Float32[Array, '*R']]:
    """Returns which tokens are allowed next, and their total log-probability.

    Args:
      nodes: int32 [...].
      logits: float32 [..., V], not normalised.

    Returns:
      bool [..., V], True for allowed tokens; and float32 [...], the natural
      logarithm of their total probability (the log-normalizer of the
      constrained distribution), 0 at nodes without children.
    """
    vocab_size = logits.shape[-1]
    flat = logits.reshape(-1, vocab_size)
    rows = jnp.arange(flat.shape[0])[:, None]
    first = self.first_children[nodes.reshape(-1, 1)]
    end = self.first_children[nodes.reshape(-1, 1) + 1]

    def allow_some(i, carry):
      mask, log_normalizers = carry
      children = first + i * _WIDTH + jnp.arange(_WIDTH)[None, :]
      is_child = children < end
      tokens = self.tokens[jnp.where(is_child, children, FREE)]
      allowed_logits = jnp.where(is_child, flat[rows, tokens], -jnp.inf)
      tokens = jnp.where(is_child, tokens, vocab_size)
      return (
        mask.at[rows, tokens].set(True, mode='drop'),
        jnp.logaddexp(
          log_normalizers, jax.nn.logsumexp(allowed_logits, axis=-1)
        ),
      )

    most = jnp.max(end - first)
    is_free = first == end
    mask, log_normalizers = jax.lax.fori_loop(
      0,
      (most + _WIDTH - 1) // _WIDTH,  # Few, except in the first steps.
      allow_some,
      (
        jnp.broadcast_to(is_free, flat.shape),
        jnp.full(flat.shape[0], -jnp.inf, jnp.float32),
      ),
    )
    log_normalizers -= jax.nn.logsumexp(flat, axis=-1)
    log_normalizers = jnp.where(is_free[:, 0], 0.0, log_normalizers)
    return mask.reshape(logits.shape), log_normalizers.reshape(nodes.shape)


def root(index: int | np.ndarray) -> int | np.ndarray:
  """Returns the root node of the trie of set `index` of `build`.

  Args:
    index: int, or an array of them.
  """
  return index + 1


def build(sets: Sequence[Sequence[Sequence[int]]]) -> Tries:
  """Builds the tries of some sets of strings.

  Args:
    sets: each of at least one string, all different. A string is a sequence of
      token ids without EOS (which is added) and without padding; it may be
      empty.

  Returns:
    The table, padded to one of few sizes.
  """
  return _table(*_nodes(sets))


class TriesBuilder:
  """A table to which sets are added one by one; their roots do not change.

  A set that is known is not added again. A node without meaning follows the
  nodes of each set, since the children of a node end where those of the next
  begin.

  Attributes:
    num_nodes: of all sets.
  """

  def __init__(self):
    self._roots: dict[tuple[tuple[int, ...], ...], int] = {}
    self._blocks = [_END_OF_FREE]
    self.num_nodes = len(_END_OF_FREE[0])

  def root(self, strings: tuple[tuple[int, ...], ...]) -> int:
    """Returns the root node of a set; adds the set if it is new.

    Args:
      strings: one set, see `build`.
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
    """Returns the table of all sets, padded to one of few sizes."""
    return _table(*map(np.concatenate, zip(*self._blocks, strict=True)))


# Tokens and first children of FREE, which has no children, and where they end.
_END_OF_FREE = (np.zeros(2, int), np.ones(2, int))


def _nodes(
  sets: Sequence[Sequence[Sequence[int]]],
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the token that leads to each node, and its first child."""
  strings = sorted((i, *ids) for i, set_ in enumerate(sets) for ids in set_)
  longest = max(map(len, strings), default=0)
  # The index of the set precedes the tokens: it leads to the root.
  table = np.full((len(strings), longest + 1), tokens_lib.PAD_ID, np.int32)
  for row, ids in zip(table, strings, strict=True):
    row[: len(ids)] = ids
    row[len(ids)] = tokens_lib.EOS_ID
  lengths = np.array([len(ids) for ids in strings], int)
  differs = np.ones(table.shape, bool)
  differs[1:] = table[1:] != table[:-1]
  # Prefixes that the string before does not have are nodes, level by level.
  is_node = np.logical_or.accumulate(differs, axis=1)
  is_node &= np.arange(longest + 1) <= lengths[:, None]
  levels, rows = np.nonzero(is_node.T)
  numbers = np.zeros(is_node.shape, int)
  numbers[rows, levels] = 1 + np.arange(len(levels))
  numbers = np.maximum.accumulate(numbers, axis=0)
  parents = np.where(levels > 0, numbers[rows, levels - 1], -1)
  tokens = np.append(tokens_lib.PAD_ID, table[rows, levels])
  # Parents rise from level to level, and children follow in their order.
  return tokens, 1 + np.searchsorted(parents, np.arange(len(tokens)))


def _table(tokens: np.ndarray, first_children: np.ndarray) -> Tries:
  """Returns the table, padded to one of few sizes."""
  size = _SMALLEST
  while size < len(tokens):
    size *= _GROWTH
  missing = size - len(tokens)
  end = len(tokens)  # Of the last node's children.
  first_children = np.pad(first_children, (0, missing + 1), constant_values=end)
  # jnp.asarray would compile a program for each size.
  return Tries(
    jax.device_put(np.pad(tokens, (0, missing)).astype(np.int32)),
    jax.device_put(first_children.astype(np.int32)),
  )
