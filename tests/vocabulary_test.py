# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary agrees with SeqIO's, which tokenises the training data."""

import hashlib

import pytest
import seqio
from toys import vocabularies
import transformers

from pid_jax import errors
from pid_jax.inference import text as text_lib
from pid_jax.subtasks import postprocessors
from pid_jax.vocabulary import ByteVocabulary
from pid_jax.vocabulary import RoundTripCounter
from pid_jax.vocabulary import Vocabulary

TEXTS = [
  '',
  ' ',
  'hotel-name: the Blue Fig, 3 nights',
  '  two  spaces\tand\na newline ',
  'na\u00efve caf\u00e9 \u732b \U0001f600',
  'sentinels <extra_id_0> and <extra_id_3>, not<extra_id_1>',
  'a literal </s> and <pad> in the text',
]


@pytest.fixture(scope='module', name='model_file')
def _model_file():
  return vocabularies.of_text('bpe', vocab_size=120)


@pytest.mark.parametrize('extra_ids', [0, 5, 100])
def test_same_ids_and_strings_as_seqio(model_file, extra_ids):
  ours = Vocabulary(model_file, extra_ids)
  theirs = seqio.SentencePieceVocabulary(model_file, extra_ids)

  assert ours.size == theirs.vocab_size
  for text in TEXTS:
    ids = ours.encode(text)
    assert ids == theirs.encode(text), text
    assert ours.decode(ids) == theirs.decode(ids)
  size = ours.size
  for ids in [
    [],
    [0, 0],
    [1, 5],
    [5, 6, 0, 7, 1, 8, 9],
    [4, size - 1, 7],
    [2, size, size + 50, 9],
  ]:
    assert ours.decode(ids) == theirs.decode(ids), ids


@pytest.mark.parametrize('text', TEXTS[:-1])
def test_bytes_are_those_of_transformers_and_seqio(text):
  """But for sentinels, which SeqIO spells out."""
  ours, theirs = ByteVocabulary(), transformers.ByT5Tokenizer()
  ids = ours.encode(text)
  assert ids == theirs.encode(text, add_special_tokens=False)
  assert ours.decode(ids) == theirs.decode(ids)
  assert not ours.lost(text)

  spelt = ByteVocabulary(125, sentinels_in_text=False)
  seqios = seqio.ByteVocabulary(extra_ids=125)
  assert spelt.size == seqios.vocab_size == ours.size == len(theirs)
  ids = spelt.encode(text)
  assert ids == seqios.encode(text)
  for odd in (ids, [*ids, 1, 70], [0, 2, 259, 383, 70, 500], [243, 70]):
    assert spelt.decode(odd) == seqios.decode(odd)


def test_bytes_of_sentinels():
  vocabulary = ByteVocabulary(9)
  assert vocabulary.encode('<extra_id_0><extra_id_8>') == [259, 267]
  assert vocabulary.encode('<extra_id_9>')[0] == ord('<') + 3
  assert vocabulary.encode('<extra_id_01>')[0] == ord('<') + 3
  assert vocabulary.decode([259, 100, 267]) == '<extra_id_0>a<extra_id_8>'


def test_lost_characters_are_counted(model_file):
  vocabulary = Vocabulary(model_file, 5)
  assert not vocabulary.lost('please book the hotel <extra_id_3> ')
  lost = vocabulary.lost('{a}\n{\u732b}\U0001f600\n the hotel')
  assert lost == {'{': 2, '}': 2, '\n': 2, '\u732b': 1, '\U0001f600': 1}


@pytest.fixture(scope='module', name='letters')
def _letters():
  """Every letter and sign below has a piece, once it is normalised."""
  signs = 'abcdefghijklmnopqrstuvwxyz0123456789/.() \u00e9'
  return Vocabulary(vocabularies.train(tuple(signs * 3), vocab_size=99), 9)


