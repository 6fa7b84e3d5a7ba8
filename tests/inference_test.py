# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PromptInDecoder answers as decoding does, whatever the batches look like."""

import logging

import compilation_counter
import eight_devices
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from toys import animals

import pid_jax
from pid_jax import checkpoints
from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax import network
from pid_jax import quickstart
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib

WORDS, TASK = animals.WORDS, animals.TASK
_job = animals.random_job


@pytest.fixture(scope='module', name='weights')
def _weights():
  return *animals.config_and_params(), animals.vocabulary()


@pytest.fixture(scope='module', name='shared')
def _shared(weights):
  """Models of one network share its programs while one of them is there."""
  return inference.PromptInDecoder(*weights, TASK)


@pytest.fixture(name='model')
def _model(shared, weights):
  del shared
  return inference.PromptInDecoder(*weights, TASK)


_jit_generate = jax.jit(
  decoding.generate, static_argnums=0, static_argnames='max_new_tokens'
)
_jit_score = jax.jit(decoding.score, static_argnums=0)
_jit_beam_search = jax.jit(
  decoding.beam_search,
  static_argnums=0,
  static_argnames=('max_new_tokens', 'beam_size'),
)


def _direct(model, encoder_input, prompt):
  """Decodes one prompt, unpadded, without PromptInDecoder."""
  generated = _jit_generate(
    network.Transformer(model.config),
    model.engine.params,
    jnp.array([[*encoder_input, 1]]),
    jnp.array(prompt, jnp.int32).reshape(1, 1, -1),
    max_new_tokens=5,
  )
  return (
    model.vocabulary.decode(generated.tokens[0, 0].tolist()),
    pytest.approx(float(generated.log_probs[0, 0]), abs=1e-4),
  )


def test_outputs_are_those_of_each_prompt_alone(model):
  inputs, prompts = _job(7)
  outputs, scores = model.generate(
    inputs, prompts, 5, return_scores=True, batch_size=4
  )
  assert [len(x) for x in outputs] == [len(x) for x in prompts]
  assert len({text for own in outputs for text in own}) > 5
  encode = model.vocabulary.encode
  for i in (0, 6):
    u = len(prompts[i]) - 1
    expected = _direct(model, encode(inputs[i]), encode(prompts[i][u]))
    assert (outputs[i][u], scores[i][u]) == expected


@pytest.mark.parametrize(
  'sampler',
  [
    None,
    pytest.param(
      decoding.Sample(decoding.Temperature(2.0)), marks=pytest.mark.slow
    ),
  ],
)
def test_the_batch_size_does_not_matter(model, sampler):
  inputs, prompts = _job(8, seed=1)
  one, many = (
    model.generate(inputs, prompts, 5, sampler=sampler, seed=7, batch_size=n)
    for n in (1, 4)
  )
  assert one == many


def test_seeds_matter(model):
  inputs, prompts = _job(4)
  sample = lambda seed: model.generate(
    inputs, prompts, 5, sampler=decoding.Sample(), seed=seed
  )
  assert sample(0) == sample(0) != sample(1)


def test_programs_are_counted(model):
  jobs = [_job(3, seed) for seed in (0, 1)]
  model.generate(['ant'], [['bee']], max_new_tokens=20)  # Also what is small.
  before, compilations = model.num_programs, compilation_counter.Compilations()
  for job in (*jobs, *jobs):
    model.generate(*job, max_new_tokens=20)
  assert 0 < compilations.count == model.num_programs - before <= 2


@pytest.mark.parametrize('options', [{}, {'beam_size': 2}])
def test_few_programs_serve_all_lengths_of_outputs(weights, options):
  model = inference.PromptInDecoder(*weights)
  call = lambda n: model.generate(
    ['ant bee'], [['cat', 'dog']], n, min_new_tokens=n, **options
  )
  call(40)  # Also what is small.
  before, compilations = model.num_programs, compilation_counter.Compilations()
  for length in (1, 2, 7, 8, 9, 16, 17, 24, 25, 32):
    assert [len(text.split()) for text in call(length)[0]] == [length] * 2
  assert model.num_programs - before == 3
  assert compilations.count <= 3  # Others of this network may share them.


