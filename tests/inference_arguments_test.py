# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""What users may give to a model, and what is refused with a remedy."""

import collections
from concurrent import futures
import enum
import itertools
import re
import time

import jax.numpy as jnp
import numpy as np
import pytest
from toys import animals

from pid_jax import decoding
from pid_jax import errors
from pid_jax import inference
from pid_jax import progress
from pid_jax.inference import memory

HUGE = 10**5000  # Python refuses to print it.
NAN, INF = float('nan'), float('inf')
NO_INTEGER = ('x', 1.5, True, [], NAN, HUGE, 2 + 0j, np.float32(3), b'4')
NO_SIZE = (*NO_INTEGER, None, 0, -1, 10**9)
NO_NUMBER = ('x', True, [], NAN, INF, -INF, HUGE, 2 + 0j, None)
NO_BOOLEAN = (0, 1, 'True', None, [])
NO_STRINGS = (
  *('ant', b'ant', 3, 2.5, None, NAN, {'ant': 'bee'}, {'ant'}),
  *(['ant', None], ['ant', NAN], ['ant', b'bee'], ['ant', 3], [['ant'], 'bee']),
  *(object(), len, np.array('ant'), np.array(['ant', 3], object)),
  *(jnp.arange(2), range(2), enum.Enum, (x for x in [1, 2])),
)


class Table:
  """A table of columns, which iterates over their names, as pandas' does."""

  columns = ('text', 'question')

  def __iter__(self):
    return iter(self.columns)


class Column:
  """A column whose rows begin at 317, as of a filtered table."""

  def __init__(self, *values):
    self._values = dict(enumerate(values, start=317))

  def __getitem__(self, index):
    return self._values[index]

  def __len__(self):
    return len(self._values)

  def __iter__(self):
    return iter(self._values.values())


class ArrowColumn:
  """Its entries are no strings."""

  def __init__(self, *values):
    self._values = values

  def __iter__(self):
    return map(object, self._values)

  def to_pylist(self):
    return list(self._values)


class Word(str, enum.Enum):  # noqa: UP042 - its str() is another one.
  ANT = 'ant'


@pytest.fixture(scope='module', name='model')
def _model():
  return inference.PromptInDecoder(
    *animals.config_and_params(), animals.vocabulary(), animals.TASK
  )


# Option -> values that it may not have.
_SAMPLING = {
  'temperature': (*NO_NUMBER[:-1], 0, 0.0, -1, 1e-9, 1e9),
  'top_k': (*NO_INTEGER, 0, -1, 2**21),
  'top_p': (*NO_NUMBER[:-1], 0, -0.1, 1.01, 2),
  'seed': (*NO_INTEGER, None, -1, 2**32, 2**70),
  'sampler': (
    *('greedy', 3, decoding.Sample, len, lambda x: x, [], len),
    *map(decoding.Sample, (len, lambda x: x[:3], lambda x: 'a')),
  ),
  'prompt_lookup': (True, 8, 'yes', decoding.PromptLookup),
  'min_new_tokens': (*NO_INTEGER, None, -1, 33),
  'max_new_tokens': NO_SIZE,
  'normalize_scores': NO_BOOLEAN,
}  # fmt: skip
_JOB = {'batch_size': NO_SIZE, 'progress': (3, 'bar', [])}
BAD_OPTIONS = {
  'generate': {
    **_SAMPLING,
    **_JOB,
    'beam_size': (*NO_INTEGER, 0, -1, 10**6),
    'length_penalty': (*NO_NUMBER, 100, -100),
    'return_scores': NO_BOOLEAN,
    'return_results': NO_BOOLEAN,
    'choices': NO_STRINGS[:4] + NO_STRINGS[5:],
  },
  'stream': {
    **_SAMPLING,
    'in_order': NO_BOOLEAN,
    'warm_up': NO_BOOLEAN,
    'batch_size': NO_SIZE,
    'num_slots': (*NO_SIZE, 7),
    'num_rows': NO_SIZE,
    'max_input_tokens': (*NO_INTEGER, 0, -1, 10**9),
    'max_prompt_tokens': NO_SIZE,
  },
  'score': _JOB,
  'choose': _JOB,
}
_TEXTS = {
  'generate': (['ant'], [['bee']]),
  'stream': ([],),
  'score': (['ant'], [['bee']], [['cat']]),
  'choose': (['ant'], [['bee']], [[['cat']]]),
}


