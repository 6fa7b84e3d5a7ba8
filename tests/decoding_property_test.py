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
import functools
import itertools
import random

import hypothesis
import jax
import numpy as np
import pytest
from toys import decoding_batch
from toys import decoding_cases
from toys import decoding_reference
from toys import weights

from pid_jax import decoding
from pid_jax import network
from pid_jax.decoding import constraints
from pid_jax.decoding import generation
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import options
from pid_jax.inference import slots as slots_lib

_jit = functools.partial(jax.jit, static_argnums=0)
_generate = _jit(
  decoding.generate,
  static_argnames=(
    'max_new_tokens',
    'sampler',
    'prompt_lookup',
    'num_compactions',
    'packed_prompt_length',
  ),
)
_beam_search = _jit(
  decoding.beam_search,
  static_argnames=('max_new_tokens', 'beam_size', 'packed_prompt_length'),
)


def _constraint(engine, case):
  if not engine.is_constrained:
    return {}
  is_free = case.set_of_row < 0
  roots = np.where(is_free, constraints.FREE, constraints.root(case.set_of_row))
  return dict(tries=constraints.build(case.sets), roots=roots.astype(np.int32))


def _packed_length(engine):
  """Enough for all cases, so that they share a program."""
  longest = 1 + decoding_cases.PROMPT_LENGTH
  return decoding_cases.NUM_PROMPTS * longest if engine.is_packed else None


def _generated(engine, params, case):
  """Decodes a case as one batch."""
  return _generate(
    network.Transformer(engine.config),
    params,
    *case.arrays(),
    max_new_tokens=decoding_cases.MAX_NEW_TOKENS,
    min_new_tokens=case.min_new_tokens,
    token_limit=case.token_limit,
    sampler=engine.sampler,
    prompt_lookup=engine.lookup,
    rng=jax.random.key(case.seed),
    sequence_ids=case.sequence_ids,
    row_mask=case.row_mask,
    num_compactions=engine.num_compactions,
    packed_prompt_length=_packed_length(engine),
    **_constraint(engine, case),
  )


@functools.cache
def _tokens_engine(config):
  """Kept, and with it what it has compiled."""
  return engine_lib.Engine(network.Transformer(config), None)


def _streamed(engine, params, case):
  """Decodes a case request by request, through a pool with less room."""
  capacity = slots_lib.Capacity.rounded_up(
    batch_size=2,
    num_slots=2,
    num_rows=2,
    input_length=decoding_cases.INPUT_LENGTH,
    prompt_length=decoding_cases.PROMPT_LENGTH,
  )
  shape = (
    2,
    capacity.input_length,
    decoding_cases.NUM_PROMPTS,
    capacity.prompt_length,
    0,
    0,
  )
  tokens_engine = _tokens_engine(engine.config)
  tokens_engine.shapes = batching.Shapes(1, [shape])
  stream = slots_lib.Slots(
    tokens_engine.with_params(params),
    options.DecodingOptions(
      max_new_tokens=case.token_limit,
      min_new_tokens=case.min_new_tokens,
      sampler=engine.sampler,
      prompt_lookup=engine.lookup,
      seed=case.seed,
    ),
    capacity,
  )
  for b, own in enumerate(case.set_of_row):
    choices = [
      None if s < 0 else tuple(tuple(ids) for ids in case.sets[s]) for s in own
    ]
    stream.submit(
      b,
      int(case.sequence_ids[b]),
      batching.TokenRequest(case.inputs[b], case.prompts[b], choices=choices),
    )
  outputs = {}
  while not stream.is_idle:
    stream.begin()
    outputs |= {done.key: done.output for done in stream.finish()}
  assert set(outputs) == set(range(decoding_cases.NUM_INPUTS))
  # A request has no prompts that are not asked.
  blank = lambda x: np.where(
    case.row_mask.reshape(case.row_mask.shape + (1,) * (x.ndim - 2)), x, 0
  )
  joined = jax.tree.map(
    lambda *own: blank(np.stack(own)),
    *(outputs[b] for b in range(decoding_cases.NUM_INPUTS)),
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
def _keys(seed, sequence_ids):
  """Returns the random keys [B, U, T] that `generate` promises to draw by."""
  fold = jax.random.fold_in
  by_place = jax.vmap(fold, (None, 0))
  key = lambda stream, u: by_place(
    fold(fold(jax.random.key(seed), stream), u),
    np.arange(decoding_cases.MAX_NEW_TOKENS),
  )
  by_row = jax.vmap(jax.vmap(key, (None, 0)), (0, None))
  return by_row(sequence_ids, np.arange(decoding_cases.NUM_PROMPTS))


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
        lengths=decoding_cases.LENGTHS,
      ),
    )


