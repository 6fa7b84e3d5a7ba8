# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""All ways to decode, in all combinations, against one slow definition.

An engine is a program: a network, and what is fixed when it is compiled. Cases
are what programs are given: weights, inputs, prompts and how they are padded,
which rows are decoded, limits, seeds and constraints. Hypothesis draws these,
the same ones each time. Every output is compared with `decoding_reference`,
token by token. Where two tokens are equals but for rounding, either may come;
that is counted, and must be rare.
"""

import collections
import dataclasses
import functools
import itertools
import random

import decoding_batch
import decoding_reference
import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from pid_jax import decoding
from pid_jax import network
from pid_jax.config import T5Config
from pid_jax.decoding import buckets
from pid_jax.decoding import generation
from pid_jax.decoding import steps
from pid_jax.decoding import streaming
from pid_jax.decoding import tries as tries_lib

# One bucket of sizes: B, U, S, P, T.
NUM_INPUTS, NUM_PROMPTS, INPUT_LENGTH, PROMPT_LENGTH = 2, 4, 33, 4
MAX_NEW_TOKENS = 8
LENGTHS = INPUT_LENGTH, 1 + PROMPT_LENGTH + MAX_NEW_TOKENS
NUM_TOKENS = 21


def _config(is_gated, is_tied, relpos_bias_per_layer, scan_layers):
  return T5Config(
    vocab_size=24,
    num_tokens=NUM_TOKENS,
    emb_dim=12,
    num_heads=3,
    head_dim=4,
    num_encoder_layers=1,
    num_decoder_layers=2,
    mlp_dim=20,
    mlp_activations=('gelu', 'linear') if is_gated else ('relu',),
    logits_via_embedding=is_tied,
    relpos_num_buckets=8,
    relpos_max_distance=10,
    relpos_bias_per_layer=relpos_bias_per_layer,
    scan_layers=scan_layers,
  )


CONFIGS = [_config(*x) for x in itertools.product((False, True), repeat=4)]
SAMPLERS = [
  decoding.GREEDY,
  decoding.Sample(decoding.Temperature(0.8), decoding.TopK(5)),
  decoding.Sample(decoding.TopP(0.9)),
  decoding.Sample(),
]
LOOKUP = decoding.Lookup(
  max_draft_tokens=3, min_ngram=1, max_ngram=2, tokens_per_step=99
)


@dataclasses.dataclass(frozen=True)
class Engine:
  """What is fixed when a program is compiled."""

  config: T5Config
  sampler: decoding.Sampler = decoding.GREEDY
  lookup: decoding.Lookup | None = None
  num_compactions: int = 0
  is_constrained: bool = False
  beam_size: int = 0  # 0: no search.
  mode: str = 'generated'  # Of MODES.

  def __str__(self):
    parts = [
      f'{self.beam_size}_beams' * (self.beam_size > 0),
      type(self.sampler).__name__.lower() * (not self.beam_size),
      *(type(f).__name__.lower() for f in getattr(self.sampler, 'filters', ())),
      'lookup' * (self.lookup is not None),
      f'compact_{self.num_compactions}' * (not self.beam_size),
      self.mode * (not self.beam_size),
      'constrained' * self.is_constrained,
      'gated' * (len(self.config.mlp_activations) > 1),
      'tied' * self.config.logits_via_embedding,
      'relpos_per_layer' * self.config.relpos_bias_per_layer,
      'scan' * self.config.scan_layers,
    ]
    return '-'.join(filter(None, parts))


@dataclasses.dataclass(frozen=True)
class Case:
  """What a program is given.

  Attributes:
    weights: what `random_params` takes besides the configuration.
    inputs: [B] lists of ids.
    prompts: [B][U] lists of ids.
    row_mask: bool [B, U].
    min_new_tokens: tokens before EOS.
    alpha: of the length penalty.
    seed: of the sampler.
    stream_ids: int32 [B].
    sets: lists of strings, which are lists of ids.
    set_of_row: int [B, U], which of them; -1 where a row is free.
  """

  weights: dict
  inputs: list
  prompts: list
  row_mask: np.ndarray
  min_new_tokens: int
  alpha: float
  seed: int
  stream_ids: np.ndarray
  sets: list
  set_of_row: np.ndarray

  def arrays(self):
    """Returns the inputs and prompts, padded."""
    encoder = np.zeros((NUM_INPUTS, INPUT_LENGTH), np.int32)
    grid = np.zeros((NUM_INPUTS, NUM_PROMPTS, PROMPT_LENGTH), np.int32)
    for b, ids in enumerate(self.inputs):
      encoder[b, : len(ids)] = ids
      for u, prompt in enumerate(self.prompts[b]):
        grid[b, u, : len(prompt)] = prompt
    return encoder, grid

  def constraint(self, b, u):
    """Returns what the reference is told of a row's outputs."""
    s = self.set_of_row[b, u]
    return dict(
      min_new_tokens=self.min_new_tokens,
      strings=None if s < 0 else self.sets[s],
    )