@pytest.mark.parametrize(
  'method, name',
  [(method, name) for method, table in BAD_OPTIONS.items() for name in table],
)
def test_an_option_is_refused_by_its_name(model, method, name):
  for value in BAD_OPTIONS[method][name]:
    with pytest.raises(errors.UserError) as e:
      getattr(model, method)(*_TEXTS[method], **{name: value})
    message = str(e.value)
    assert name in message, (name, type(value), message)
    assert '\n' not in message and len(message) < 400


def test_a_vocabulary_is_one(model):
  class OfOthers:
    def encode(self, text):
      return [len(text)]

    def decode(self, ids):
      return str(ids)

  for value in (None, 'spiece.model', type(model.vocabulary), OfOthers()):
    with pytest.raises(errors.UserError, match='vocabulary must be'):
      inference.PromptInDecoder(model.config, model.engine.params, value)


@pytest.mark.parametrize('name', ['inputs', 'prompts', 'targets', 'choices'])
def test_texts_are_refused_by_their_name(model, name):
  texts = {'inputs': ['ant', 'bee'], 'prompts': [['cat'], ['dog']]}
  for value in NO_STRINGS:
    calls = [model.generate]
    changed = {**texts, name: value}
    if name in ('targets', 'choices'):
      calls = [model.score if name == 'targets' else model.choose]
    for call in calls:
      with pytest.raises(errors.UserError, match=name):
        call(**changed)
  with pytest.raises(errors.UserError, match=f"{name} .*table.'text'"):
    (model.score if name == 'targets' else model.choose)(
      **{'targets' if name == 'targets' else 'choices': [], **texts}
      | {name: Table()}
    )


@pytest.mark.parametrize(
  'prompts, message',
  [
    ([], 'prompts is empty'),
    ([[]] * 2, r'prompts\[0\] is empty'),
    ([['ant'], [' ']], r'prompts\[1\]\[0\] is empty'),
    (['ant', '\u200b\t'], r'prompts\[1\] has no visible character'),
    ([['ant'], [None]], r'prompts\[1\]\[0\] .*None .*fill or drop'),
    ([['ant'], ['bee', 3]], r'prompts\[1\]\[1\] .*got 3 .int.*str'),
    ([['ant'], 'bee'], r"prompts\[1\] .*got 'bee'.*\['bee'\]"),
    (['ant', ['bee']], r'prompts\[1\] must be a string'),
    ({'ant': ['bee'], 'cat': ['dog']}, r'prompts .*dict.*values'),
    ({'ant', 'bee'}, 'no order'),
    ([['ant']] * 3, '2 inputs and 3 lists of prompts'),
  ],
)
def test_the_entry_is_named_with_a_remedy(model, prompts, message):
  with pytest.raises(errors.UserError, match=message):
    model.generate(['ant', 'bee'], prompts)


def test_a_missing_value_is_named_by_its_row(model):
  texts = np.array(['ant'] * 400, object)
  texts[317] = NAN
  with pytest.raises(errors.UserError, match=r'inputs\[317\] .*nan .float.'):
    model.generate(texts, ['bee'])


def test_other_names_of_arguments_are_translated(model):
  for name, ours in (
    ('num_beams', 'beam_size'),
    ('max_length', 'max_new_tokens'),
    ('do_sample', 'temperature'),
    ('beam_sise', 'beam_size'),
  ):
    for kind in (TypeError, errors.UserError):
      with pytest.raises(kind, match=f'{name}.*{ours}'):
        model.generate(['ant'], ['bee'], **{name: 2})
  with pytest.raises(TypeError, match='its arguments are'):
    model.choose(['ant'], ['bee'], ['cat'], zzz=2)