def _check_generated(engine, case, counts):
  """Raises AssertionError unless a case comes out as the reference has it."""
  params = weights.random_params(engine.config, **case.weights)
  run = functools.partial(MODES[engine.mode], engine, params)
  if engine.lookup is not None:
    # What comes out is what may be copied.
    for b, rows in enumerate(np.asarray(run(case).tokens)):
      copied = [int(token) for token in rows[rows > 1]]
      case.inputs[b][:-1] = copied[: decoding_cases.INPUT_LENGTH - 1]
  generated = run(case)
  keys = _keys(case.seed, case.sequence_ids)
  tokens = np.asarray(generated.tokens)
  for b, u, row in _rows(engine, params, case):
    ids = decoding_batch.without_padding(tokens[b, u])
    assert len(ids) == case.token_limit or ids[-1] == 1
    assert not np.any(tokens[b, u, case.token_limit :])
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
  params = weights.random_params(engine.config, **case.weights)
  beams = _beam_search(
    network.Transformer(engine.config),
    params,
    *case.arrays(),
    max_new_tokens=decoding_cases.MAX_NEW_TOKENS,
    beam_size=engine.beam_size,
    length_penalty=case.alpha,
    min_new_tokens=case.min_new_tokens,
    token_limit=case.token_limit,
    row_mask=case.row_mask,
    packed_prompt_length=_packed_length(engine),
    **_constraint(engine, case),
  )
  tokens = np.asarray(beams.tokens)
  for b, u, row in _rows(engine, params, case):
    constraint = case.constraint(b, u)
    want, margin = row.beams(
      engine.beam_size, case.alpha, case.token_limit, **constraint
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
  # Else batches this small are not compacted.
  monkeypatch.setattr(generation, 'FEW_SEQUENCES', 2)
  counts = collections.Counter()

  @hypothesis.settings(
    max_examples=num_cases,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )
  @hypothesis.given(decoding_cases.cases(engine))
  def check(case):
    if engine.beam_size:
      _check_beams(engine, case, counts)
    else:
      _check_generated(engine, case, counts)

  check()
  assert counts['ties'] <= counts['tokens'] / 1000, counts
  assert min(counts['ended'], counts['cut']) > 0, counts
  if engine.lookup is not None:
    assert counts['steps saved'] > num_cases / 10, counts


def _engines():
  """Every network with some way to decode, and half of them with a search."""
  yield decoding_cases.Engine(
    decoding_cases.make_config(True, False, False, False), num_compactions=2
  )
  yield decoding_cases.Engine(
    decoding_cases.make_config(False, True, False, True),
    lookup=decoding_cases.LOOKUP,
    num_compactions=1,
    is_constrained=True,
  )
  yield decoding_cases.Engine(
    decoding_cases.make_config(True, True, True, False),
    sampler=decoding_cases.SAMPLERS[1],
    num_compactions=1,
    is_constrained=True,
  )
  ways = itertools.product(
    decoding_cases.SAMPLERS,
    (None, decoding_cases.LOOKUP),
    range(4),
    (False, True),
  )
  rng = random.Random(0)
  for config, way in zip(
    decoding_cases.CONFIGS, rng.sample(list(ways), 16), strict=True
  ):
    sampler, lookup, num_compactions, is_constrained = way
    yield decoding_cases.Engine(
      config,
      sampler,
      lookup,
      num_compactions,
      is_constrained,
      is_packed=rng.random() < 0.5,
    )
  for i, config in enumerate(rng.sample(decoding_cases.CONFIGS, 4)):
    yield decoding_cases.Engine(
      config,
      sampler=decoding_cases.SAMPLERS[i],
      lookup=(None, decoding_cases.LOOKUP)[i % 2],
      is_constrained=i < 2,
      mode='streamed',
    )
  for i, config in enumerate(rng.sample(decoding_cases.CONFIGS, 8)):
    yield decoding_cases.Engine(
      config, beam_size=1 + i // 2, is_constrained=bool(i % 2)
    )


@pytest.mark.parametrize(
  'engine',
  [
    decoding_cases.Engine(
      decoding_cases.make_config(False, False, True, True),
      sampler=decoding_cases.SAMPLERS[2],
      lookup=decoding_cases.LOOKUP,
      num_compactions=1,
      is_constrained=True,
      is_packed=True,
    ),
    decoding_cases.Engine(
      decoding_cases.make_config(False, False, False, True),
      sampler=decoding_cases.SAMPLERS[1],
      is_constrained=True,
      mode='streamed',
    ),
    decoding_cases.Engine(
      decoding_cases.make_config(True, True, False, False),
      beam_size=3,
      is_constrained=True,
      is_packed=True,
    ),
  ],
  ids=str,
)
def test_every_row_is_as_if_decoded_alone(engine, monkeypatch):
  _check(engine, 15, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('engine', list(_engines()), ids=str)
def test_every_row_of_many_programs_is_as_if_decoded_alone(engine, monkeypatch):
  _check(engine, 100, monkeypatch)
