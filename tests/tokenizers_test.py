# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers of Hugging Face's: the same ids as in transformers, or refused."""

import copy
import json
import random
import time

import pytest
import tokenizers
from toys import vocabularies
import transformers

from pid_jax import errors
from pid_jax import vocabulary as vocabulary_lib
from pid_jax.checkpoints import tokenizers as tokenizers_lib
from pid_jax.vocabulary import ByteVocabulary
from pid_jax.vocabulary import Vocabulary

SENTENCES = (
  'the quick brown fox jumps over the lazy dog',
  'The Hotel is open: Dr. McCoy, 31 kg/m2 (5 mg)',
  '0123456789 3.14 1,250 12/05/2024 {key} <sep> a_b',
  'na\u00efve caf\u00e9 stra\u00dfe \u0391\u03b8\u03ae\u03bd\u03b1',
  '\u043f\u0440\u0438\u0432\u0435\u0442 \u4f60\u597d \u0928\u092e\u0938',
)
TEXTS = (
  *SENTENCES,
  '',
  ' ',
  '  The  FOX\tand\u00a0the\u3000dog\n ',
  'kg/m\u00b2 \u2122 \u2026 \u00ba \ufb01 \uff21 cafe\u0301',
  'Doghotel 98,761 x{key}y <sep>z \U0001f600 \u0e44',
  'a <extra_id_0> b <extra_id_8>',
)
SPACE = vocabulary_lib.SPACE


def _train(**options):
  options = {'vocab_size': 260, 'character_coverage': 1.0, **options}
  more = tuple(f'please book the hotel for {i} nights' for i in range(99))
  return vocabularies.train(SENTENCES * 4 + more, **options)


def _same(vocabulary, theirs):
  encode = lambda x: theirs(x, add_special_tokens=False).input_ids
  return all(vocabulary.encode(text) == encode(text) for text in TEXTS)


@pytest.fixture(scope='module', name='folder')
def _folder(tmp_path_factory):
  """A folder with both files, as transformers 5 writes the second."""
  path = tmp_path_factory.mktemp('theirs')
  tokenizers_lib.write(path, Vocabulary(_train(), 9))
  theirs = transformers.AutoTokenizer.from_pretrained(path)
  theirs.save_pretrained(path)
  return path


# --- Export.

EXPORTED = {
  'plain': {},
  'case folded': {'normalization_rule_name': 'nmt_nfkc_cf'},
  'digits': {'split_digits': True},
  'characters': {'model_type': 'char'},
  'control pieces': {'control_symbols': '<mask>'},
  'sentinels as pieces': {
    'user_defined_symbols': ','.join(
      f'{SPACE}<extra_id_{i}>' for i in reversed(range(9))
    ),
    'extra_ids': 0,
  },
}
REFUSED = {
  'BPE': {'model_type': 'bpe'},
  'WORD': {'model_type': 'word'},
  'byte_fallback': {'byte_fallback': True, 'vocab_size': 500},
  'suffix': {'treat_whitespace_as_suffix': True},
  'add_dummy_prefix': {'add_dummy_prefix': False},
  'remove_extra_whitespaces': {'remove_extra_whitespaces': False},
  'identity': {'normalization_rule_name': 'identity'},
  'white space U\\+0009': {'normalization_rule_name': 'nfkc'},
  'spans words': {'split_by_whitespace': False},
  'USER_DEFINED': {'user_defined_symbols': '{key},<sep>'},
  'special pieces': {'pad_piece': '[PAD]'},
}


def _vocabulary(extra_ids=9, **options):
  return Vocabulary(_train(**options), extra_ids)


@pytest.mark.parametrize('name', EXPORTED)
def test_exported_vocabularies_have_the_same_ids(name, tmp_path):
  vocabulary = _vocabulary(**EXPORTED[name])
  tokenizers_lib.write(tmp_path, vocabulary)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  assert _same(vocabulary, theirs)
  back = tokenizers_lib.read(tmp_path, 999)
  assert (back.model_bytes, back.extra_ids) == (
    vocabulary.model_bytes,
    vocabulary.extra_ids,
  )
  # And as tokenizer.json alone.
  theirs.save_pretrained(tmp_path)
  (tmp_path / 'spiece.model').unlink()
  back = tokenizers_lib.read(tmp_path, 999)
  assert _same(back, theirs) and back.size == vocabulary.size


