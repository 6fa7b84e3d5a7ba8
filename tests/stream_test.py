# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Requests of a stream get the answers of `generate`, one and all."""

import dataclasses
import gc
import itertools
import re

import compilation_counter
import jax
import numpy as np
import pytest
from toys import animals

from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax.inference import batching
from pid_jax.inference import slots as slots_lib

MAX_NEW_TOKENS = 8
SIZE = {'batch_size': 4, 'num_slots': 6, 'num_rows': 3}
# With this even a pool of many rows drafts.
LOOKUP = decoding.PromptLookup(tokens_per_step=1000)


@pytest.fixture(scope='module', name='weights')
def _weights():
  # Some outputs end at once, some never.
  return *animals.config_and_params(eos_gain=3.5), animals.vocabulary()


def _make_model(weights, layout='pid'):
  model = inference.PromptInDecoder(
    *weights, {**animals.TASK, 'layout': layout}
  )
  # One shape for batches of any size: few programs to compile.
  prompt = 0 if layout == 'pie' else 4
  model.shapes.known.add((4, 48, 1 if layout == 'pie' else 8, prompt, 0, 0))
  model.shapes.max_shapes = 1
  return model


@pytest.fixture(scope='module', name='model')
def _model(weights):
  return _make_model(weights)


def _job(num_inputs=20, seed=0, most_prompts=8):
  return animals.random_job(num_inputs, seed, 39, most_prompts)


def _requests(inputs, prompts, choices=None):
  for i, own in enumerate(zip(inputs, prompts, strict=True)):
    yield inference.Request(
      *own, choices=None if choices is None else choices[i], id=f'id {i}'
    )


def _random_choices(prompts, seed=0):
  rng = np.random.default_rng(seed)
  text = lambda: ' '.join(rng.choice(animals.WORDS, rng.integers(1, 4)))
  return [
    [
      None if rng.random() < 0.5 else sorted({text() for _ in range(5)})
      for _ in own
    ]
    for own in prompts
  ]


# What the tests stand on is compiled once for each of these.
PLAIN = {}
CONSTRAINED = {'min_new_tokens': 3}


@pytest.mark.parametrize('options', [PLAIN, CONSTRAINED])
def test_answers_are_those_of_generate(model, options):
  inputs, prompts = _job()
  choices = _random_choices(prompts) if options else None
  outputs, scores = model.generate(
    inputs,
    prompts,
    MAX_NEW_TOKENS,
    choices=choices,
    return_scores=True,
    batch_size=4,
    **options,
  )
  responses = list(
    model.stream(
      _requests(inputs, prompts, choices), MAX_NEW_TOKENS, **SIZE, **options
    )
  )
  assert [r.id for r in responses] == [f'id {i}' for i in range(len(inputs))]
  assert [r.outputs for r in responses] == outputs
  for response, own in zip(responses, scores, strict=True):
    assert response.scores == pytest.approx(own, abs=1e-3)
    assert response.error is None and not response.truncated
  # Worth comparing: rows ended early and late, and at different times.
  lengths = {len(text.split()) for own in outputs for text in own}
  assert len(lengths) > 4, lengths


def test_drafts_change_nothing(model):
  inputs, prompts = _job()
  expected = model.generate(inputs, prompts, MAX_NEW_TOKENS, batch_size=4)
  responses = model.stream(
    _requests(inputs, prompts), MAX_NEW_TOKENS, prompt_lookup=LOOKUP, **SIZE
  )
  assert [r.outputs for r in responses] == expected


def test_answers_of_a_pie_model_are_those_of_generate(weights):
  model = _make_model(weights, 'pie')
  inputs, prompts = animals.random_job(20, 1, 30, 3)
  expected = model.generate(inputs, prompts, MAX_NEW_TOKENS, batch_size=4)
  responses = model.stream(_requests(inputs, prompts), MAX_NEW_TOKENS, **SIZE)
  assert [r.outputs for r in responses] == expected