def test_two_ways_to_draw_exclude_each_other(model):
  with pytest.raises(errors.UserError, match='exclude each other'):
    model.generate(['ant'], ['bee'], sampler=decoding.Sample(), top_k=2)
  with pytest.raises(errors.UserError, match='exclude each other'):
    model.generate(['ant'], ['bee'], beam_size=2, temperature=0.5)


TEXTS = ['ant bee', 'cat', 'dog eel fox']
OWN = [['gnu', 'hen'], ['ibis'], ['jay kiwi']]
SAME_TEXTS = {
  'tuple': tuple(TEXTS),
  'generator': lambda: (x for x in TEXTS),
  'iterator': lambda: iter(TEXTS),
  'keys': dict.fromkeys(TEXTS).keys(),
  'values': dict(enumerate(TEXTS)).values(),
  'array': np.array(TEXTS),
  'objects': np.array(TEXTS, object),
  'column': Column(*TEXTS),
  'arrow': ArrowColumn(*TEXTS),
  'deque': collections.deque(TEXTS),
  'strings of numpy': [np.str_(x) for x in TEXTS],
  'map': lambda: map(str.strip, TEXTS),
  'chain': lambda: itertools.chain(TEXTS[:1], TEXTS[1:]),
}
SAME_PROMPTS = {
  'tuples': tuple(map(tuple, OWN)),
  'generators': lambda: ((x for x in own) for own in OWN),
  'arrays': [np.array(own) for own in OWN],
  'column of lists': Column(*OWN),
  'column of columns': Column(*(Column(*own) for own in OWN)),
  'lists of arrow': ArrowColumn(*OWN),
  'values': dict(enumerate(OWN)).values(),
}


def _made(value):
  return value() if callable(value) else value


def test_any_iterable_of_strings_is_read_once(model):
  expected = model.generate(TEXTS, OWN, 3)
  for name, texts in SAME_TEXTS.items():
    assert model.generate(_made(texts), OWN, 3) == expected, name
  for name, prompts in SAME_PROMPTS.items():
    assert model.generate(TEXTS, _made(prompts), 3) == expected, name


def test_one_list_of_prompts_serves_all_texts(model):
  own = ['gnu', 'hen ibis']
  expected = model.generate(TEXTS, [own] * 3, 3)
  square = np.array([own] * 3)
  for prompts in (own, tuple(own), np.array(own), iter(own), square):
    assert model.generate(TEXTS, prompts, 3) == expected
  once = (x for x in own)  # One generator, given for each input.
  assert model.generate(TEXTS, [once] * 3, 3) == expected
  assert model.generate([Word.ANT], own, 3) == model.generate(['ant'], own, 3)


def test_one_list_of_choices_serves_all_prompts(model):
  some = ['ant', 'bee cat']
  expected = model.choose(TEXTS, OWN, [[some] * len(own) for own in OWN])
  for choices in (some, iter(some), np.array(some), Column(*some)):
    assert model.choose(TEXTS, OWN, choices) == expected
  free = model.generate(TEXTS, OWN, 4, choices=[[some] * len(x) for x in OWN])
  assert model.generate(TEXTS, OWN, 4, choices=some) == free


def test_targets_may_be_arrays(model):
  targets = [['ant'] * len(own) for own in OWN]
  expected = model.score(TEXTS, OWN, targets)
  assert model.score(TEXTS, OWN, map(np.array, targets)) == expected


def test_nothing_is_answered_with_nothing(model):
  for nothing in ([], (), iter([]), np.array([], str)):
    assert model.generate(nothing, ['ant']) == []
    assert model.generate(nothing, []) == []
  assert model.generate([], [], return_scores=True) == ([], [])
  assert model.choose([], [], []) == ([], [])
  assert model.score([], [], []) == []
  assert list(model.stream(iter([]))) == []


