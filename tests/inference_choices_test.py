# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""PromptInDecoder.generate among given strings."""

import collections
import itertools

import compilation_counter
import jax
import numpy as np
import pytest
from toys import animals
from toys import configs
from toys import weights as weights_lib

from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference

WORDS = animals.WORDS[:14]
# 2954 strings of one to three words.
NAMES = [
  ' '.join(words)
  for n in (1, 2, 3)
  for words in itertools.product(WORDS, repeat=n)
]
INPUTS = ['ant bee cat', 'dog eel', 'fox gnu ant dog']
PROMPTS = [['hen', 'ibis jay'], ['kiwi', 'hen'], ['lark mole', 'newt']]
CHOICES = [
  [NAMES, ['ant', '', 'ant bee', 'cat']],
  [None, NAMES],
  [['fox gnu ant dog'], None],
]


@pytest.fixture(scope='module', name='weights')
def _weights():
  config = configs.tiny(num_tokens=animals.vocabulary().size)
  params = jax.device_put(weights_lib.random_params(config, seed=0))
  return config, params, animals.vocabulary()


@pytest.fixture(scope='module', name='model')
def _model(weights):
  return inference.PromptInDecoder(*weights)


def _flat(lists):
  return [x for own in lists for x in own]


def test_outputs_are_among_the_choices(model):
  free, scores = model.generate(INPUTS, PROMPTS, 5, return_scores=True)
  outputs, chosen_scores = model.generate(
    INPUTS, PROMPTS, 5, choices=CHOICES, return_scores=True
  )
  assert outputs == model.generate(
    INPUTS, PROMPTS, 5, choices=CHOICES, batch_size=1
  )
  assert not all(
    x in own
    for x, own in zip(_flat(free), _flat(CHOICES), strict=True)
    if own is not None
  )
  likeliest = model.score(INPUTS, PROMPTS, outputs)
  _, normalized = model.generate(
    INPUTS,
    PROMPTS,
    5,
    choices=CHOICES,
    return_scores=True,
    normalize_scores=True,
  )
  for i, lists in enumerate(CHOICES):
    for u, own in enumerate(lists):
      if own is None:
        assert outputs[i][u] == free[i][u]
        assert chosen_scores[i][u] == pytest.approx(scores[i][u], abs=1e-4)
        assert normalized[i][u] == pytest.approx(scores[i][u], abs=1e-4)
      else:
        assert outputs[i][u] in own
        assert chosen_scores[i][u] == pytest.approx(likeliest[i][u], abs=1e-3)
        # Of nothing else to choose from, it is certain.
        certain = pytest.approx(0, abs=1e-4)
        assert (normalized[i][u] == certain) == (len(own) == 1)
        assert normalized[i][u] > chosen_scores[i][u] - 1e-4


def test_a_wide_beam_answers_as_choose_does(model):
  own = [['ant', '', 'ant bee', 'cat'], ['dog', 'dog eel fox'], ['gnu']]
  choices = [own[:2], own[1:], own[::2]]
  answers, _ = model.choose(INPUTS, PROMPTS, choices)
  assert answers == model.generate(
    INPUTS, PROMPTS, 5, choices=choices, beam_size=4, length_penalty=0.0
  )


def test_draws_come_as_often_as_their_scores_say(model):
  of_text, counts, num = {}, collections.Counter(), 640
  for seed in range(num // 16):
    (texts,), (scores,) = model.generate(
      INPUTS[:1],
      [['hen'] * 16],
      5,
      choices=[[['ant', '', 'ant bee', 'cat', 'cat dog']] * 16],
      return_scores=True,
      normalize_scores=True,
      sampler=decoding.Sample(),
      seed=seed,
    )
    of_text |= dict(zip(texts, scores, strict=True))
    counts.update(texts)
  # All that are not rare have come.
  assert sum(map(np.exp, of_text.values())) == pytest.approx(1, abs=0.02)
  for text, score in of_text.items():
    share = np.exp(score)
    # Five standard deviations.
    assert counts[text] / num == pytest.approx(
      share, abs=5 * np.sqrt(share * (1 - share) / num) + 1 / num
    )


def test_a_pie_model_chooses_too(weights):
  model = inference.PromptInDecoder(*weights, {'layout': 'pie'})
  outputs = model.generate(INPUTS, PROMPTS, 5, choices=CHOICES)
  for text, own in zip(_flat(outputs), _flat(CHOICES), strict=True):
    assert own is None or text in own


def test_other_choices_need_no_other_program(weights):
  model = inference.PromptInDecoder(*weights)
  model.generate(INPUTS[:1], [['hen']], 5)  # Also what is small.
  before, compilations = model.num_programs, compilation_counter.Compilations()
  for strings in (['ant'], ['bee', 'cat dog'], NAMES[:200]):
    model.generate(INPUTS[:1], [['hen']], 20, choices=[[strings]])
  assert model.num_programs - before == 1 == compilations.count
  # Nothing is constrained.
  model.generate(INPUTS[:1], [['hen']], 20, choices=[[None]])
  model.generate(INPUTS[:1], [['hen']], 20)
  assert model.num_programs - before == 2 == compilations.count


@pytest.mark.parametrize(
  'choices, message',
  [
    ([[[]]], r'choices\[0\]\[0\] is empty'),
    ([[['ant', 'bee', 'ant']]], r"\[0\]\[0\] holds a string twice: 'ant'"),
    ([[['ant', 'bee', 'ant ']]], r"\[0\]\[0\] holds 'ant' and 'ant '.* same"),
    ([[['ant', 3]]], r'choices\[0\]\[0\]\[1\] must be a string; got 3'),
    ([[None, ['ant']]], r'prompts\[0\] holds 1 strings, choices\[0\] 2'),
    ([], '1 inputs and 0 lists of choices'),
    (
      [[['ant', 'ant zebra']]],
      r"choices\[0\]\[0\] holds 'ant zebra', which the vocabulary cannot write",
    ),
    ([[['ant  bee']]], "cannot write: it would read 'ant bee'. Take it out"),
    (
      [[['ant', 'ant bee cat dog']]],
      "'ant bee cat dog', which takes 5 tokens .* max_new_tokens, now 4",
    ),
  ],
)
def test_bad_choices(model, choices, message):
  with pytest.raises(errors.UserError, match=message):
    model.generate(['cat'], [['dog']], 4, choices=choices)
