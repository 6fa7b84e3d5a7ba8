# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Programs are compiled in threads, kept on disk, and change no output."""

import dataclasses
import functools
import gc

import jax
from jax.experimental.compilation_cache import compilation_cache
import numpy as np
import pytest
from toys import animals

from pid_jax import compilation
from pid_jax import decoding
from pid_jax import inference
from pid_jax import network
from pid_jax import partitioning
from pid_jax.checkpoints import names as names_lib
from pid_jax.decoding import prefill
from pid_jax.experiments import aot
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib
from pid_jax.inference import jobs
from pid_jax.inference import planning
from pid_jax.inference import programs as programs_lib


@pytest.fixture(scope='module')
def weights():
  return animals.config_and_params()


def _requests(count, seed=0):
  rng = np.random.default_rng(seed)
  tokens = lambda most: [*rng.integers(3, 9, rng.integers(1, most)), 1]
  return [
    batching.TokenRequest(
      tokens(40), [tokens(4)[:-1] or [3] for _ in range(rng.integers(1, 5))]
    )
    for _ in range(count)
  ]


def _alone(module, params, request, prompt, max_new_tokens):
  """Decodes one prompt by one program, without padding."""
  generated = jax.jit(
    lambda params, inputs, prompt: decoding.generate(
      module, params, inputs, prompt, max_new_tokens=max_new_tokens
    )
  )(params, np.array([request.inputs]), np.array([[prompt]]))
  return generated.tokens[0, 0]


def test_outputs_do_not_depend_on_the_programs(weights, monkeypatch):
  """Padded, cut into smaller batches, compacted or not: as if alone."""
  module, params = network.Transformer(weights[0]), weights[1]
  requests, options = _requests(6), inference.DecodingOptions(5)
  found = []
  for option in (
    planning.Option((6, 64, 6, 8, 0, 0), 64),
    planning.Option((6, 64, 6, 8, 0, 0), 48, 1),
    planning.Option((2, 48, 4, 4, 0, 0), 48),
    planning.Option((6, 64, 6, 8, 0, 0), 48, 1, 18),
  ):
    monkeypatch.setattr(
      planning.Planner,
      'plan',
      lambda self, counts, *unused, option=option, **also_unused: dict.fromkeys(
        counts, option
      ),
    )
    engine = engine_lib.Engine(module, params)
    found.append(engine.generate(requests, options, batch_size=6))
    assert engine.num_programs == 2
  for outputs in found[1:]:
    for output, expected in zip(outputs, found[0], strict=True):
      np.testing.assert_array_equal(output.tokens, expected.tokens)
      np.testing.assert_allclose(
        output.log_probs, expected.log_probs, atol=1e-5
      )
  for i in (0,):
    for prompt, tokens in zip(
      requests[i].prompts, found[0][i].tokens, strict=True
    ):
      expected = _alone(module, params, requests[i], prompt, 5)
      np.testing.assert_array_equal(tokens, expected)


def test_programs_are_counted_while_others_are_started(monkeypatch):
  programs = programs_lib.Programs({'add': jax.jit(lambda x: x + 1)}, None)
  start = lambda key: programs.start('add', key, np.ones(2))
  for key in range(2):
    start(key).wait()
  is_ready = programs_lib.Program.is_ready.fget
  # As another thread does, between any two.
  monkeypatch.setattr(
    programs_lib.Program,
    'is_ready',
    property(lambda self: (start(object()), is_ready(self))[1]),
  )
  assert programs.summary().num_programs == 2


@pytest.fixture(name='packing')
def _packing(monkeypatch):
  """A model whose time is spent on tokens; options and programs it asks for."""
  config, params = animals.config_and_params(mlp_dim=24)
  model = inference.PromptInDecoder(
    config, params, animals.vocabulary(), animals.TASK
  )
  programs = model.engine.programs
  programs.platform = dataclasses.replace(
    programs.platform, flops_per_second=1.0
  )
  plans, started = [], {}
  plan, start = planning.Planner.plan, programs.start

  def noted_plan(self, *args, **kwargs):
    plans.append(plan(self, *args, **kwargs))
    return plans[-1]

  def noted_start(kind, key, *args, announcement='', **static):
    started.setdefault(kind, (args, static))
    return start(kind, key, *args, announcement=announcement, **static)

  monkeypatch.setattr(planning.Planner, 'plan', noted_plan)
  monkeypatch.setattr(programs, 'start', noted_start)
  return model, plans, started