@pytest.mark.parametrize('words', REFUSED)
def test_vocabularies_that_transformers_reads_otherwise(
  words, tmp_path, caplog
):
  vocabulary = _vocabulary(**REFUSED[words])
  with pytest.raises(errors.UserError, match=words):
    tokenizers_lib.write(tmp_path, vocabulary)
  assert not list(tmp_path.iterdir())
  # Somebody else's file is read, and the difference is said.
  (tmp_path / 'spiece.model').write_bytes(vocabulary.model_bytes)
  (tmp_path / 'tokenizer_config.json').write_text('{"extra_ids": 9}')
  found = tokenizers_lib.read(tmp_path, 999)
  assert found.model_bytes == vocabulary.model_bytes
  assert len(caplog.messages) == 1


def test_most_refused_ones_are_indeed_read_otherwise(tmp_path):
  differ = set()
  for words, options in REFUSED.items():
    vocabulary = _vocabulary(**options)
    folder = tmp_path / words.partition(' ')[0]
    folder.mkdir()
    tokenizers_lib.write(folder, _vocabulary())
    (folder / 'spiece.model').write_bytes(vocabulary.model_bytes)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    if not _same(vocabulary, theirs):
      differ.add(words)
  # Of these, other versions or other texts differ.
  assert set(REFUSED) - differ <= {'special pieces', 'USER_DEFINED'}


# --- Import.


def _metaspace(scheme='always', **fields):
  return {
    'type': 'Metaspace',
    'replacement': SPACE,
    'prepend_scheme': scheme,
    **fields,
  }


def _old_metaspace(add_prefix_space):
  return {
    'type': 'Metaspace',
    'replacement': SPACE,
    'add_prefix_space': add_prefix_space,
  }


STRIP = {'type': 'Strip', 'strip_left': False, 'strip_right': True}
REPLACE = {'type': 'Replace', 'pattern': {'Regex': ' {2,}'}, 'content': SPACE}
SPLIT = {'type': 'WhitespaceSplit'}


def _normalizers(*steps):
  def edit(content):
    steps_of = [content['normalizer'] if s == 'own' else s for s in steps]
    content['normalizer'] = {'type': 'Sequence', 'normalizers': steps_of}

  return edit


def _pre_tokenizers(*steps):
  value = {'type': 'Sequence', 'pretokenizers': list(steps)}
  return lambda content: content.update(pre_tokenizer=value)


def _all(*edits):
  return lambda content: [edit(content) for edit in edits]


def _model(**fields):
  return lambda content: content['model'].update(fields)


def _scores(content):
  """A retrained tokenizer: the same pieces, but other scores."""
  draw = random.Random(0)
  for entry in content['model']['vocab'][3:-9]:
    entry[1] += draw.uniform(-20, 0)


def _order(content):
  vocab = content['model']['vocab']
  vocab[3:-9] = random.Random(0).sample(vocab[3:-9], len(vocab) - 12)


def _added(**fields):
  def edit(content):
    for token in content['added_tokens'][3:]:
      token.update(fields)

  return edit


def _piece(text):
  return lambda content: content['model']['vocab'].__setitem__(7, [text, -1])


def _ascending(content):
  for token in content['added_tokens'][3:]:
    token['id'] = len(content['model']['vocab']) - 9 + int(token['content'][10])
  content['model']['vocab'] = content['model']['vocab'][:-9]


