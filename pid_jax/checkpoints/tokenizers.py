# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts the tokenizer of a Hugging Face model to a vocabulary, and back.

A folder may hold `spiece.model`, a SentencePiece file, and `tokenizer.json`,
which transformers prefers: a tokenizer that was retrained or changed may be in
the latter alone. Its Unigram pieces, scores and table of characters are
converted to SentencePiece's form here, and what else it does must be what
SentencePiece does. Where both files are there, they are compared on texts.

What is not exact is refused, on the way in and out, but for texts of five
kinds, in which transformers' T5 tokenizers find other ids than SentencePiece
(and so SeqIO, T5X and pid_jax):
  - sentinels next to other characters: 'a<extra_id_0>b' has one in
    transformers alone. Sentinels that are words by themselves are the same;
  - the words '</s>', '<pad>' and '<unk>', and other control pieces, which are
    the special ids in transformers;
  - words that begin with the mark of spaces, U+2581, itself;
  - sequences of characters that Unicode composes, but for letters with accents
    (half-width katakana with sound marks, Hangul in parts), and U+0085;
  - words with two segmentations of exactly the same score ('0' '00', '00' '0').
"""

import base64
import binascii
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import json
import logging
import re
from typing import Any

from etils import epath
from sentencepiece import sentencepiece_model_pb2

from pid_jax import checks
from pid_jax import errors
from pid_jax import strict_json
from pid_jax import vocabulary as vocabulary_lib

SENTENCEPIECE_FILE = 'spiece.model'
JSON_FILE = 'tokenizer.json'
CONFIG_FILE = 'tokenizer_config.json'
_ADDED_FILE = 'added_tokens.json'

_SENTINEL = re.compile(r'<extra_id_(0|[1-9]\d*)>')
_SPACE = vocabulary_lib.SPACE
_SENTINEL_PIECE = re.compile(_SPACE + _SENTINEL.pattern)
# Unicode's White_Space, at which transformers splits; without U+0085.
_WHITE_SPACE = (
  '\t\n\v\f\r\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008'
  '\u2009\u200a\u2028\u2029\u202f\u205f\u3000'
)
_SPECIAL = ('<pad>', '</s>', '<unk>')
_BYT5_SIZE = 384
# Lists of tokens in tokenizer_config.json, of transformers 4 and 5.
_TOKEN_LISTS = ('additional_special_tokens', 'extra_special_tokens')

_Piece = sentencepiece_model_pb2.ModelProto.SentencePiece
_Trainer = sentencepiece_model_pb2.TrainerSpec

logger = logging.getLogger(__name__)


class InexactTokenizerError(errors.UserError):
  """A tokenizer that no vocabulary of pid_jax encodes exactly as."""


def read(
  folder: epath.PathLike, vocab_size: int
) -> vocabulary_lib.AnyVocabulary | None:
  """Finds the vocabulary in a folder of Hugging Face's.

  Args:
    folder: of the model.
    vocab_size: rows of its embedding.

  Returns:
    None if the folder has no tokenizer.

  Raises:
    InexactTokenizerError: there is one, but it cannot be converted exactly, or
      its files are not there.
    UserError: a file is damaged.
  """
  folder = epath.Path(folder)
  config, content, added = (
    strict_json.read_object(folder / name, 'the tokenizer')
    if (folder / name).exists()
    else {}
    for name in (CONFIG_FILE, JSON_FILE, _ADDED_FILE)
  )
  where = f'{folder / CONFIG_FILE}:'
  kind = config.get('tokenizer_class') or ''
  checks.string(f'{where} tokenizer_class', kind, allow_empty=True)
  extra_ids = config.get('extra_ids')
  if extra_ids is not None:
    checks.integer(f'{where} extra_ids', extra_ids, 0, vocab_size)
  has_model = (folder / SENTENCEPIECE_FILE).exists()
  tokens = [
    *_config_tokens(config, where),
    *_json_tokens(content, f'{folder / JSON_FILE}:'),
    *_added_ids(added, f'{folder / _ADDED_FILE}:'),
  ]
  _check_not_added(folder, [token for token, _ in tokens])
  sentinels = {token for token, _ in tokens if _SENTINEL.fullmatch(token)}
  found: vocabulary_lib.AnyVocabulary
  if kind.startswith('ByT5') or not (has_model or content or kind):
    if not kind and vocab_size != _BYT5_SIZE:  # A ByT5 needs no file.
      return None
    # transformers 5 writes 'extra_ids': 0 beside the sentinels themselves.
    number = len(sentinels) or (125 if extra_ids is None else extra_ids)
    found = vocabulary_lib.ByteVocabulary(number)
  elif content:
    found = _read_json(folder, content, config)
    if has_model:
      plain = vocabulary_lib.Vocabulary(folder / SENTENCEPIECE_FILE)
      found = _chosen(plain, found)
  elif has_model:
    plain = vocabulary_lib.Vocabulary(folder / SENTENCEPIECE_FILE)
    if extra_ids is None:
      extra_ids = len(sentinels) or 100  # The default.
      if _is_one_token('<extra_id_0>', plain):
        extra_ids = 0  # mT5's model has sentinels among its pieces.
    found = vocabulary_lib.Vocabulary(plain.path, extra_ids)
    fault = export_fault(found)
    if fault:
      logger.warning(
        '%s: %s, so that transformers may find other ids than SentencePiece, '
        'whose ids are used here.',
        found,
        fault,
      )
  else:
    raise InexactTokenizerError(
      f'{folder} has a {CONFIG_FILE} (of {kind:.40}), but neither '
      f'{SENTENCEPIECE_FILE} nor {JSON_FILE}: download one of these, or give '
      'the SentencePiece model (--vocabulary).'
    )
  _check_tokens(folder, config, tokens, found)
  return found


def write(
  folder: epath.PathLike, vocabulary: vocabulary_lib.AnyVocabulary
) -> None:
  """Writes the files that transformers makes the same tokenizer of.

  Raises:
    UserError: it would make another one of them.
  """
  folder = epath.Path(folder)
  config: dict[str, Any] = {
    'pad_token': _SPECIAL[0],
    'eos_token': _SPECIAL[1],
    'unk_token': _SPECIAL[2],
    'extra_ids': vocabulary.extra_ids,
    'additional_special_tokens': [
      f'<extra_id_{i}>' for i in range(vocabulary.extra_ids)
    ],
    'tokenizer_class': 'ByT5Tokenizer',
  }
  if isinstance(vocabulary, vocabulary_lib.Vocabulary):
    fault = export_fault(vocabulary)
    if fault:
      raise errors.UserError(
        f"the vocabulary {vocabulary} cannot be written for Hugging Face's "
        f'transformers: {fault}, so that its T5Tokenizer would find other ids '
        'in texts than the model was trained with. Write the weights alone '
        '(--no_vocabulary) and tokenise with SentencePiece, or convert to '
        'another format.'
      )
    config['tokenizer_class'] = 'T5Tokenizer'
    (folder / SENTENCEPIECE_FILE).write_bytes(vocabulary.model_bytes)
  (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + '\n')


def export_fault(vocabulary: vocabulary_lib.Vocabulary) -> str | None:
  """Says what of a vocabulary transformers' T5Tokenizer would do otherwise.

  It makes a Unigram tokenizer of the pieces, scores and table of characters of
  a SentencePiece model, with a space before the text and none doubled. All
  other settings of the model it does not read.

  Returns:
    None if there is nothing.
  """
  proto = vocabulary.proto()
  trainer, normalizer = proto.trainer_spec, proto.normalizer_spec
  if trainer.model_type not in (_Trainer.UNIGRAM, _Trainer.CHAR):
    name = _Trainer.ModelType.Name(trainer.model_type)
    return f'its model type is {name}, not UNIGRAM'
  if trainer.byte_fallback:
    return 'it has byte_fallback'
  if trainer.treat_whitespace_as_suffix:
    return 'it has treat_whitespace_as_suffix'
  if not normalizer.precompiled_charsmap:
    return 'it does not normalise characters (identity)'
  for name in (
    'add_dummy_prefix',
    'remove_extra_whitespaces',
    'escape_whitespaces',
  ):
    if not getattr(normalizer, name):
      return f'it has {name}=false'
  names = tuple(piece.piece for piece in proto.pieces[: len(_SPECIAL)])
  if names != _SPECIAL:
    return f'its special pieces are {names}, not {_SPECIAL}'
  for piece in proto.pieces:
    if piece.type in (_Piece.USER_DEFINED, _Piece.UNUSED, _Piece.BYTE):
      if not _SENTINEL_PIECE.fullmatch(piece.piece):
        name = _Piece.Type.Name(piece.type)
        return f'its piece {checks.shown(piece.piece)} is {name}'
    elif _SPACE in piece.piece[1:] and piece.piece.strip(_SPACE):
      return f'its piece {checks.shown(piece.piece)} spans words'
  for space in _WHITE_SPACE:
    if space in vocabulary.normalize(f'a{space}b'):
      return f'it keeps the white space U+{ord(space):04X}'
  return None


def from_json(content: Mapping[str, Any], where: str) -> tuple[bytes, int]:
  """Turns a Unigram tokenizer.json into a SentencePiece model.

  Args:
    content: of the file.
    where: its path, for messages.

  Returns:
    The serialised ModelProto, without sentinels at its end, and their number.

  Raises:
    InexactTokenizerError: the tokenizer does something that SentencePiece does
      not.
    UserError: the content is not that of a tokenizer.json.
  """
  part = content.get
  table, collapses, first_fault = _normalizer(part('normalizer'))
  for name, fault in (
    ('normalizer', first_fault),
    ('pre_tokenizer', _pre_tokenizer_fault(part('pre_tokenizer'), collapses)),
    ('post_processor', _post_processor_fault(part('post_processor'))),
    ('decoder', _decoder_fault(part('decoder'))),
  ):
    if fault:
      raise _inexact(where, name, fault)
  model = checks.mapping(f'{where}: model', content.get('model'))
  # Old files do not name the type.
  kind = _kind(model if 'type' in model else {'type': 'Unigram'})
  if kind != 'Unigram':
    raise _inexact(where, 'model', f'it is {kind}, not Unigram')
  if model.get('byte_fallback'):
    raise _inexact(where, 'model', 'it has byte_fallback')
  vocab = _vocab(model.get('vocab'), where)
  if model.get('unk_id') != 2 or tuple(p for p, _ in vocab[:3]) != _SPECIAL:
    raise _inexact(where, 'model', f'it does not begin with {_SPECIAL}')
  num_pieces = len(vocab)
  while _SENTINEL.fullmatch(vocab[num_pieces - 1][0]):
    num_pieces -= 1
  tail = [piece for piece, _ in vocab[num_pieces:]]
  added = {
    i: token
    for token, i in _json_tokens(content, f'{where}:')
    if i is not None and i >= num_pieces
  }
  if not set(tail) <= set(added.values()):
    raise _inexact(where, 'added_tokens', 'its sentinels are not among them')
  tail = [added.get(num_pieces + i, '') for i in range(len(added))]
  if tail != [f'<extra_id_{i}>' for i in reversed(range(len(tail)))]:
    raise _inexact(
      where,
      'added_tokens',
      'its sentinels are not numbered as those of T5, <extra_id_0> last',
    )
  return _model_proto(vocab[:num_pieces], table), len(tail)


def _read_json(
  folder: epath.Path, content: Mapping[str, Any], config: Mapping[str, Any]
) -> vocabulary_lib.Vocabulary:
  """Reads tokenizer.json."""
  path = folder / JSON_FILE
  model, extra_ids = from_json(content, str(path))
  found = vocabulary_lib.Vocabulary(path, extra_ids, model)
  if fault := export_fault(found):
    raise _inexact(path, 'model', fault)
  if config.get('add_prefix_space') is False:
    raise InexactTokenizerError(
      f'{folder / CONFIG_FILE} has add_prefix_space = false, which versions of '
      'transformers read otherwise. Give the SentencePiece model that the '
      'model was trained with (--vocabulary).'
    )
  return found


def _chosen(
  plain: vocabulary_lib.Vocabulary, of_json: vocabulary_lib.Vocabulary
) -> vocabulary_lib.Vocabulary:
  """Chooses between spiece.model, without sentinels, and tokenizer.json."""
  found = vocabulary_lib.first_difference(plain, of_json)
  if found is None:
    return vocabulary_lib.Vocabulary(plain.path, of_json.extra_ids)
  text, plain_ids, ids = found
  logger.warning(
    '%s and %s differ: %s is %s in one and %s in the other. The other is used, '
    'as transformers does.',
    plain,
    of_json.path.name,
    checks.shown(text),
    checks.shown(plain_ids),
    checks.shown(ids),
  )
  return of_json


def _check_not_added(folder: epath.Path, tokens: Sequence[str]) -> None:
  """Raises InexactTokenizerError at tokens that a user added."""
  foreign = sorted(
    token
    for token in set(tokens) - set(_SPECIAL)
    if not _SENTINEL.fullmatch(token)
  )
  if foreign:
    raise InexactTokenizerError(
      f'The tokenizer in {folder} has added tokens, which SentencePiece '
      f'cannot have: {", ".join(map(checks.shown, foreign[:8]))}. Its weights '
      'can be loaded, but not its vocabulary.'
    )


def _check_tokens(
  folder: epath.Path,
  config: Mapping[str, Any],
  tokens: Sequence[tuple[str, Any]],
  vocabulary: vocabulary_lib.AnyVocabulary,
) -> None:
  """Checks the ids of special tokens and sentinels.

  Args:
    folder: of the model.
    config: tokenizer_config.json.
    tokens: (token, id, or None where the file does not say).
    vocabulary: as read.

  Raises:
    InexactTokenizerError: they are not those of a T5.
  """
  names = ('pad_token', 'eos_token', 'unk_token')
  for name, expected in zip(names, _SPECIAL, strict=True):
    token = config.get(name)
    if token is None:
      continue
    token = _token(token, f'{folder / CONFIG_FILE}: {name}')
    if token != expected:
      raise InexactTokenizerError(
        f'{folder / CONFIG_FILE} has {name} = {checks.shown(token)}, and T5 '
        f'has {expected!r}. Its weights can be loaded, but not its vocabulary.'
      )
  for token, i in tokens:
    if token in _SPECIAL:
      fits = i in (None, _SPECIAL.index(token))
    else:
      ids = vocabulary.encode(token)
      fits = _is_one_token(token, vocabulary) and i in (None, *ids)
    if not fits:
      raise InexactTokenizerError(
        f'The tokenizer in {folder} gives {token!r} the id {i}, which T5 does '
        'not. Its weights can be loaded, but not its vocabulary.'
      )


def _is_one_token(text: str, vocabulary: vocabulary_lib.AnyVocabulary) -> bool:
  ids = vocabulary.encode(text)
  return len(ids) == 1 and ids != [vocabulary.unk_id]


def _token(value: Any, name: str) -> str:
  """Returns the text of a token, which files write in two ways."""
  if isinstance(value, Mapping):
    value = value.get('content')
  return checks.string(name, value, allow_empty=True)


def _config_tokens(
  config: Mapping[str, Any], where: str
) -> Iterator[tuple[str, int | None]]:
  """Yields (token, id or None) of tokenizer_config.json."""
  name = f'{where} added_tokens_decoder'
  decoder = checks.mapping(name, config.get('added_tokens_decoder') or {})
  for key, token in decoder.items():
    if not re.fullmatch(r'\d{1,9}', key):
      raise errors.UserError(f'{name}: {checks.shown(key)} is no id.')
    yield _token(token, f'{name}.{key}'), int(key)
  for name in _TOKEN_LISTS:
    tokens = config.get(name) or ()
    if isinstance(tokens, Mapping):  # Name -> token.
      tokens = tuple(tokens.values())
    for token in checks.sequence(f'{where} {name}', tokens):
      yield _token(token, f'{where} {name}'), None


def _added_ids(
  added: Mapping[str, Any], where: str
) -> Iterator[tuple[str, int]]:
  """Yields (token, id) of added_tokens.json."""
  for token, i in added.items():
    yield token, checks.integer(f'{where} {checks.shown(token)}', i, 0)


def _json_tokens(
  content: Mapping[str, Any], where: str
) -> Iterator[tuple[str, int | None]]:
  """Yields (token, id or None) of tokenizer.json."""
  name = f'{where} added_tokens'
  for token in checks.sequence(name, content.get('added_tokens') or ()):
    text = _token(token, name)
    i = token.get('id') if isinstance(token, Mapping) else None
    if i is not None:
      checks.integer(f'{name}: id of {text!r:.40}', i, 0)
    yield text, i


def _kind(component: Mapping[str, Any]) -> str:
  """Returns a component's type; short, whatever it is."""
  kind = component.get('type')
  return f'{kind:.40}' if isinstance(kind, str) else checks.shown(kind)


