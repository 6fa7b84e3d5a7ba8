# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Constrained outputs against brute force over all strings of their sets."""

import functools

import jax
import numpy as np
import pytest
from toys import configs
from toys import decoding_batch
from toys import decoding_reference
from toys import weights

from pid_jax import decoding
from pid_jax import network
from pid_jax.decoding import constraints

MAX_NEW_TOKENS = 6
CONFIG = configs.tiny(num_tokens=29)
# U is 3 and 1; row (0, 1) is unconstrained.
LENGTHS, PROMPT_LENGTHS = [11, 6], [[2, 4, 1], [3]]
SETS = [
  # Beginnings of one another, nothing at all, a single long one.
  [[5, 6, 7], [5, 6], [5, 9, 9, 4, 3], [], [8], [28, 2, 8]],
  [[7, 7, 7, 7, 7]],
  [[3], [4], [5, 3], [5, 4]],
]
SET_OF_ROW = {(0, 0): 0, (0, 2): 1, (1, 0): 2}
LOOKUP = decoding.PromptLookup(
  max_draft_tokens=5, min_ngram=1, max_ngram=2, tokens_per_step=99
)

_generate = jax.jit(
  functools.partial(
    decoding.generate, max_new_tokens=MAX_NEW_TOKENS, num_compactions=0
  ),
  static_argnums=0,
  static_argnames=('sampler', 'prompt_lookup'),
)
_beam_search = jax.jit(
  functools.partial(
    decoding.beam_search, max_new_tokens=MAX_NEW_TOKENS, length_penalty=0.0
  ),
  static_argnums=0,
  static_argnames='beam_size',
)
_score_choices = jax.jit(decoding.score_choices, static_argnums=0)


class _Job:
  """A random model and a batch, some rows of which are constrained."""

  def __init__(self, seed):
    self.module = network.Transformer(CONFIG)
    self.params = weights.random_params(CONFIG, seed)
    self.inputs, self.prompts, self.encoder, self.prompt_tokens = (
      decoding_batch.random_batch(CONFIG, LENGTHS, PROMPT_LENGTHS, seed)
    )
    self.roots = np.zeros(self.prompt_tokens.shape[:2], np.int32)
    for row, s in SET_OF_ROW.items():
      self.roots[row] = constraints.root(s)

  def generate(self, constrained=True, **kwargs):
    if constrained:
      kwargs = dict(tries=constraints.build(SETS), roots=self.roots) | kwargs
    kwargs = {
      'min_new_tokens': 0,
      'rng': jax.random.key(0),
      'row_mask': np.any(self.prompt_tokens != 0, axis=-1),
      **kwargs,
    }
    return _generate(
      self.module, self.params, self.encoder, self.prompt_tokens, **kwargs
    )

  def row(self, b, u):
    return decoding_reference.Row(
      CONFIG,
      self.params,
      self.inputs[b],
      self.prompts[b][u],
      lengths=(
        self.encoder.shape[1],
        1 + self.prompt_tokens.shape[2] + MAX_NEW_TOKENS,
      ),
    )