@st.composite
def _cases(draw, engine):
  """Draws a case; ids come from a few letters at times, so that they repeat."""
  flags = lambda: draw(
    st.lists(
      st.lists(st.booleans(), min_size=NUM_PROMPTS, max_size=NUM_PROMPTS),
      min_size=NUM_INPUTS,
      max_size=NUM_INPUTS,
    ).map(np.array)
  )
  rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
  letters = draw(st.sampled_from([2, 5, NUM_TOKENS - 2]))
  ids = lambda low, high: rng.integers(
    2, 2 + letters, rng.integers(low, high + 1)
  ).tolist()
  sets = [
    [list(x) for x in {tuple(ids(0, MAX_NEW_TOKENS + 1)) for _ in range(size)}]
    for size in draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
  ]
  set_of_row = np.where(
    flags() & engine.is_constrained,
    rng.integers(0, len(sets), (NUM_INPUTS, NUM_PROMPTS)),
    -1,
  )
  return Case(
    weights=dict(
      seed=draw(st.integers(0, 7)),
      eos_gain=draw(st.sampled_from([1.0, 2.0, 4.0])),
      reads_input=draw(st.booleans()),
    ),
    inputs=[[*ids(0, INPUT_LENGTH - 1), 1] for _ in range(NUM_INPUTS)],
    prompts=[
      [ids(0, PROMPT_LENGTH) for _ in range(NUM_PROMPTS)]
      for _ in range(NUM_INPUTS)
    ],
    row_mask=flags() | flags(),
    min_new_tokens=draw(st.one_of(st.just(0), st.integers(0, MAX_NEW_TOKENS))),
    alpha=draw(st.sampled_from([0.0, 0.6, 1.5])),
    seed=draw(st.integers(0, 2**31 - 1)),
    stream_ids=rng.integers(0, 1000, NUM_INPUTS).astype(np.int32),
    sets=sets,
    set_of_row=set_of_row,
  )


# Compiling is most of the time; how fast the programs are does not matter.
_jit = functools.partial(
  jax.jit,
  static_argnums=0,
  compiler_options={'xla_backend_optimization_level': 0},
)
_generate = _jit(
  decoding.generate,
  static_argnames=('max_new_tokens', 'sampler', 'lookup', 'num_compactions'),
)
_beam_search = _jit(
  decoding.beam_search, static_argnames=('max_new_tokens', 'beam_size')
)


def _constraint(engine, case):
  if not engine.is_constrained:
    return {}
  is_free = case.set_of_row < 0
  roots = np.where(is_free, tries_lib.FREE, tries_lib.root(case.set_of_row))
  return dict(tries=tries_lib.build(case.sets), roots=roots.astype(np.int32))


def _generated(engine, params, case):
  """Decodes a case as one batch."""
  return _generate(
    network.Transformer(engine.config),
    params,
    *case.arrays(),
    max_new_tokens=MAX_NEW_TOKENS,
    min_new_tokens=case.min_new_tokens,
    sampler=engine.sampler,
    lookup=engine.lookup,
    rng=jax.random.key(case.seed),
    stream_ids=case.stream_ids,
    row_mask=case.row_mask,
    num_compactions=engine.num_compactions,
    **_constraint(engine, case),
  )


