# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Converts the tokenizer of a Hugging Face model to a vocabulary, and back.

`spiece.model` is a SentencePiece file, read unchanged. transformers 5 no
longer writes it: its `tokenizer.json` has the same pieces, scores and table of
characters, which are converted to SentencePiece's form here. That is exact for
the tokenizers of T5 and mT5; others are refused.

transformers finds sentinels next to other characters, and SentencePiece (and so
SeqIO, T5X and pid_jax) does not: 'a<extra_id_0>b' has a sentinel in
transformers alone. Sentinels that are words by themselves are the same in all.
"""

import base64
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
import json
import re
from typing import Any

from etils import epath

from pid_jax import errors
from pid_jax import strict_json
from pid_jax import vocabulary as vocabulary_lib

SENTENCEPIECE_FILE = 'spiece.model'
JSON_FILE = 'tokenizer.json'
CONFIG_FILE = 'tokenizer_config.json'

_SENTINEL = r'<extra_id_(\d+)>'
_SPECIAL = ('<pad>', '</s>', '<unk>')


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
    UserError: there is one, but it cannot be converted exactly.
  """
  folder = epath.Path(folder)
  config = _read_json(folder / CONFIG_FILE)
  kind = str(config.get('tokenizer_class', ''))
  has_file = (folder / SENTENCEPIECE_FILE).exists()
  content = _read_json(folder / JSON_FILE)
  if kind.startswith('ByT5') or not (has_file or content or kind):
    if not kind and vocab_size != 384:  # A ByT5 needs no file.
      return None
    # transformers 5 writes 'extra_ids': 0 beside the sentinels themselves.
    sentinels = _sentinels(folder, config, content)
    extra_ids = len(sentinels) or config.get('extra_ids', 125)
    found = vocabulary_lib.ByteVocabulary(extra_ids)
    return _checked(found, vocab_size, folder)
  _check_added(folder, config, content)
  if has_file:
    path = folder / SENTENCEPIECE_FILE
    plain = vocabulary_lib.Vocabulary(path)
    extra_ids = config.get('extra_ids')
    if not isinstance(extra_ids, int):
      extra_ids = (
        len(_sentinels(folder, config, content)) or 100
      )  # The default.
      if plain.unk_id not in plain.encode('<extra_id_0>'):
        extra_ids = 0  # mT5's model has sentinels among its pieces.
    found = vocabulary_lib.Vocabulary(path, extra_ids, plain.model_bytes)
  elif content:
    model, extra_ids = from_json(content, str(folder / JSON_FILE))
    found = vocabulary_lib.Vocabulary(folder / JSON_FILE, extra_ids, model)
  else:
    raise errors.UserError(
      f'{folder} has a {CONFIG_FILE} (of {kind}), but neither '
      f'{SENTENCEPIECE_FILE} nor {JSON_FILE}.'
    )
  return _checked(found, vocab_size, folder)


def write(
  folder: epath.PathLike, vocabulary: vocabulary_lib.AnyVocabulary
) -> None:
  """Writes the files that transformers makes the same tokenizer of."""
  folder = epath.Path(folder)
  config: dict[str, Any] = {
    'pad_token': '<pad>',
    'eos_token': '</s>',
    'unk_token': '<unk>',
    'extra_ids': vocabulary.extra_ids,
    'additional_special_tokens': [
      f'<extra_id_{i}>' for i in range(vocabulary.extra_ids)
    ],
    'tokenizer_class': 'ByT5Tokenizer',
  }
  if isinstance(vocabulary, vocabulary_lib.Vocabulary):
    config['tokenizer_class'] = 'T5Tokenizer'
    (folder / SENTENCEPIECE_FILE).write_bytes(vocabulary.model_bytes)
  (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + '\n')


def from_json(content: Mapping[str, Any], where: str) -> tuple[bytes, int]:
  """Turns a Unigram tokenizer.json into a SentencePiece model.

  Args:
    content: of the file.
    where: its path, for messages.

  Returns:
    The serialised ModelProto, without sentinels at its end, and their number.

  Raises:
    UserError: the tokenizer does something that SentencePiece does not.
  """
  model = content.get('model', {})
  vocab = model.get('vocab', [])
  table, fault = _normalizer_table(content.get('normalizer'))
  if model.get('type') != 'Unigram' or model.get('byte_fallback'):
    fault = 'its model is not a Unigram one without bytes'
  elif model.get('unk_id') != 2 or tuple(p for p, _ in vocab[:3]) != _SPECIAL:
    fault = f'it does not begin with {_SPECIAL}'
  elif not _splits_at_spaces(content.get('pre_tokenizer')):
    fault = 'it does not split as SentencePiece does'
  if fault:
    raise errors.UserError(
      f'{where} cannot be read exactly: {fault}. Put the {SENTENCEPIECE_FILE} '
      'of the model beside it.'
    )
  extra_ids = 0
  while re.fullmatch(_SENTINEL, vocab[-1 - extra_ids][0]):
    extra_ids += 1
  tail = [piece for piece, _ in vocab[len(vocab) - extra_ids :]]
  if tail != [f'<extra_id_{i}>' for i in reversed(range(extra_ids))]:
    raise errors.UserError(
      f'{where} does not number its sentinels as T5 does, <extra_id_0> last.'
    )
  return _model_proto(vocab[: len(vocab) - extra_ids], table), extra_ids