READ = {
  'unchanged': lambda content: None,
  'of transformers 4': _all(
    _normalizers('own', STRIP, REPLACE), _pre_tokenizers(_metaspace())
  ),
  'without legacy': _all(
    _normalizers('own', STRIP, REPLACE), _pre_tokenizers(_metaspace('first'))
  ),
  'one step': _normalizers('own'),
  'old names': _pre_tokenizers(SPLIT, _old_metaspace(True)),
  'other scores': _scores,
  'other order': _order,
  'sentinels strip': _added(lstrip=True, rstrip=True),
  'sentinels outside': lambda content: content['model'].update(
    vocab=content['model']['vocab'][:-9]
  ),
  'truncation': lambda content: content.update(
    truncation={
      'direction': 'Right', 'max_length': 99,
      'strategy': 'LongestFirst', 'stride': 0,
    }
  ),
}  # fmt: skip
INEXACT = {
  'normalizer: it is Lowercase': lambda content: content.update(
    normalizer={'type': 'Lowercase'}
  ),
  'normalizer: Lowercase': _normalizers('own', {'type': 'Lowercase'}),
  'normalizer: Lowercase is before': _normalizers({'type': 'Lowercase'}, 'own'),
  'normalizer: NFD': _normalizers(
    'own', {'type': 'NFD'}, {'type': 'StripAccents'}
  ),
  'normalizer: Replace': _normalizers(
    'own', {**REPLACE, 'pattern': {'Regex': '[0-9]'}, 'content': '0'}
  ),
  'normalizer: Strip is before': _normalizers(STRIP, 'own'),
  'normalizer: it has no table': lambda content: content.update(
    normalizer=None
  ),
  'pre_tokenizer: Metaspace without': _pre_tokenizers(_metaspace()),
  'pre_tokenizer: Metaspace does not add': _pre_tokenizers(
    SPLIT, _metaspace('never')
  ),
  'does not add a space': _pre_tokenizers(SPLIT, _old_metaspace(False)),
  'does not add a space before a text': _pre_tokenizers(
    SPLIT, _metaspace('first')
  ),
  'pre_tokenizer: .* Digits': _pre_tokenizers(
    SPLIT, {'type': 'Digits', 'individual_digits': True}, _metaspace()
  ),
  'pre_tokenizer: it is WhitespaceSplit,': _pre_tokenizers(SPLIT),
  "Metaspace writes '_'": _pre_tokenizers(SPLIT, _metaspace(replacement='_')),
  'byte_fallback': _model(byte_fallback=True),
  'it is BPE': _model(type='BPE'),
  'does not begin with': _model(unk_id=0),
  "added tokens.*'fox'": _added(content='fox'),
  'sentinels are not numbered': _ascending,
  'sentinels are not among': lambda content: content.update(
    added_tokens=content['added_tokens'][:3]
  ),
  'post_processor': lambda content: content.update(post_processor=None),
  'decoder: it is WordPiece': lambda content: content.update(
    decoder={'type': 'WordPiece', 'prefix': '##', 'cleanup': True}
  ),
}


def _copy(folder, target, edit, *, has_model=True, **config):
  content = json.loads((folder / 'tokenizer.json').read_text())
  edit(content)
  (target / 'tokenizer.json').write_text(json.dumps(content))
  fields = json.loads((folder / 'tokenizer_config.json').read_text())
  (target / 'tokenizer_config.json').write_text(
    json.dumps({**fields, **config})
  )
  if has_model:
    model = (folder / 'spiece.model').read_bytes()
    (target / 'spiece.model').write_bytes(model)


@pytest.mark.parametrize('kind', ['T5Tokenizer', 'PreTrainedTokenizerFast'])
@pytest.mark.parametrize('name', READ)
def test_a_tokenizer_json_has_the_same_ids(
  name, kind, folder, tmp_path, caplog
):
  """As transformers, whatever the spiece.model beside it holds."""
  _copy(folder, tmp_path, READ[name], tokenizer_class=kind)
  found = tokenizers_lib.read(tmp_path, 999)
  is_retrained = name in ('other scores', 'other order')
  assert (found.path.name == 'tokenizer.json') == is_retrained
  assert len(caplog.messages) == is_retrained
  assert _same(found, transformers.AutoTokenizer.from_pretrained(tmp_path))
  raw = tokenizers.Tokenizer.from_file(str(tmp_path / 'tokenizer.json'))
  for text in TEXTS:
    ids = found.encode(text)
    assert ids == raw.encode(text, add_special_tokens=False).ids
    if found.unk_id not in ids and '<extra_id_' not in text:
      assert found.decode(ids) == raw.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize('has_model', [False, True])
@pytest.mark.parametrize('words', INEXACT)
def test_what_sentencepiece_does_not_do_is_named(
  words, has_model, folder, tmp_path
):
  _copy(folder, tmp_path, INEXACT[words], has_model=has_model)
  with pytest.raises(tokenizers_lib.InexactTokenizerError, match=words):
    tokenizers_lib.read(tmp_path, 999)