def _steps(component: Any, key: str) -> list[Mapping[str, Any]]:
  """Returns the steps of a component, which may be a sequence of some."""
  steps = [component]
  if isinstance(component, Mapping) and component.get('type') == 'Sequence':
    steps = component.get(key)
  if not isinstance(steps, list):
    steps = [steps]
  return [step if isinstance(step, Mapping) else {} for step in steps]


def _normalizer(normalizer: Any) -> tuple[bytes, bool, str]:
  """Reads a normaliser.

  Returns:
    SentencePiece's table of characters, whether spaces at the end and doubled
    ones are removed, and what SentencePiece does otherwise, or ''.
  """
  steps = _steps(normalizer, 'normalizers')
  kinds = [_kind(step) for step in steps]
  if 'Precompiled' not in kinds:
    known = ('Strip', 'Replace', 'None')
    other = next((kind for kind in kinds if kind not in known), None)
    fault = f'it is {other}' if other else 'it has no table of characters'
    return b'', False, fault
  if kinds[0] != 'Precompiled':
    return b'', False, f'{kinds[0]} is before Precompiled'
  collapses = False
  match steps[
    1:
  ]:  # The order counts: Strip does not remove what Replace writes.
    case [] | [{'type': 'Strip', 'strip_right': True}]:
      pass
    case [
      {'type': 'Strip', 'strip_right': True},
      {
        'type': 'Replace',
        'pattern': {'Regex': ' {2,}'},
        'content': ' ' | vocabulary_lib.SPACE,
      },
    ]:
      collapses = True
    case _:
      names = ' and '.join(kinds[1:8])
      return b'', False, f'{names} after Precompiled: not as in one of T5'
  try:
    table = base64.b64decode(steps[0]['precompiled_charsmap'], validate=True)
  except (KeyError, TypeError, ValueError, binascii.Error):
    table = b''
  fault = '' if table else 'its precompiled_charsmap is not Base64'
  return table, collapses, fault