def test_a_table_lets_through_what_continues_a_string():
  rng = np.random.default_rng(0)
  sets = [
    {
      tuple(rng.integers(2, 2 + letters, rng.integers(0, 6)).tolist())
      for _ in range(size)
    }
    # The root of the last one has more children than are looked at at a time.
    for letters, size in ((2, 1), (2, 40), (9, 300), (400, 900))
  ]
  tries = constraints.build([list(own) for own in sets])
  logits = rng.normal(size=(1, 410)).astype(np.float32)
  probabilities = np.exp(logits[0]) / np.exp(logits[0]).sum()
  logit_mask, walk, child = map(
    jax.jit,
    (
      constraints.Tries.logit_mask,
      constraints.Tries.walk,
      constraints.Tries.child,
    ),
  )
  for s, own in enumerate(sets):
    whole = [(*string, 1) for string in own]
    beginnings = sorted({string[:n] for string in whole for n in range(7)})
    for ids in [beginnings[0], *rng.permutation(len(beginnings))[:40]]:
      ids = ids if isinstance(ids, tuple) else beginnings[ids]
      if ids[-1:] == (1,):
        continue
      drafts = np.zeros((1, 6), np.int32)
      drafts[0, : len(ids)] = ids
      path = walk(tries, np.array([constraints.root(s)]), drafts)
      assert np.all(path[0, len(ids) + 1 :] == constraints.FREE)
      node = path[:, len(ids)]
      assert node[0] != constraints.FREE
      mask, log_normalizer = logit_mask(tries, node, logits)
      n = len(ids)
      expected = sorted({string[n] for string in whole if string[:n] == ids})
      assert np.flatnonzero(mask[0]).tolist() == expected
      np.testing.assert_allclose(
        log_normalizer[0],
        np.log(probabilities[expected].sum()),
        rtol=1e-4,
        atol=1e-5,
      )
      children = child(tries, np.repeat(node, 410), np.arange(410))
      is_child = np.asarray(children) != constraints.FREE
      assert np.flatnonzero(is_child).tolist() == expected
  # What leaves a trie is unconstrained.
  mask, log_normalizer = logit_mask(tries, np.array([constraints.FREE]), logits)
  assert np.all(mask) and log_normalizer[0] == 0


@pytest.mark.parametrize('seed', range(4))
def test_greedy_equals_a_slow_loop_over_the_strings(seed):
  job = _Job(seed)
  generated = job.generate()
  free = job.generate(constrained=False)
  np.testing.assert_array_equal(generated.tokens[0, 1], free.tokens[0, 1])
  for b, u in [*SET_OF_ROW, (0, 1)]:
    strings = SETS[SET_OF_ROW[b, u]] if (b, u) in SET_OF_ROW else None
    row = job.row(b, u)
    expected = row.greedy(MAX_NEW_TOKENS, strings=strings)
    assert decoding_batch.without_padding(generated.tokens[b, u]) == expected
    np.testing.assert_allclose(
      (generated.log_probs[b, u], generated.normalized_log_probs[b, u]),
      row.scores(expected, strings=strings),
      rtol=1e-4,
      atol=1e-4,
    )
    if strings is not None:
      assert expected[:-1] in strings and expected[-1] == 1
  # Rows that are padding stay so.
  assert not np.any(generated.tokens[1, 1:])
  np.testing.assert_array_equal(generated.log_probs[1, 1:], 0)


def test_strings_may_be_shorter_than_the_least_number_of_tokens():
  job = _Job(0)
  plain, longer = job.generate(), job.generate(min_new_tokens=MAX_NEW_TOKENS)
  for b, u in SET_OF_ROW:
    np.testing.assert_array_equal(plain.tokens[b, u], longer.tokens[b, u])
  assert 1 not in longer.tokens[0, 1]


def test_drafts_that_are_not_allowed_change_nothing():
  for seed in range(6):
    job = _Job(seed)
    # There are strings, and beginnings of strings that go on otherwise.
    job.encoder[0, :11] = [5, 9, 9, 4, 3, 1, 7, 7, 5, 6, 8]
    plain, drafted = job.generate(), job.generate(prompt_lookup=LOOKUP)
    np.testing.assert_array_equal(plain.tokens, drafted.tokens)
    np.testing.assert_allclose(
      plain.normalized_log_probs,
      drafted.normalized_log_probs,
      rtol=1e-4,
      atol=1e-4,
    )


def test_strings_without_a_choice_take_the_passes_counted_by_hand():
  job, root = _Job(0), constraints.root
  sets = [[[5, 6, 7, 8, 9]], [[5, 6, 7, 8, 9], [5, 6, 10, 11]]]

  def num_steps(roots, lookup):
    return int(
      job.generate(
        prompt_lookup=lookup,
        row_mask=np.array(roots) != constraints.FREE,
        tries=constraints.build(sets),
        roots=np.array(roots, np.int32),
      ).num_steps
    )

  job.encoder[:] = 3  # Nothing to copy.
  single = [[root(0), 0, 0, 0], [0, root(0), 0, 0]]
  # The prefill chooses a token, one pass reads the five that must follow.
  assert num_steps(single, None) == 6
  assert num_steps(single, LOOKUP) == 2
  # One of two at the third token, which ends a draft; then the rest.
  branching = [[root(1), root(0), 0, 0], [0, 0, 0, 0]]
  assert num_steps(branching, None) == 6
  assert num_steps(branching, LOOKUP) == 3


