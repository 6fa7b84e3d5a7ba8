# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Texts are tokenised once, on every way to an answer; engines are light."""

import collections
import gc
import json
import weakref

import compilation_counter
import jax
import numpy as np
import pytest
from toys import animals

import pid_jax
from pid_jax import decoding
from pid_jax import inference
from pid_jax import network
from pid_jax.inference import batching
from pid_jax.inference import engine as engine_lib

INPUTS = ['ant bee cat', 'dog eel ' * 30, 'fox']
PROMPTS = [['gnu', 'hen ibis'], ['jay'], ['kiwi lark']]
# Equal lists, and one and the same.
FIRST = ['mole', 'newt owl']
CHOICES = [[FIRST, list(FIRST)], [FIRST], [None]]


class CountingVocabulary(pid_jax.Vocabulary):
  """Counts which texts are encoded."""

  def __init__(self, vocabulary):
    self.encoded = collections.Counter()
    super().__init__(
      vocabulary.path, vocabulary.extra_ids, vocabulary.model_bytes
    )

  def encode(self, text):
    self.encoded[text] += 1
    return super().encode(text)


@pytest.fixture(scope='module', name='weights')
def _weights():
  return animals.config_and_params()


@pytest.fixture(scope='module', name='shared')
def _shared(weights):
  """Keeps what is compiled for the models of this module."""
  return inference.PromptInDecoder(*weights, animals.vocabulary())


@pytest.fixture(name='model')
def _model(shared, weights):
  del shared
  return inference.PromptInDecoder(
    *weights, CountingVocabulary(animals.vocabulary()), animals.TASK
  )


def _generate(model, folder):
  del folder
  return model.generate(INPUTS, PROMPTS, 5, choices=CHOICES)


def _stream(model, folder):
  del folder
  requests = map(inference.Request, INPUTS, PROMPTS, CHOICES)
  return [r.outputs for r in model.stream(requests, 5)]


def _predict(model, folder):
  lines = [
    {
      'inputs': text,
      'subtasks': [
        {'name': str(u), 'prompt': prompt, 'choices': choices[u]}
        for u, prompt in enumerate(prompts)
      ],
    }
    for text, prompts, choices in zip(INPUTS, PROMPTS, CHOICES, strict=True)
  ]
  (folder / 'in.jsonl').write_text('\n'.join(map(json.dumps, lines)))
  inference.answer_file(
    lambda: model,
    folder / 'in.jsonl',
    folder / 'out.jsonl',
    inference.DecodingOptions(max_new_tokens=5),
  )
  written = map(json.loads, (folder / 'out.jsonl').read_text().splitlines())
  return [[s['prediction'] for s in line['subtasks']] for line in written]


def _choose(model, folder):
  del folder
  some = [[own or FIRST for own in lists] for lists in CHOICES]
  return model.choose(INPUTS, PROMPTS, some)[0]


@pytest.mark.parametrize('run', [_generate, _stream, _predict, _choose])
def test_every_text_is_tokenised_once(model, run, tmp_path):
  outputs = run(model, tmp_path)
  assert [len(own) for own in outputs] == [len(own) for own in PROMPTS]
  texts = [*INPUTS, *(prompt for own in PROMPTS for prompt in own), *FIRST]
  assert {text: model.vocabulary.encoded[text] for text in texts} == (
    dict.fromkeys(texts, 1)
  )


def test_results_say_all_of_a_request(model):
  texts, scores = model.generate(INPUTS, PROMPTS, 5, return_scores=True)
  results = model.generate(INPUTS, PROMPTS, 5, return_results=True)
  assert [r.outputs for r in results] == texts
  assert [r.scores for r in results] == scores
  assert [r.truncated for r in results] == [False, True, False]
  assert [r.id for r in results] == [0, 1, 2]
  requests = map(inference.Request, INPUTS, PROMPTS)
  for streamed, result in zip(model.stream(requests, 5), results, strict=True):
    assert streamed.scores == pytest.approx(result.scores, abs=1e-4)
    assert (
      streamed.id,
      streamed.outputs,
      streamed.truncated,
      streamed.error,
    ) == (
      result.id,
      result.outputs,
      result.truncated,
      None,
    )


def test_characters_that_are_lost_are_told_with_their_number(model, caplog):
  model.generate(['ant {bee} zoo'], [['cat\ndog\nhen']], 2)
  (message,) = (
    text for text in caplog.messages if 'vocabulary does not' in text
  )
  assert message.startswith('2 of 2 texts have characters')
  assert "'\\n' (2)" in message and "'{' (1)" in message


def test_engines_of_a_network_share_programs_and_leave_none(weights):
  config, _ = weights
  module = network.Transformer(config.__class__(**{
    **config.to_dict(), 'num_decoder_layers': 1, 'mlp_dim': 24,
  }))  # fmt: skip
  params = jax.eval_shape(
    lambda: network.initialize(
      module, jax.random.key(0), np.ones((1, 2), int), np.ones((1, 2), int)
    )
  )['params']
  params = jax.tree.map(lambda x: np.full(x.shape, 0.01, x.dtype), params)
  requests = [batching.TokenRequest([5, 1], [[4], [6]])]
  options = inference.DecodingOptions(max_new_tokens=2)
  first = engine_lib.Engine(module, params)
  (expected,) = first.generate(requests, options)

  compilations = compilation_counter.Compilations()
  second = engine_lib.Engine(module, params)
  (found,) = second.generate(requests, options)
  np.testing.assert_array_equal(found.tokens, expected.tokens)
  assert compilations.count == 0
  # One encodes and one decodes.
  assert first.num_programs == second.num_programs == 2

  programs = weakref.ref(first.programs)
  assert programs() is second.programs
  del first, second
  gc.collect()
  assert programs() is None


def test_samplers_draw_by_the_number_of_a_request(model):
  options = dict(sampler=decoding.Sample(), seed=3, batch_size=2)
  same = ['ant bee'] * 4, [['cat', 'dog']] * 4
  together = model.generate(*same, 5, **options)
  assert len({tuple(own) for own in together}) > 1
  assert model.generate(*(x[:2] for x in same), 5, **options) == together[:2]