@pytest.mark.parametrize(
  'text, written',
  [
    ('31 kg/m\u00b2', '31 kg/m2'),
    ('a tm\u2026', 'a tm...'),
    ('3\u00ba \ufb01b', '3o fib'),
    ('\uff41\uff42', 'ab'),
    ('e\u0301', '\u00e9'),
    ('\u00bd', '1\u20442'),  # The slash has no piece.
    ('a\u200bb', 'a b'),
    (' a \u00a0 b\t', 'a b'),
    ('\u2460 <extra_id_3> a', '1 <extra_id_3> a'),
  ],
)
def test_texts_as_the_vocabulary_writes_them(letters, text, written):
  """By NFKC, looked up in the Unicode standard."""
  assert letters.normalize(text) == written
  newline = '<extra_id_8>'
  as_written = postprocessors.as_written(f'{text}\n', letters, newline)
  has_slash = '\u2044' in written
  assert as_written == (f'{text}\n' if has_slash else f'{written}\n')
  assert postprocessors.as_written(text, ByteVocabulary()) == text
  counter = RoundTripCounter(letters)
  counter.count(text)
  assert counter.num_rewritten == (text.split() != written.split())
  assert counter.num_unknown == ('\u2044' in written)


def test_texts_that_do_not_return_are_counted(letters):
  counter = RoundTripCounter(letters, 'targets')
  for text in (
    'a  b ', 'ab', 'bmi 31 kg/m\u00b2', 'bmi 40 kg/m\u00b2', '{a} \u00b2',
    'a\nb',
  ):  # fmt: skip
    counter.count(text, letters.encode(text))
  assert counter.num_texts == 6
  assert (counter.num_unknown, counter.num_rewritten) == (2, 3)
  assert counter.unknown == {'{': 1, '}': 1, '\n': 1}
  assert counter.rewritten == {
    ('kg/m\u00b2', 'kg/m2'): 2,
    ('\u00b2', '2'): 1,
  }
  unknown, rewritten = counter.lines()
  assert '2 of 6 targets' in unknown and "'{' (1)" in unknown
  assert '3 of 6' in rewritten and "'kg/m\u00b2' as 'kg/m2' (2)" in rewritten
  assert not RoundTripCounter(letters).lines()


@pytest.mark.parametrize(
  'strings',
  [
    ('kg/m\u00b2', 'b', 'kg/m2'),
    ('', 'a', ' '),
    ('\u2460', '1'),
    ('e\u0301', '\u00e9'),
    ('{', '}'),  # Both unknown.
  ],
)
@pytest.mark.parametrize('max_new_tokens', [None, 9])
def test_choices_that_the_vocabulary_writes_the_same(
  letters, strings, max_new_tokens
):
  tokenizer = text_lib.Tokenizer(letters)
  with pytest.raises(errors.UserError) as error:
    tokenizer.encode_choices(strings, 'choices[3][0]', max_new_tokens)
  for words in ('choices[3][0]', repr(strings[0]), repr(strings[-1])):
    assert words in str(error.value)


def test_sha256_is_that_of_the_file(model_file):
  with open(model_file, 'rb') as f:
    assert Vocabulary(model_file, 9).sha256 == (
      hashlib.sha256(f.read()).hexdigest()
    )


def test_a_missing_file_is_named(tmp_path):
  with pytest.raises(errors.UserError, match='none.model.*no such file'):
    Vocabulary(tmp_path / 'none.model')


def test_another_file_is_refused(tmp_path):
  path = tmp_path / 'words.txt'
  path.write_text('not a model')
  with pytest.raises(errors.UserError, match='not a SentencePiece model'):
    Vocabulary(path)


def test_special_ids_must_be_t5s():
  path = vocabularies.of_text(pad_id=-1, unk_id=0, eos_id=2, bos_id=1)
  with pytest.raises(errors.UserError, match=r'\(-1, 2, 0\)'):
    Vocabulary(path)