def test_prompts_of_unequal_length_are_packed_and_answered_as_if_alone(packing):
  model, plans, started = packing
  vocabulary, (module, params) = (
    animals.vocabulary(),
    (
      model.engine.module,
      model.engine.params,
    ),
  )
  rng = np.random.default_rng(0)
  text = lambda count: ' '.join(rng.choice(animals.WORDS, count))
  inputs = [text(n) for n in (9, 3, 12, 7, 5)]
  # Fewer prompts than the program has rows, and inputs with fewer tokens.
  prompts = [
    [text(n) for n in lengths]
    for lengths in ([1, 8, 2], [2, 1, 1, 8, 3], [1], [2, 2, 1], [8, 1, 1, 1, 4])
  ]
  targets = [[[text(2), text(1)] for _ in own] for own in prompts]
  pad = lambda ids, length: np.pad(ids, (0, length - len(ids)))

  def alone(function, *further, **static):
    """Calls a function of `decoding` for each prompt, padded to one length."""
    run = jax.jit(functools.partial(function, module, **static))
    ids = vocabulary.encode
    return [
      [
        run(
          params,
          pad([*ids(text), 1], 16)[None],
          pad(ids(prompt), 9)[None, None],
          *(
            np.array([[[pad([*ids(x), 1], 4) for x in some[b][u]]]])
            for some in further
          ),
        )
        for u, prompt in enumerate(prompts[b])
      ]
      for b, text in enumerate(inputs)
    ]

  def check(found, expected):
    for own, expected_own in zip(found, expected, strict=True):
      np.testing.assert_allclose(own, expected_own, rtol=1e-4, atol=1e-5)

  log_probs = lambda found: [
    [np.squeeze(x.log_probs) for x in own] for own in found
  ]
  texts = lambda found: [
    [vocabulary.decode(x.tokens[0, 0].tolist()) for x in own] for own in found
  ]
  for static, function, options in (
    ({'max_new_tokens': 5}, decoding.generate, {}),
    (
      {'max_new_tokens': 5, 'beam_size': 2},
      lambda *args, **kwargs: decoding.beam_search(*args, **kwargs).best(),
      {'beam_size': 2},
    ),
  ):
    expected = alone(function, **static)
    outputs, scores = model.generate(
      inputs, prompts, 5, return_scores=True, batch_size=4, **options
    )
    assert outputs == texts(expected)
    check(scores, log_probs(expected))
  expected = log_probs(alone(decoding.score_choices, targets))
  chosen, scores = model.choose(inputs, prompts, targets, batch_size=4)
  for own, expected_own in zip(scores, expected, strict=True):
    check(own, [jax.nn.softmax(x) for x in expected_own])
  assert chosen == [
    [targets[b][u][np.argmax(x)] for u, x in enumerate(own)]
    for b, own in enumerate(expected)
  ]
  firsts = [[some[0] for some in own] for own in targets]
  scores = model.score(inputs, prompts, firsts, batch_size=4)
  check(scores, [[x[0] for x in own] for own in expected])
  # None of these was computed with padded prompts alone.
  assert len(plans) >= 4
  assert all(any(x.packed_length for x in plan.values()) for plan in plans)

  # The program does less work: by the products in it.
  args, static = started['generate']
  assert static['packed_prompt_length'] is not None
  flops = [
    aot.count_flops(
      model.engine.programs.functions['generate']
      .trace(*args, **{**static, 'packed_prompt_length': length})
      .jaxpr.jaxpr
    )
    for length in (static['packed_prompt_length'], None)
  ]
  assert flops[0] < flops[1]


def test_padded_keys_and_values_are_not_read(weights):
  config = dataclasses.replace(weights[0], scan_layers=True)
  module = network.Transformer(config)
  ids = np.array([[3, 4, 5, 1]], np.int32)
  params = network.initialize(module, jax.random.key(0), ids, ids)['params']
  cross = prefill.encode(module, params, ids)
  padded = cross.pad(right=3)
  assert padded.length == 7 and not padded.mask[:, 4:].any()
  # What stands there must not matter.
  layers = jax.tree.map(
    lambda x, axis: jax.numpy.where(
      np.arange(7).reshape([-1] + [1] * (x.ndim - 1 - axis)) < 4, x, 9.0
    ),
    padded.layers,
    padded.map_with_axes(lambda x, names: names.index('length')).layers,
  )
  decode = jax.jit(
    lambda cross: decoding.generate(
      module, params, ids, ids[:, None, :1], cross=cross, max_new_tokens=3
    )
  )
  np.testing.assert_allclose(
    decode(padded.replace(layers=layers)).log_probs,
    decode(None).log_probs,
    rtol=1e-5,
  )