def test_score(model):
  inputs, prompts = _job(3)
  targets = [
    [' '.join(WORDS[: 2 + u]) for u, _ in enumerate(own)] for own in prompts
  ]
  scores = model.score(inputs, prompts, targets)
  assert [len(x) for x in scores] == [len(x) for x in prompts]
  encode = model.vocabulary.encode
  i, u = 2, len(prompts[2]) - 1
  expected = _jit_score(
    network.Transformer(model.config),
    model.engine.params,
    jnp.array([[*encode(inputs[i]), 1]]),
    jnp.array([[encode(prompts[i][u])]]),
    jnp.array([[[*encode(targets[i][u]), 1]]]),
  )
  assert scores[i][u] == pytest.approx(
    float(expected.log_probs[0, 0]), abs=1e-3
  )


def test_a_pie_model_reads_the_prompt_in_the_encoder(weights):
  model = inference.PromptInDecoder(*weights, {**TASK, 'layout': 'pie'})
  inputs, prompts = _job(3)
  outputs, scores = model.generate(inputs, prompts, 5, return_scores=True)
  encode = animals.vocabulary().encode
  row = [*encode(prompts[1][0]), *encode(inputs[1])]
  assert (outputs[1][0], scores[1][0]) == _direct(model, row, [])


def test_progress_counts_prompts(model):
  inputs, prompts = _job(5)
  seen = []
  model.generate(inputs, prompts, 5, batch_size=4, progress=seen.append)
  assert len(seen) == 2 and seen[-1] == sum(map(len, prompts))


@pytest.mark.parametrize('layout', ['pid', 'pie'])
@pytest.mark.parametrize('long_inputs', ['keep_start', 'keep_end'])
def test_long_inputs_are_cut_with_a_warning(
  weights, layout, long_inputs, caplog, monkeypatch
):
  model = inference.PromptInDecoder(*weights, {**TASK, 'layout': layout})
  model.max_input_tokens = 8
  model.long_inputs = long_inputs
  inputs = ['ant bee', ' '.join(WORDS[:12])]
  prompts = [['cat dog'], ['eel']]
  requests = []

  def generate(given, *unused_args, **unused_kwargs):
    requests.extend(given)
    none = np.zeros((1, 0), np.int32), np.zeros(1), np.zeros(1)
    return [engine_lib.Output(*none)] * len(given)

  monkeypatch.setattr(model.engine, 'generate', generate)
  with caplog.at_level(logging.WARNING, 'pid_jax'):
    results = model.generate(inputs, prompts, return_results=True)
  (record,) = caplog.records
  assert '1 of 2 inputs have more than 8 tokens' in record.getMessage()
  assert 'inputs[1]' in record.getMessage()
  assert [result.truncated for result in results] == [False, True]
  encode = animals.vocabulary().encode
  room = 7 if layout == 'pid' else 6
  kept = WORDS[:room] if long_inputs == 'keep_start' else WORDS[12 - room : 12]
  expected = [*encode(' '.join(kept)), 1]
  if layout == 'pie':
    expected = [*encode('eel'), *expected]
  assert requests[1].inputs == expected
  assert len(expected) == 8


def test_long_inputs_may_be_an_error(model):
  model.long_inputs = 'error'
  with pytest.raises(errors.UserError, match=r'inputs\[1\] has 51 tokens.* 40'):
    model.generate(['ant', ' '.join(WORDS[:10] * 5)], [['bee']] * 2)


def test_the_end_to_keep_may_be_chosen_on_loading(weights, tmp_path):
  task = {**animals.TASK, 'long_inputs': 'error'}
  saved = checkpoints.Pretrained(*weights, task, 1)
  checkpoints.save(tmp_path / 'model', saved)
  load = lambda **options: inference.PromptInDecoder.from_pretrained(
    tmp_path / 'model', **options
  )
  assert load().long_inputs == 'error'
  assert load(long_inputs='keep_end').long_inputs == 'keep_end'
  with pytest.raises(
    errors.UserError, match="long_inputs must be .*'keep_ends'"
  ):
    load(long_inputs='keep_ends')


def test_each_prompt_has_one_target(model):
  with pytest.raises(errors.UserError, match=r'prompts\[0\] holds 1 .* 2'):
    model.score(['ant'], [['bee']], [['cat', 'dog']])


def test_choices_are_answered_by_their_probabilities(model):
  inputs, prompts = ['ant bee cat', 'dog'], [['eel', 'fox gnu'], ['hen']]
  choices = [[['ibis', 'jay kiwi'], ['lark']], [['mole', 'newt', 'owl ant']]]
  answers, probabilities = model.choose(inputs, prompts, choices)
  for i, u in ((0, 0), (0, 1), (1, 0)):
    own = choices[i][u]
    ((*log_probs,),) = model.score(
      inputs[i : i + 1], [prompts[i][u : u + 1] * len(own)], [own]
    )
    weights = np.exp(log_probs)
    np.testing.assert_allclose(
      probabilities[i][u], weights / weights.sum(), rtol=1e-3, atol=1e-6
    )
    assert answers[i][u] == own[int(np.argmax(log_probs))]