def _checked(vocabulary, vocab_size, folder):
  if vocabulary.size > vocab_size:
    raise errors.UserError(
      f'The tokenizer in {folder} has {vocabulary.size} ids, but the model '
      f'embeds only {vocab_size}.'
    )
  return vocabulary


def _added_tokens(
  folder: epath.Path, config: Mapping[str, Any], content: Mapping[str, Any]
) -> Iterator[str]:
  """Yields every token that is kept outside the vocabulary's pieces."""
  for token in content.get('added_tokens', []):
    yield token['content']
  for token in config.get('added_tokens_decoder', {}).values():
    yield token['content'] if isinstance(token, Mapping) else str(token)
  yield from _read_json(folder / 'added_tokens.json')
  for key in ('additional_special_tokens', 'extra_special_tokens'):
    for token in config.get(key) or ():
      yield token['content'] if isinstance(token, Mapping) else str(token)


def _check_added(folder, config, content):
  """Raises UserError at tokens that a user added to SentencePiece's."""
  foreign = sorted(
    {
      token
      for token in _added_tokens(folder, config, content)
      if token not in _SPECIAL and not re.fullmatch(_SENTINEL, token)
    }
  )
  if foreign:
    raise errors.UserError(
      f'The tokenizer in {folder} has added tokens, which SentencePiece '
      f'cannot have: {", ".join(map(repr, foreign[:8]))}. Its weights can be '
      'loaded, but not its vocabulary.'
    )


def _sentinels(folder, config, content) -> set[str]:
  return {
    token
    for token in _added_tokens(folder, config, content)
    if re.fullmatch(_SENTINEL, token)
  }


def _normalizer_table(normalizer: Any) -> tuple[bytes, str | None]:
  """Returns SentencePiece's table of characters, and what is wrong, if so."""
  steps = [normalizer]
  if normalizer and normalizer.get('type') == 'Sequence':
    steps = normalizer['normalizers']
  table = b''
  for step in steps:
    kind = step and step.get('type')
    if kind == 'Precompiled' and not table:
      table = base64.b64decode(step['precompiled_charsmap'])
    elif not (
      kind == 'Strip'
      or (kind == 'Replace' and step['pattern'] == {'Regex': ' {2,}'})
    ):  # Those two SentencePiece does anyway.
      return b'', f'it normalises with {kind}'
  return table, None if table else 'it has no table of characters'


def _splits_at_spaces(pre_tokenizer: Any) -> bool:
  steps = [pre_tokenizer or {}]
  if steps[0].get('type') == 'Sequence':
    steps = steps[0]['pretokenizers']
  kinds = [step.get('type') for step in steps]
  return kinds in (['Metaspace'], ['WhitespaceSplit', 'Metaspace'])


def _read_json(path: epath.Path) -> dict[str, Any]:
  """Reads a JSON object; empty if there is no file."""
  return strict_json.read_object(path, path.name) if path.exists() else {}


def _model_proto(vocab: Sequence[tuple[str, float]], table: bytes) -> bytes:
  """Returns a serialised ModelProto; see `vocabulary.piece_proto`."""
  field = vocabulary_lib.proto_field
  special = (
    vocabulary_lib.CONTROL,
    vocabulary_lib.CONTROL,
    vocabulary_lib.UNKNOWN,
  )
  proto = b''
  for i, (piece, score) in enumerate(vocab):
    kind = special[i] if i < len(special) else vocabulary_lib.NORMAL
    if re.fullmatch(f'{vocabulary_lib.SPACE}?{_SENTINEL}', piece):
      kind = vocabulary_lib.USER_DEFINED  # Found before all others.
    proto += vocabulary_lib.piece_proto(piece, score, kind)
  trainer = field(3, 1) + field(4, len(vocab))  # UNIGRAM, vocab_size
  for number, special_id in ((40, 2), (41, -1), (42, 1), (43, 0)):
    trainer += field(number, special_id)  # unk_id, bos_id, eos_id, pad_id
  normalizer = field(1, b'nmt_nfkc') + field(2, table)
  for number in (3, 4, 5):  # add_dummy_prefix, remove_extra_whitespaces, escape
    normalizer += field(number, 1)
  return proto + field(2, trainer) + field(3, normalizer)