def _pre_tokenizer_fault(pre_tokenizer: Any, collapses: bool) -> str:
  """Says what of a pre-tokenizer SentencePiece does otherwise, or ''.

  Args:
    pre_tokenizer: a step, or a sequence of some.
    collapses: whether spaces are already collapsed.
  """
  steps = _steps(pre_tokenizer, 'pretokenizers')
  kinds = [_kind(step) for step in steps]
  at_spaces = kinds == ['WhitespaceSplit', 'Metaspace']
  if not at_spaces and kinds != ['Metaspace']:
    names = ' and '.join(kinds[:8])
    return f'it is {names}, not WhitespaceSplit and Metaspace'
  if not at_spaces and not collapses:
    return 'Metaspace without WhitespaceSplit keeps doubled spaces'
  step = steps[-1]
  if step.get('replacement') != _SPACE:
    return f'Metaspace writes {checks.shown(step.get("replacement"))}'
  # After WhitespaceSplit, the first word alone would have a space.
  schemes = ('always',) if at_spaces else ('always', 'first')
  if step.get('prepend_scheme', 'always') not in schemes or not step.get(
    'add_prefix_space', True
  ):
    return 'Metaspace does not add a space before a text'
  return ''


def _post_processor_fault(processor: Any) -> str:
  """Says how a text ends otherwise than in </s>, or ''."""
  match processor:
    case {
      'type': 'TemplateProcessing',
      'single': [{'Sequence': {'id': 'A'}}, {'SpecialToken': {'id': '</s>'}}],
      'special_tokens': {'</s>': {'ids': [1]}},
    }:
      return ''
  return 'it does not put </s> alone behind a text'