def test_programs_fit_how_parameters_lie_in_memory(weights):
  """Stacked layers may be in one piece each, as loaded, or not."""
  config = dataclasses.replace(weights[0], scan_layers=True)
  params = network.stack_layers(weights[1])
  partitioner = partitioning.Partitioner(devices=jax.devices()[:1])
  formats = partitioner.formats(params, names_lib.param_axes(config))
  engine = engine_lib.Engine(network.Transformer(config), None, partitioner)
  found = [
    engine.with_params(jax.device_put(params, placed)).generate(
      _requests(1), inference.DecodingOptions(3)
    )
    for placed in (formats, jax.tree.map(lambda x: x.sharding, formats))
  ]
  np.testing.assert_array_equal(found[0][0].tokens, found[1][0].tokens)


class _Program:
  def __init__(self):
    self.is_ready = False

  def wait(self):
    self.is_ready = True


@pytest.mark.parametrize('in_order', [False, True])
def test_ready_batches_run_while_others_are_compiled(in_order):
  long, short = [1] * 40, [1] * 5
  job = jobs.Job(
    [batching.TokenRequest(x, [[1]]) for x in (short, short, long)],
    [[0], [1], [2]],
  )
  programs = {16: _Program(), 48: _Program()}

  class Planner:
    def plan(self, counts, batch_size, is_new):
      return {x: planning.Option(x.shape, x.shape[1]) for x in counts}

  pieces = jobs.schedule(
    job,
    range(3),
    1,
    batching.Shapes().buckets,
    Planner(),
    lambda option: [programs[option.input_length]],
    in_order=in_order,
  )
  programs[48].is_ready = True
  first = next(pieces)
  if in_order:  # What is in flight is read before anything is waited for.
    assert first is None
    first = next(pieces)
  assert first.group == (0 if in_order else 2)
  rest = [piece.group for piece in pieces if piece is not None]
  assert sorted([first.group, *rest]) == [0, 1, 2]
  assert all(program.is_ready for program in programs.values())


def test_the_cache_is_bounded_and_the_users_own_is_left_alone(
  tmp_path, monkeypatch, capsys
):
  names = (
    'jax_compilation_cache_dir',
    'jax_compilation_cache_max_size',
    'jax_persistent_cache_min_compile_time_secs',
  )
  before = {name: getattr(jax.config, name) for name in names}
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  try:
    compilation.use_cache()  # The suite switches it off.
    assert not list(tmp_path.iterdir())
    monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
    jax.config.update(names[0], str(tmp_path / 'own'))
    compilation.use_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / 'own')
    jax.config.update(names[0], None)
    # Where no folder can be made, nothing is said of one.
    (tmp_path / 'file').touch()
    with monkeypatch.context() as patch:
      patch.setenv('XDG_CACHE_HOME', str(tmp_path / 'file'))
      compilation.use_cache()
    assert jax.config.jax_compilation_cache_dir is None
    assert not capsys.readouterr().err
    compilation.use_cache()
    folder = tmp_path / 'pid_jax' / 'compiled'
    assert jax.config.jax_compilation_cache_dir == str(folder)
    assert 0 < jax.config.jax_compilation_cache_max_size < 10**10
    assert str(folder) in capsys.readouterr().err

    # A program is read from there by whoever compiles it again, whatever an
    # earlier process left there.
    (folder / 'jit_f-12ab-cache').write_bytes(b'cut off')
    jax.config.update(names[0], None)
    compilation.use_cache()
    jax.config.update(names[2], 0.0)
    kept = []
    for _ in range(2):
      config, params, *_ = animals.config_and_params(mlp_dim=20)
      engine = engine_lib.Engine(network.Transformer(config), params)
      engine.generate(_requests(1), inference.DecodingOptions(3))
      summary = engine.programs.summary()
      assert summary.num_programs == engine.num_programs == 2
      assert summary.running_seconds > 0
      kept.append(summary.num_kept)
      del engine
      gc.collect()
      jax.clear_caches()
    assert kept == [0, 2]
  finally:
    for name, value in before.items():
      jax.config.update(name, value)
    compilation_cache.reset_cache()