@pytest.mark.parametrize(
  'fields, words',
  [
    ({'add_prefix_space': False}, 'add_prefix_space'),
    ({'eos_token': '<eos>'}, "eos_token = '<eos>'"),
    ({'added_tokens_decoder': {'7': {'content': '</s>'}}}, "'</s>' the id 7"),
    ({'added_tokens_decoder': {'x': {'content': '</s>'}}}, 'added_tokens_dec'),
    ({'additional_special_tokens': ['<speaker>']}, "'<speaker>'"),
    ({'additional_special_tokens': ['<extra_id_70>']}, '<extra_id_70>'),
    ({'extra_special_tokens': {'image': '<image>'}}, "'<image>'"),
    ({'extra_special_tokens': 5}, 'extra_special_tokens must be a list'),
    ({'extra_ids': 10**8}, 'extra_ids must be'),
    ({'extra_ids': '9'}, 'extra_ids must be'),
    ({'tokenizer_class': ['T5']}, 'tokenizer_class must be'),
  ],
)
def test_a_tokenizer_config_that_is_not_of_t5(fields, words, folder, tmp_path):
  _copy(folder, tmp_path, lambda content: None, **fields)
  with pytest.raises(errors.UserError, match=words):
    tokenizers_lib.read(tmp_path, 999)


@pytest.mark.parametrize(
  'edit, words',
  [
    (_model(vocab=5), 'vocab must be'),
    (_model(vocab=[['<pad>', 0], ['</s>', 0], ['<unk>']]), r'vocab\[2\]'),
    (_model(vocab=[['<pad>', 0], ['</s>', '0'], ['<unk>', 0]]), r'vocab\[1\]'),
    (_piece(''), 'piece 7.*no characters'),
    (_piece('<unk>'), 'piece 7.*earlier'),
    (lambda content: content['model']['vocab'][7].__setitem__(1, 1e99), 'inf'),
    (lambda content: content.update(model=None), 'model must be an object'),
    (lambda content: content.update(added_tokens=[5]), 'added_tokens'),
    (_added(id='5'), 'id of'),
    (_added(content=None), 'added_tokens'),
  ],
)
def test_a_damaged_tokenizer_json(edit, words, folder, tmp_path):
  _copy(folder, tmp_path, edit)
  with pytest.raises(errors.UserError, match=words) as error:
    tokenizers_lib.read(tmp_path, 999)
  assert '\n' not in str(error.value) and len(str(error.value)) < 500


def test_random_damage_is_a_user_error(folder, tmp_path):
  content = json.loads((folder / 'tokenizer.json').read_text())
  content['model']['vocab'] = content['model']['vocab'][:40]
  config = json.loads((folder / 'tokenizer_config.json').read_text())
  values = (None, True, -1, 2**70, 1e308, '', 'x', [], {}, [[]], {'a': 1})
  draw = random.Random(0)

  def damage(value):
    while True:
      keys = list(value) if isinstance(value, dict) else range(len(value))
      key = draw.choice(keys)
      inner = value[key]
      if not inner or not isinstance(inner, dict | list) or draw.random() < 0.3:
        value[key] = draw.choice(values)
        return
      value = inner

  for _ in range(200):
    parts = copy.deepcopy(content), copy.deepcopy(config)
    damage(draw.choice(parts))
    (tmp_path / 'tokenizer.json').write_text(json.dumps(parts[0]))
    (tmp_path / 'tokenizer_config.json').write_text(json.dumps(parts[1]))
    try:
      tokenizers_lib.read(tmp_path, 999)
    except errors.UserError as e:
      assert '\n' not in str(e)


def test_reading_takes_time_in_proportion_to_the_pieces(folder):
  content = json.loads((folder / 'tokenizer.json').read_text())
  content['added_tokens'] = []

  def seconds(num_pieces):
    pieces = [[f'{SPACE}p{i}', -9.0] for i in range(num_pieces)]
    content['model']['vocab'] = content['model']['vocab'][:3] + pieces
    times = []
    for _ in range(3):
      start = time.process_time()
      tokenizers_lib.from_json(content, 'x')
      times.append(time.process_time() - start)
    return min(times)

  seconds(100)
  assert seconds(64_000) < 25 * seconds(8_000)


# --- Bytes.


def test_tokens_added_to_bytes(tmp_path):
  tokenizers_lib.write(tmp_path, ByteVocabulary(9))
  assert tokenizers_lib.read(tmp_path, 384).extra_ids == 9
  (tmp_path / 'added_tokens.json').write_text('{"<speaker>": 268}')
  with pytest.raises(tokenizers_lib.InexactTokenizerError, match='<speaker>'):
    tokenizers_lib.read(tmp_path, 384)