def _decoder_fault(decoder: Any) -> str:
  """Says what is no decoder of SentencePiece's pieces, or ''."""
  for step in _steps(decoder, 'decoders'):
    match step:
      case (
        {'type': 'Metaspace', 'replacement': vocabulary_lib.SPACE}
        | {
          'type': 'Replace',
          'pattern': {'String': vocabulary_lib.SPACE},
          'content': ' ',
        }
        | {'type': 'Fuse'}
        | {'type': 'Strip', 'content': ' '}
      ):
        continue
    return f'it is {_kind(step)}'
  return ''


def _vocab(vocab: Any, where: str) -> list[tuple[str, float]]:
  """Checks the pieces of a Unigram model."""
  name = f'{where}: model.vocab'
  pieces = []
  for i, entry in enumerate(checks.sequence(name, vocab, 'a list of pieces')):
    match entry:
      case [str(piece), int(score) | float(score)] if not isinstance(
        score, bool
      ):
        pieces.append((piece, float(score)))
      case _:
        raise errors.UserError(
          f'{name}[{i}] must be a piece and its score; got '
          f'{checks.shown(entry)}.'
        )
  return pieces


def _inexact(
  where: epath.PathLike, component: str, fault: str
) -> InexactTokenizerError:
  return InexactTokenizerError(
    f'{where} cannot be read exactly: {component}: {fault}. Give a '
    'SentencePiece model that encodes texts as it does (--vocabulary).'
  )