def test_beams_are_those_of_each_prompt_alone(model):
  inputs, prompts = _job(3)
  texts, scores = model.generate(
    inputs, prompts, 5, beam_size=3, length_penalty=0.0, return_scores=True
  )
  beams = _jit_beam_search(
    network.Transformer(model.config),
    model.engine.params,
    jnp.array([[*model.vocabulary.encode(inputs[2]), 1]]),
    jnp.array([[model.vocabulary.encode(prompts[2][-1])]]),
    max_new_tokens=5,
    beam_size=3,
    length_penalty=0.0,
  )
  text = model.vocabulary.decode(beams.tokens[0, 0, 0].tolist())
  assert texts[2][-1] == text
  assert scores[2][-1] == pytest.approx(
    float(beams.log_probs[0, 0, 0]), abs=1e-4
  )
  with pytest.raises(errors.UserError, match='exclude each other'):
    model.generate(inputs, prompts, beam_size=2, sampler=decoding.Sample())
  with pytest.raises(errors.UserError, match='beams read no drafts'):
    model.generate(
      inputs, prompts, beam_size=2, prompt_lookup=decoding.PromptLookup()
    )


def test_a_joint_model_has_no_prompts(weights):
  with pytest.raises(errors.UserError, match="'joint'.*no prompts"):
    inference.PromptInDecoder(*weights, {**TASK, 'layout': 'joint'})


def test_from_pretrained(model, tmp_path):
  checkpoints.write_config(
    tmp_path,
    config=model.config,
    task=TASK,
    vocabulary=model.vocabulary,
  )
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(
      tmp_path / 'checkpoints' / '3' / 'params',
      jax.tree.map(jnp.asarray, model.engine.params),
    )
  loaded = pid_jax.PromptInDecoder.from_pretrained(tmp_path)
  job = _job(3)
  assert loaded.generate(*job, 2) == model.generate(*job, 2)
  assert loaded.max_input_tokens == 40
  half = pid_jax.PromptInDecoder.from_pretrained(tmp_path, dtype='bfloat16')
  assert half.config.dtype == 'bfloat16'
  with pytest.raises(errors.UserError, match='no checkpoint of step 4'):
    pid_jax.PromptInDecoder.from_pretrained(tmp_path, step=4)


def test_time_layouts(model):
  turn = {'inputs': 'ant bee', 'subtasks': [{'prompt': 'cat'}]}
  seconds = quickstart.time_layouts(model, [turn], new_tokens=2, rounds=2)
  assert set(seconds) == {'pid', 'pie'}
  assert all(0 < value < 60 for value in seconds.values())


@pytest.mark.parametrize('smallest', [1, 4, 16])
def test_buckets(smallest):
  sizes = [batching.bucket(n, smallest) for n in range(1, 2000)]
  assert all(size >= n for n, size in enumerate(sizes, start=1))
  assert all(
    size <= 1.5 * n for n, size in enumerate(sizes, start=1) if n > smallest
  )
  assert len(set(sizes)) <= 2 + 2 * np.log2(2000 / smallest)
  assert all(batching.bucket(size, smallest) == size for size in sizes)
  assert batching.bucket(0, smallest) == 0


@pytest.mark.slow
def test_devices_that_share_a_model_answer_as_one():
  found = eight_devices.run('inference_mesh_child.py')
  one = found['1']
  assert one['bytes'] == one['all_bytes']
  for two in found['2'], found['scanned']:
    for name in ('generate', 'choose'):
      assert two[name][0] == one[name][0]
      flat = lambda scores: np.hstack([np.ravel(own) for own in scores])
      np.testing.assert_allclose(
        flat(two[name][1]), flat(one[name][1]), atol=1e-4
      )
    assert two['stream'] == one['stream'] == one['generate'][0]
    # All but the position biases and norms are split.
    assert two['bytes'] < 0.51 * two['all_bytes']

  # A mesh that splits the batch and the parameters, too, as in training.
  one, mesh = found['engine']['one'], found['engine']['mesh']
  assert mesh['tokens'] == one['tokens']
  assert any(mesh['packed_lengths']) and not any(one['packed_lengths'])
  for name in ('log_probs', 'scores'):
    np.testing.assert_allclose(
      np.hstack(mesh[name]), np.hstack(one[name]), atol=1e-4
    )