def test_samples_are_distributed_as_renormalised_step_by_step():
  job, strings, copies, temperature = _Job(1), SETS[0], 200, 2.5
  row = job.row(0, 0)

  def probability(ids):
    total = 0.0
    for n, token in enumerate(ids):
      log_probs = row.log_probs([ids[:n]])[0] / temperature
      own = log_probs[row.allowed(ids[:n], strings=strings)]
      total += log_probs[token] - np.logaddexp.reduce(own)
    return np.exp(total)

  outputs = [[*string, 1] for string in strings]
  expected = np.array([probability(ids) for ids in outputs])
  np.testing.assert_allclose(expected.sum(), 1, rtol=1e-6)
  counts = np.zeros(len(outputs))
  for seed in range(10):
    generated = _generate(
      job.module,
      job.params,
      job.encoder[:1],
      np.repeat(job.prompt_tokens[:1, :1], copies, axis=1),
      tries=constraints.build([strings]),
      roots=np.full((1, copies), constraints.root(0)),
      sampler=decoding.Sample(decoding.Temperature(temperature)),
      rng=jax.random.key(seed),
    )
    for drawn in np.asarray(generated.tokens[0]):
      counts[outputs.index(decoding_batch.without_padding(drawn))] += 1
  num = counts.sum()
  # Five standard deviations.
  np.testing.assert_array_less(
    np.abs(counts - num * expected),
    5 * np.sqrt(num * expected * (1 - expected)) + 1,
  )
  assert np.sum(expected > 0.02) >= 3, 'choose another seed'


@pytest.mark.parametrize('seed', range(3))
def test_wide_enough_a_beam_finds_the_likeliest_strings(seed):
  job = _Job(seed)
  beams = _beam_search(
    job.module,
    job.params,
    job.encoder,
    job.prompt_tokens,
    beam_size=len(SETS[0]),
    tries=constraints.build(SETS),
    roots=job.roots,
  )
  choices = np.zeros(
    (*job.prompt_tokens.shape[:2], len(SETS[0]), MAX_NEW_TOKENS), int
  )
  for (b, u), s in SET_OF_ROW.items():
    for k, string in enumerate(SETS[s]):
      choices[b, u, k, : len(string) + 1] = [*string, 1]
  scored = _score_choices(
    job.module,
    job.params,
    job.encoder,
    job.prompt_tokens,
    choices.astype(np.int32),
  )
  for (b, u), s in SET_OF_ROW.items():
    strings = SETS[s]
    scores = np.asarray(scored.log_probs[b, u, : len(strings)])
    order = np.argsort(-scores)
    row = job.row(b, u)
    for w, k in enumerate(order):
      got = decoding_batch.without_padding(beams.tokens[b, u, w])
      assert got == [*strings[k], 1]
      np.testing.assert_allclose(beams.scores[b, u, w], scores[k], rtol=1e-4)
      np.testing.assert_allclose(
        beams.normalized_log_probs[b, u, w],
        row.scores(got, strings=strings)[1],
        rtol=1e-4,
        atol=1e-4,
      )
    assert np.all(np.isneginf(beams.scores[b, u, len(strings) :]))
  free = _beam_search(
    job.module,
    job.params,
    job.encoder,
    job.prompt_tokens,
    beam_size=len(SETS[0]),
  )
  np.testing.assert_array_equal(beams.tokens[0, 1], free.tokens[0, 1])
  np.testing.assert_array_equal(beams.best().tokens, beams.tokens[:, :, 0])