def _streamed(engine, params, case):
  """Decodes a case request by request, through a pool with less room."""
  size = streaming.PoolSize.rounded_up(
    batch_size=2,
    num_places=2,
    num_rows=2,
    input_length=INPUT_LENGTH,
    prompt_length=PROMPT_LENGTH,
  )
  shape = (2, size.input_length, NUM_PROMPTS, size.prompt_length, 0, 0)
  stream = streaming.Stream(
    steps.Settings(
      network.Transformer(engine.config),
      MAX_NEW_TOKENS,
      engine.sampler,
      engine.lookup,
    ),
    params,
    buckets.Shapes(1, [shape]),
    size,
    set(),
    min_new_tokens=case.min_new_tokens,
    seed=case.seed,
  )
  for b, own in enumerate(case.set_of_row):
    stream.submit(
      b,
      int(case.stream_ids[b]),
      buckets.Request(case.inputs[b], case.prompts[b]),
      [
        None if s < 0 else tuple(tuple(ids) for ids in case.sets[s])
        for s in own
      ],
    )
  outputs = {}
  while not stream.is_idle:
    stream.begin()
    outputs |= {done.key: done.outputs for done in stream.finish()}
  assert set(outputs) == set(range(NUM_INPUTS))
  # A request has no prompts that are not asked.
  blank = lambda x: np.where(
    case.row_mask.reshape(case.row_mask.shape + (1,) * (x.ndim - 2)), x, 0
  )
  joined = jax.tree.map(
    lambda *own: blank(np.stack(own)), *(outputs[b] for b in range(NUM_INPUTS))
  )
  return decoding.Generated(
    tokens=joined.tokens,
    log_probs=joined.log_probs,
    normalized_log_probs=joined.normalized_log_probs,
    num_steps=np.int32(0),  # They cannot be told apart.
    num_row_steps=np.int32(0),
  )


# Ways to run a case whose outputs are those of `generate`: functions of engine,
# parameters and case that return tokens [B, U, T], log_probs [B, U] and
# normalized_log_probs [B, U].
MODES = {'generated': _generated, 'streamed': _streamed}


@jax.jit
def _keys(seed, stream_ids):
  """Returns the random keys [B, U, T] that `generate` promises to draw by."""
  fold = jax.random.fold_in
  by_place = jax.vmap(fold, (None, 0))
  key = lambda stream, u: by_place(
    fold(fold(jax.random.key(seed), stream), u), np.arange(MAX_NEW_TOKENS)
  )
  by_row = jax.vmap(jax.vmap(key, (None, 0)), (0, None))
  return by_row(stream_ids, np.arange(NUM_PROMPTS))


def _rows(engine, params, case):
  """Yields (b, u) and the reference of each row that is decoded."""
  for b, u in np.argwhere(case.row_mask):
    yield (
      b,
      u,
      decoding_reference.Row(
        engine.config,
        params,
        case.inputs[b],
        case.prompts[b][u],
        lengths=LENGTHS,
      ),
    )


def _check_generated(engine, case, counts):
  """Raises AssertionError unless a case comes out as the reference has it."""
  params = decoding_reference.random_params(engine.config, **case.weights)
  run = functools.partial(MODES[engine.mode], engine, params)
  if engine.lookup is not None:
    # What comes out is what may be copied.
    for b, rows in enumerate(np.asarray(run(case).tokens)):
      copied = [int(token) for token in rows[rows > 1]]
      case.inputs[b][:-1] = copied[: INPUT_LENGTH - 1]
  generated = run(case)
  keys = _keys(case.seed, case.stream_ids)
  tokens = np.asarray(generated.tokens)
  for b, u, row in _rows(engine, params, case):
    ids = decoding_batch.without_padding(tokens[b, u])
    assert len(ids) == MAX_NEW_TOKENS or ids[-1] == 1
    assert 1 not in ids[:-1]
    constraint = case.constraint(b, u)
    counts['ties'] += row.num_ties(
      ids, engine.sampler, keys[b, u], **constraint
    )
    np.testing.assert_allclose(
      (generated.log_probs[b, u], generated.normalized_log_probs[b, u]),
      row.scores(ids, **constraint),
      rtol=2e-4,
      atol=2e-4,
    )
    counts['tokens'] += len(ids)
    counts['ended' if ids[-1] == 1 else 'cut'] += 1
  assert not np.any(tokens[~case.row_mask])
  assert not np.any(np.asarray(generated.log_probs)[~case.row_mask])
  if tokens.any():
    longest = np.count_nonzero(tokens, axis=-1).max()
    assert int(generated.num_steps) <= longest
    counts['steps saved'] += int(longest - generated.num_steps)