def _model_proto(vocab: Sequence[tuple[str, float]], table: bytes) -> bytes:
  """Returns a serialised ModelProto."""
  special = (_Piece.CONTROL, _Piece.CONTROL, _Piece.UNKNOWN)
  proto = sentencepiece_model_pb2.ModelProto()
  for i, (piece, score) in enumerate(vocab):
    kind = special[i] if i < len(special) else _Piece.NORMAL
    if _SENTINEL_PIECE.fullmatch(piece):
      kind = _Piece.USER_DEFINED  # Found before all others.
    proto.pieces.add(piece=piece, score=score, type=kind)
  proto.trainer_spec.model_type = _Trainer.UNIGRAM
  proto.trainer_spec.vocab_size = len(vocab)
  proto.trainer_spec.pad_id, proto.trainer_spec.eos_id = 0, 1
  proto.trainer_spec.unk_id, proto.trainer_spec.bos_id = 2, -1
  proto.normalizer_spec.name = 'nmt_nfkc'
  proto.normalizer_spec.precompiled_charsmap = table
  # Without doubled spaces, with one before the text, all written as SPACE.
  proto.normalizer_spec.add_dummy_prefix = True
  proto.normalizer_spec.remove_extra_whitespaces = True
  proto.normalizer_spec.escape_whitespaces = True
  return proto.SerializeToString(deterministic=True)