def test_numbers_of_numpy_are_numbers(model):
  expected = model.generate(TEXTS, OWN, 3, batch_size=2, temperature=1, seed=1)
  found = model.generate(
    TEXTS,
    OWN,
    np.int64(3),
    batch_size=np.int32(2),
    temperature=np.float32(1),
    seed=np.uint8(1),
  )
  assert found == expected
  sampler = decoding.Sample(decoding.Temperature(1.0))
  assert expected == model.generate(
    TEXTS, OWN, 3, batch_size=2, sampler=sampler, seed=1
  )


def test_an_empty_input_is_answered_by_all(model):
  (outputs,) = model.generate([''], [['ant']], 3)
  (response,) = model.stream([inference.Request('', ['ant'])], 3)
  assert response.error is None and response.outputs == outputs


def test_what_cannot_fit_into_memory_is_refused_with_its_length(
  model, monkeypatch
):
  monkeypatch.setattr(memory, '_device_bytes', lambda: 100_000_000)
  long = 'bee ' * 10_000
  with pytest.raises(errors.UserError, match='of a prompt: 10,000.* 1.6 GB'):
    model.generate(['ant'], [[long]])
  with pytest.raises(errors.UserError, match='of an output: 10,001.* GB'):
    model.score(['ant'], [['bee']], [[long]])
  with pytest.raises(errors.UserError, match='prompts of an input: 100,000'):
    model.generate(['ant'], [['bee'] * 100_000], 10)
  with pytest.raises(errors.UserError, match='of an output: 1,048,576.*GB'):
    model.generate(['ant'], ['bee'], 2**20)
  with pytest.raises(errors.UserError, match='inputs: 4,000'):
    model.generate(['ant'] * 4000, ['bee'] * 80, batch_size=4000)
  with pytest.raises(errors.UserError, match='num_slots: 100,000'):
    model.stream([], num_slots=100_000)
  # In a stream it fails alone.
  bad = inference.Request('ant', ['bee'] * 100_000)
  good = inference.Request('ant', ['bee'])
  first, failed, last = model.stream([good, bad, good], 3)
  assert 'GB' in failed.error and not failed.outputs
  assert first.outputs == last.outputs == model.generate(['ant'], ['bee'], 3)[0]


def test_threads_may_share_a_model(model):
  expected = model.generate(TEXTS, OWN, 3)

  def answer(i):
    if i % 2:
      requests = map(inference.Request, TEXTS, OWN)
      return [r.outputs for r in model.stream(requests, 3)]
    return model.generate(TEXTS, OWN, 3, batch_size=1 + i % 3)

  with futures.ThreadPoolExecutor(4) as pool:
    assert list(pool.map(answer, range(12))) == [expected] * 12


def test_what_compiles_long_is_said_once(capsys):
  with progress.announced('compiles', seconds=0.01):
    time.sleep(0.2)
  assert capsys.readouterr().err == 'compiles\n'
  with progress.announced('compiles', seconds=5):
    pass
  assert not capsys.readouterr().err


@pytest.mark.parametrize(
  'name, value',
  [
    ('newline', 3),
    ('long_inputs', 'cut'),
    ('feature_lengths', [1]),
    ('feature_lengths', {'inputs': '64'}),
  ],
)
def test_what_a_model_was_trained_on_is_checked(name, value):
  with pytest.raises(errors.UserError, match=name):
    inference.PromptInDecoder(
      *animals.config_and_params(),
      animals.vocabulary(),
      {**animals.TASK, name: value},
    )


@pytest.mark.parametrize(
  'name, value',
  [('newline', 3), ('newline', '<n>'), ('long_inputs', 'cut')],
)
def test_attributes_are_checked(monkeypatch, model, name, value):
  monkeypatch.setattr(model, name, value)
  with pytest.raises(errors.UserError, match=name):
    model.generate(['ant'], [['bee']])


def test_a_model_says_what_it_is(model):
  shown = repr(model)
  assert '\n' not in shown
  for part in ('1+1 layers', 'float32', "'pid'", '18', '40'):
    assert re.search(re.escape(part), shown)