def test_scores_of_choices_can_be_normalized(model):
  inputs, prompts = _job(10)
  options = {**CONSTRAINED, 'normalize_scores': True}
  choices = _random_choices(prompts)
  _, expected = model.generate(
    inputs,
    prompts,
    MAX_NEW_TOKENS,
    choices=choices,
    return_scores=True,
    batch_size=4,
    **options,
  )
  responses = model.stream(
    _requests(inputs, prompts, choices), MAX_NEW_TOKENS, **SIZE, **options
  )
  for response, own in zip(responses, expected, strict=True):
    assert response.scores == pytest.approx(own, abs=1e-3)


def test_responses_may_come_as_they_are_completed(model):
  inputs, prompts = _job()
  in_order, as_completed = (
    list(
      model.stream(
        _requests(inputs, prompts), MAX_NEW_TOKENS, in_order=in_order, **SIZE
      )
    )
    for in_order in (True, False)
  )
  assert as_completed != in_order
  assert sorted(as_completed, key=lambda r: int(r.id[3:])) == in_order


def test_requests_begin_before_others_have_ended(model):
  """One long output must not hold the place of a whole batch."""
  inputs, prompts = _job(60)
  lengths = [
    max(len(text.split()) for text in own)
    for own in model.generate(inputs, prompts, MAX_NEW_TOKENS, batch_size=4)
  ]
  ordered = list(
    model.stream(
      _requests(inputs, prompts), MAX_NEW_TOKENS, in_order=False, **SIZE
    )
  )
  place = {int(r.id[3:]): i for i, r in enumerate(ordered)}
  # Of the first requests the long ones come after later short ones.
  overtaken = [
    (early, late)
    for early, late in itertools.combinations(range(len(inputs)), 2)
    if place[late] < place[early] and lengths[late] < lengths[early]
  ]
  batches = {(early // 4, late // 4) for early, late in overtaken}
  assert any(early < late for early, late in batches)


def test_requests_are_read_as_they_are_needed(model):
  """An endless source is answered, and read only a few batches ahead."""
  num_read = 0

  def endless():
    nonlocal num_read
    inputs, prompts = _job(10)
    for own in itertools.cycle(zip(inputs, prompts, strict=True)):
      num_read += 1
      yield inference.Request(*own)

  responses = model.stream(endless(), MAX_NEW_TOKENS, **SIZE)
  first = list(itertools.islice(responses, 50))
  assert [r.id for r in first] == list(range(50))
  assert num_read < 50 + 4 * SIZE['batch_size'] + 4 * SIZE['num_slots']


def test_those_that_are_there_do_not_wait_for_others(model):
  inputs, prompts = _job(3)
  answered = []

  def slow():
    for request in _requests(inputs, prompts):
      yield request
      waited = 0
      while not answered or answered[-1].id != request.id:
        waited += 1
        assert waited < 50, 'it waits for the next request'
        yield None

  for response in model.stream(slow(), MAX_NEW_TOKENS, **SIZE):
    answered.append(response)
  assert [r.id for r in answered] == ['id 0', 'id 1', 'id 2']
  expected = model.generate(inputs, prompts, MAX_NEW_TOKENS, batch_size=4)
  assert [r.outputs for r in answered] == expected


BAD = {
  'no text': (inference.Request(None, ['ant']), r'inputs must be .* got None'),
  'no prompts': (inference.Request('ant', []), r'prompts is empty'),
  'one string': (inference.Request('ant', 'bee'), r'list of strings'),
  'empty prompt': (inference.Request('ant', ['bee', '']), r'prompts\[1\] is'),
  'invisible prompt': (inference.Request('ant', ['\u200b']), r'no visible'),
  'long prompt': (
    inference.Request('ant', ['bee ' * 9]),
    r'prompts\[0\] has 9 tokens, and at most 8 .*max_prompt_tokens',
  ),
  'no choices': (
    inference.Request('ant', ['bee'], choices=[[]]),
    r'choices\[0\] is empty',
  ),
  'choice twice': (
    inference.Request('ant', ['bee'], choices=[['ant', 'ant']]),
    r"choices\[0\] holds a string twice: 'ant'",
  ),
  'unwritable': (
    inference.Request('ant', ['bee'], choices=[['Zürich']]),
    r'the vocabulary cannot write',
  ),
  'long choice': (
    inference.Request('ant', ['bee'], choices=[['ant ' * 8 + 'bee']]),
    r'takes 10 tokens',
  ),
  'lists do not match': (
    inference.Request('ant', ['bee'], choices=[None, None]),
    r'prompts holds 1 strings, choices 2',
  ),
  'no list': (inference.Request('ant', None), r'must be a list of strings'),
  'no lists': (
    inference.Request('ant', ['bee'], choices=5),
    r'choices must be a list',
  ),
  'half a character': (
    inference.Request('ant', ['bee \ud800']),
    r'prompts\[0\] holds half of a surrogate pair',
  ),
  'numbers': (inference.Request('ant', [3]), r'prompts\[0\] must be a string'),
  'missing': (inference.Request(float('nan'), ['ant']), r'nan .float.*drop'),
  'a set': (inference.Request('ant', {'bee'}), r'no order'),
  'a function': (inference.Request('ant', len), r'prompts must be a list'),
  'choices of numbers': (
    inference.Request('ant', ['bee'], choices=[[1]]),
    r'choices\[0\]\[0\] must be a string',
  ),
  'it raises': (
    inference.Request('ant', (1 / 0 for _ in range(2))),
    r'cannot be read: ZeroDivisionError',
  ),
  'no request': ('ant', r'must be an inference.Request'),
}


def test_bad_requests_fail_alone(model):
  inputs, prompts = _job(2 * len(BAD))
  good = list(_requests(inputs, prompts))
  expected = list(model.stream(good, MAX_NEW_TOKENS, **SIZE))
  mixed = []
  for i, (name, (bad, _)) in enumerate(BAD.items()):
    if isinstance(bad, inference.Request):
      bad = dataclasses.replace(bad, id=name)
    mixed += [*good[2 * i : 2 * i + 2], bad]

  responses = list(
    model.stream(mixed, MAX_NEW_TOKENS, max_prompt_tokens=8, **SIZE)
  )

  assert len(responses) == len(mixed)
  failed = [r for r in responses if r.error is not None]
  for response, (name, (_, message)) in zip(failed, BAD.items(), strict=True):
    assert response.outputs == response.scores == []
    assert response.id == (name if name != 'no request' else len(mixed) - 1)
    assert re.search(message, response.error), (name, response.error)
  answered = [r for r in responses if r.error is None]
  assert [(r.id, r.outputs) for r in answered] == [
    (r.id, r.outputs) for r in expected
  ]


def test_an_empty_input_is_answered_as_by_generate(model, caplog):
  inputs, prompts = ['', 'ant', ' \u200b'], [['bee'], ['cat'], ['bee', 'cat']]
  expected = model.generate(inputs, prompts, MAX_NEW_TOKENS)
  assert '2 of 3 inputs are empty' in caplog.text
  responses = model.stream(_requests(inputs, prompts), MAX_NEW_TOKENS, **SIZE)
  assert [r.outputs for r in responses] == expected


class _Unreadable(inference.Request):
  @property
  def prompts(self):
    raise RuntimeError('not now')

  def __init__(self):
    pass

  def __repr__(self):
    raise RuntimeError('never')


def test_whatever_comes_fails_alone(model):
  good = inference.Request('ant', ['bee'])
  odd = [
    _Unreadable(), 3, object(), [good], {'inputs': 'ant'}, ('ant', ['bee']),
    inference.Request(*[_Unreadable()] * 2), inference.Request, b'', 10**5000,
    inference.Request([], [], []), inference.Request('ant', iter(())),
  ]  # fmt: skip
  mixed = [x for other in odd for x in (good, other)]
  for in_order in (True, False):
    responses = list(model.stream(mixed, 8, in_order=in_order, **SIZE))
    failed = {r.id: r.error for r in responses if r.error is not None}
    assert sorted(failed) == [2 * i + 1 for i in range(len(odd))]
    answers = {tuple(r.outputs) for r in responses if r.error is None}
    assert len(answers) == 1 and len(responses) == len(mixed)
    assert not any('\n' in error for error in failed.values())


def test_fields_may_be_any_iterables_and_ids_anything(model):
  own = ['bee', 'cat']
  requests = [
    inference.Request('ant', own, id=[1]),
    inference.Request('ant', (x for x in own), id={'a': 1}),
    inference.Request(np.str_('ant'), np.array(own), id=np.zeros(2)),
    inference.Request('ant', dict.fromkeys(own).keys(), id=float('nan')),
  ]
  responses = list(model.stream(requests, MAX_NEW_TOKENS, **SIZE))
  assert len({tuple(r.outputs) for r in responses}) == 1
  assert [r.id for r in responses[:2]] == [[1], {'a': 1}]
  some = ['ant', 'dog']
  one, each = model.stream(
    [
      inference.Request('ant', own, choices=some),
      inference.Request('ant', own, choices=[some, some]),
    ],
    MAX_NEW_TOKENS,
    **SIZE,
  )
  assert one.outputs == each.outputs and set(one.outputs) <= set(some)


@pytest.mark.parametrize('failure', [ValueError('broken'), OSError(5, 'gone')])
def test_a_source_that_breaks_loses_nothing_that_it_gave(model, failure):
  inputs, prompts = _job(11)

  def broken():
    yield from _requests(inputs, prompts)
    raise failure

  answered = []
  with pytest.raises(type(failure)) as e:
    for response in model.stream(broken(), MAX_NEW_TOKENS, **SIZE):
      answered.append(response)
  assert e.value is failure
  assert answered == list(
    model.stream(_requests(inputs, prompts), MAX_NEW_TOKENS, **SIZE)
  )


def test_an_interrupted_call_leaves_the_model_as_it_was(model, monkeypatch):
  inputs, prompts = _job(12)
  expected = model.generate(inputs, prompts, MAX_NEW_TOKENS, batch_size=4)

  def interrupt(*unused):
    raise KeyboardInterrupt

  for where in ('progress', 'device_get', 'source', 'early'):
    stream = lambda: model.stream(
      _requests(inputs, prompts), MAX_NEW_TOKENS, **SIZE
    )
    if where == 'early':
      responses = stream()
      next(responses)
      responses.close()
    elif where == 'progress':
      with pytest.raises(KeyboardInterrupt):
        model.generate(
          inputs, prompts, MAX_NEW_TOKENS, batch_size=4, progress=interrupt
        )
    elif where == 'source':
      with pytest.raises(KeyboardInterrupt):
        list(model.stream(map(interrupt, inputs), MAX_NEW_TOKENS, **SIZE))
    else:
      with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(jax, 'device_get', interrupt)
        list(stream())
    found = model.generate(inputs, prompts, MAX_NEW_TOKENS, batch_size=4)
    assert found == expected
    assert [r.outputs for r in stream()] == expected


def test_what_good_requests_draw_does_not_depend_on_bad_ones(
  model, monkeypatch
):
  inputs, prompts = _job(2)
  good = list(_requests(inputs, prompts))
  bad = dataclasses.replace(good[0], prompts=[])
  draws, submit = [], slots_lib.Slots.submit

  def note(self, key, sequence_id, request):
    draws[-1][key] = sequence_id
    submit(self, key, sequence_id, request)

  monkeypatch.setattr(slots_lib.Slots, 'submit', note)
  for first in (good[0], bad):
    draws.append({})
    list(model.stream([first, good[1]], MAX_NEW_TOKENS, **SIZE))
  # The number in the stream, as in `generate`.
  assert [own[1, 0] for own in draws] == [1, 1]


def test_long_inputs_are_cut_and_marked(model):
  long = ' '.join(animals.WORDS * 3)
  short = ' '.join(long.split()[:39])
  cut, whole = model.stream(
    [inference.Request(long, ['ant']), inference.Request(short, ['ant'])],
    MAX_NEW_TOKENS,
    **SIZE,
  )
  assert cut.outputs == whole.outputs
  assert cut.truncated and not whole.truncated


def test_the_longest_input_must_be_known(weights):
  model = inference.PromptInDecoder(*weights)
  with pytest.raises(errors.UserError, match='max_input_tokens'):
    model.stream([])


@pytest.mark.slow
def test_random_sizes_compile_few_programs_and_none_again(weights):
  model = inference.PromptInDecoder(*weights, animals.TASK)
  inputs, prompts = animals.random_job(100, 5, 39, 30)
  compilations = compilation_counter.Compilations()

  first = list(model.stream(_requests(inputs, prompts), 5))
  assert 0 < compilations.count <= 12
  assert model.num_programs <= compilations.count
  compilations.count = 0
  second = list(model.stream(_requests(inputs, prompts), 5))

  assert compilations.count == 0
  assert second == first


def test_warming_up_compiles_everything_before(weights):
  model = inference.PromptInDecoder(*weights, animals.TASK)
  model.shapes = batching.Shapes(1, [(4, 48, 8, 4, 0, 0)])
  inputs, prompts = _job(20)
  compilations = compilation_counter.Compilations()
  responses = model.stream(
    _requests(inputs, prompts),
    6,
    warm_up=True,
    max_prompt_tokens=4,
    **SIZE,
  )
  assert compilations.count > 0
  compilations.count = 0
  assert len(list(responses)) == 20
  assert compilations.count == 0


def test_a_fresh_model_is_warmed_up_for_all_that_may_come(weights):
  config, params, vocabulary = weights
  config = dataclasses.replace(config, relpos_max_distance=127)  # Its own.
  model = inference.PromptInDecoder(config, params, vocabulary, animals.TASK)
  compilations = compilation_counter.Compilations()
  size = {'batch_size': 3, 'num_slots': 3, 'num_rows': 3}
  start = lambda: model.stream(
    _requests(*_job(20, most_prompts=3)),
    6,
    warm_up=True,
    max_prompt_tokens=8,
    **size,
  )
  responses = start()
  # Of slots, a step, and a batch of one or three, of short or long inputs.
  assert 0 < model.num_programs <= 6
  compilations.count = 0
  assert all(r.error is None for r in responses)
  assert compilations.count == 0
  list(start())
  assert compilations.count == 0


@pytest.mark.parametrize(
  'count', [1500, pytest.param(10_000, marks=pytest.mark.slow)]
)
def test_many_requests_leave_nothing_behind(model, monkeypatch, count):
  # Each has choices of its own: the table must begin anew now and then.
  monkeypatch.setattr(slots_lib, '_MAX_NODES', 400)
  inputs, prompts = _job(100, most_prompts=3)
  words = animals.WORDS

  def requests():
    pairs = itertools.cycle(zip(inputs, prompts, strict=True))
    for number, (text, own) in zip(range(count), pairs, strict=False):
      digits = [words[number // 15**k % 15] for k in range(4)]
      choices = [[*words[:3], ' '.join(digits)], *[None] * (len(own) - 1)]
      yield inference.Request(text, own, choices)

  def memory():
    gc.collect()
    return sum(x.nbytes for x in jax.live_arrays()), len(gc.get_objects())

  warm = count // 3
  responses = model.stream(requests(), MAX_NEW_TOKENS, **SIZE, **CONSTRAINED)
  assert all(r.error is None for r in itertools.islice(responses, warm))
  arrays, objects = memory()
  assert sum(r.error is None for r in responses) == count - warm
  more_arrays, more_objects = memory()

  assert more_arrays <= arrays
  assert more_objects - objects < count / 10
