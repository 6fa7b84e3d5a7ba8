# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Decoding as its definition has it: one row at a time, no cache, no padding.

Every token comes of a call of the whole network on everything before it. Slow,
and short enough to be believed: what all ways to decode are compared with.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from pid_jax import decoding
from pid_jax import network

EOS_ID = 1
# Beginnings of a row that one call reads, each by itself.
_WIDTH = 8
# Logits of two programs differ by rounding, and more for more of it.
TOLERANCE = 1e-4


class Row:
  """One prompt of one input."""

  def __init__(self, config, params, inputs, prompt, *, lengths):
    """Takes lists of ids.

    Args:
      config: of the network.
      params: of the network.
      inputs: ids, with EOS.
      prompt: ids.
      lengths: (S, L) to pad inputs and decoder rows to, at their ends, where
        masks and causality hide it: one program for all rows.
    """
    self.config = config
    self._params = params
    self._prompt = list(prompt)
    self._lengths = lengths
    self._inputs = np.zeros((_WIDTH, lengths[0]), np.int32)
    self._inputs[:, : len(inputs)] = inputs
    self._known = {}

  def logits(self, beginnings):
    """Returns float32 [n, V], of the token after each of n beginnings."""
    beginnings = [tuple(ids) for ids in beginnings]
    new = [ids for ids in beginnings if ids not in self._known]
    if new:
      self._known.update(zip(new, self._read(new), strict=True))
    return np.stack([self._known[ids] for ids in beginnings])

  def _read(self, beginnings):
    rows = np.zeros((-(-len(beginnings) // _WIDTH), _WIDTH, self._lengths[1]))
    rows = rows.astype(np.int32)
    ends = np.zeros(rows.shape[:2], np.int32)
    for i, ids in enumerate(beginnings):
      row = [0, *self._prompt, *ids]
      rows.reshape(-1, rows.shape[2])[i, : len(row)] = row
      ends.reshape(-1)[i] = len(row) - 1
    logits = [
      _logits(network.Transformer(self.config), self._params, self._inputs, *x)
      for x in zip(rows, ends, strict=True)
    ]
    return np.concatenate(logits)[: len(beginnings)]

  def log_probs(self, beginnings):
    """Returns float64 [n, V]."""
    logits = self.logits(beginnings).astype(np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1)[:, None]

  def allowed(self, ids, min_new_tokens=0, strings=None):
    """Returns bool [V]: which tokens may follow `ids`.

    Args:
      ids: chosen so far.
      min_new_tokens: tokens before EOS, where there are no strings.
      strings: lists of ids without EOS, one of which is the output; or None.
    """
    mask = np.zeros(self.config.vocab_size, bool)
    if strings is None:
      mask[2 : self.config.num_tokens] = True
      mask[EOS_ID] = len(ids) >= min_new_tokens
    else:
      n = len(ids)
      whole = [[*string, EOS_ID] for string in strings]
      mask[[string[n] for string in whole if string[:n] == list(ids)]] = True
    return mask

  def greedy(self, max_new_tokens, **constraint):
    """Returns the ids of the likeliest token each time."""
    ids = []
    while len(ids) < max_new_tokens and ids[-1:] != [EOS_ID]:
      allowed = self.allowed(ids, **constraint)
      logits = np.where(allowed, self.logits([ids])[0], -np.inf)
      ids.append(int(np.argmax(logits)))
    return ids

  def scores(self, ids, **constraint):
    """Returns the log-probability of an output, and the normalised one."""
    total, normalized = 0.0, 0.0
    log_probs = self.log_probs([ids[:n] for n in range(len(ids))])
    for n, token in enumerate(ids):
      own = log_probs[n][self.allowed(ids[:n], **constraint)]
      total += log_probs[n, token]
      normalized += log_probs[n, token] - np.logaddexp.reduce(own)
    return total, normalized if constraint.get('strings') else total

  def num_ties(self, ids, sampler, keys, **constraint):
    """Raises AssertionError unless `ids` are what a sampler chooses.

    Args:
      ids: of an output.
      sampler: of decoding.
      keys: random keys, one for each token.
      **constraint: of `allowed`.

    Returns:
      How many tokens the sampler chooses only if the logits are moved in their
      favour by TOLERANCE: equals but for rounding.
    """
    logits = self.logits([ids[:n] for n in range(len(ids))])
    for n in range(len(ids)):
      logits[n, ~self.allowed(ids[:n], **constraint)] = -np.inf
    chosen = _choose(sampler, logits, keys)
    wrong = np.flatnonzero(chosen != ids)
    for n in wrong:
      logits[n, ids[n]] += TOLERANCE / 2
      logits[n, chosen[n]] -= TOLERANCE / 2
    np.testing.assert_array_equal(_choose(sampler, logits, keys), ids)
    return len(wrong)

  def beams(self, beam_size, alpha, max_new_tokens, **constraint):
    """Searches by the definition of T5X's beam search.

    Returns:
      [(score, log-probability, ids)], best first: finished ones, if there are
      any, else what has not finished; and how close the search was, anywhere,
      to going on otherwise.
    """
    live, finished, margin = [(0.0, [])], [], np.inf
    penalty = lambda length: ((5 + length) / 6) ** alpha
    for step in range(1, max_new_tokens + 1):
      log_probs = self.log_probs([ids for _, ids in live])
      grown = [
        (total + log_probs[i, token], [*ids, int(token)])
        for i, (total, ids) in enumerate(live)
        for token in np.flatnonzero(self.allowed(ids, **constraint))
      ]
      grown, gap = _best(grown, 2 * beam_size)
      margin = min(margin, gap)
      ended = [
        (total / penalty(step), total, ids)
        for total, ids in grown
        if ids[-1] == EOS_ID
      ]
      finished, gap = _best([*finished, *ended], beam_size)
      margin = min(margin, gap)
      live = [g for g in grown if g[1][-1] != EOS_ID]
      live, gap = _best(live, beam_size)
      margin = min(margin, gap)
      if not live:
        break
    if finished:
      return finished, margin
    return [(t / penalty(max_new_tokens), t, ids) for t, ids in live], margin


def _best(scored, count):
  """Returns the best of tuples that begin with a score, and the least gap
  between two of them, or between the last of them and the next.
  """
  scored = sorted(scored, key=lambda s: -s[0])
  values = np.array([s[0] for s in scored[: count + 1]])
  return scored[:count], np.min(-np.diff(values), initial=np.inf)


@functools.partial(jax.jit, static_argnums=0)
def _logits(module, params, inputs, rows, ends):
  logits = module.apply({'params': params}, inputs, rows, enable_dropout=False)
  return jnp.take_along_axis(logits, ends[:, None, None], axis=1)[:, 0]


def _choose(sampler: decoding.Sampler, logits, keys) -> np.ndarray:
  """Returns int32 [n]; reads a few rows more, lest every n be compiled."""
  pad = -len(logits) % _WIDTH
  logits = np.pad(logits, ((0, pad), (0, 0)))
  return np.asarray(_jit_choose(sampler, logits, keys))[: len(logits) - pad]


@functools.partial(jax.jit, static_argnums=0)
def _jit_choose(sampler, logits, keys):
  return jax.vmap(sampler)(logits, keys[: len(logits)])