def _check_beams(engine, case, counts):
  """The same for a search."""
  params = decoding_reference.random_params(engine.config, **case.weights)
  beams = _beam_search(
    network.Transformer(engine.config),
    params,
    *case.arrays(),
    max_new_tokens=MAX_NEW_TOKENS,
    beam_size=engine.beam_size,
    length_penalty=case.alpha,
    min_new_tokens=case.min_new_tokens,
    row_mask=case.row_mask,
    **_constraint(engine, case),
  )
  tokens = np.asarray(beams.tokens)
  for b, u, row in _rows(engine, params, case):
    constraint = case.constraint(b, u)
    want, margin = row.beams(
      engine.beam_size, case.alpha, MAX_NEW_TOKENS, **constraint
    )
    found = np.isfinite(beams.scores[b, u]).sum()
    got = [decoding_batch.without_padding(x) for x in tokens[b, u, :found]]
    if got != [ids for _, _, ids in want]:
      assert margin < decoding_reference.TOLERANCE
      counts['ties'] += 1
    for w, ids in enumerate(got):
      total, normalized = row.scores(ids, **constraint)
      np.testing.assert_allclose(
        (
          beams.scores[b, u, w],
          beams.log_probs[b, u, w],
          beams.normalized_log_probs[b, u, w],
        ),
        (total / ((5 + len(ids)) / 6) ** case.alpha, total, normalized),
        rtol=2e-4,
        atol=2e-4,
      )
      counts['tokens'] += len(ids)
      counts['ended' if ids[-1] == 1 else 'cut'] += 1
    assert not np.any(tokens[b, u, found:])
  assert not np.any(tokens[~case.row_mask])


def _check(engine, num_cases, monkeypatch):
  """Draws cases, checks each, and that they were worth it."""
  # So few rows would not be compacted else.
  monkeypatch.setattr(generation, '_FEW_ROWS', 2)
  counts = collections.Counter()

  @hypothesis.settings(
    max_examples=num_cases,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(_cases(engine))
  def check(case):
    if engine.beam_size:
      _check_beams(engine, case, counts)
    else:
      _check_generated(engine, case, counts)

  check()
  assert counts['ties'] <= counts['tokens'] / 1000, counts
  assert min(counts['ended'], counts['cut']) > counts['tokens'] / 100, counts
  if engine.lookup is not None:
    assert counts['steps saved'] > num_cases / 10, counts


def _engines():
  """Every network with some way to decode, and half of them with a search."""
  ways = itertools.product(SAMPLERS, (None, LOOKUP), range(4), (False, True))
  rng = random.Random(0)
  for config, way in zip(CONFIGS, rng.sample(list(ways), 16), strict=True):
    sampler, lookup, num_compactions, is_constrained = way
    yield Engine(config, sampler, lookup, num_compactions, is_constrained)
  for i, config in enumerate(rng.sample(CONFIGS, 4)):
    yield Engine(
      config,
      sampler=SAMPLERS[i],
      lookup=(None, LOOKUP)[i % 2],
      is_constrained=i < 2,
      mode='streamed',
    )
  for i, config in enumerate(rng.sample(CONFIGS, 8)):
    yield Engine(config, beam_size=1 + i // 2, is_constrained=bool(i % 2))


@pytest.mark.parametrize(
  'engine',
  [
    Engine(_config(True, False, False, False), num_compactions=2),
    Engine(
      _config(False, True, False, True),
      lookup=LOOKUP,
      num_compactions=1,
      is_constrained=True,
    ),
    Engine(
      _config(False, False, False, True),
      sampler=SAMPLERS[1],
      is_constrained=True,
      mode='streamed',
    ),
    Engine(
      _config(True, True, True, False),
      sampler=SAMPLERS[1],
      num_compactions=1,
      is_constrained=True,
    ),
    Engine(
      _config(False, False, True, True),
      sampler=SAMPLERS[2],
      lookup=LOOKUP,
      is_constrained=True,
    ),
    Engine(
      _config(True, False, False, False), beam_size=3, is_constrained=True
    ),
    Engine(_config(False, False, True, True), beam_size=2),
  ],
  ids=str,
)
def test_every_row_is_as_if_decoded_alone(engine, monkeypatch):
  _check(engine, 40, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('engine', list(_engines()), ids=str)
def test_every_row_of_many_programs_is_as_if_decoded_alone(engine, monkeypatch):
  _check(engine, 100, monkeypatch)
