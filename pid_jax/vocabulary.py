# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Vocabularies without TensorFlow.

Training tokenises with seqio.SentencePieceVocabulary or seqio.ByteVocabulary
inside tf.data. Inference must not need TensorFlow, whose text extension has no
wheels for some platforms: these classes return the same ids and strings, and
need only the sentencepiece package.
"""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import functools
import hashlib
import itertools
import logging
import math
import re
from typing import Any, TypeAlias

from etils import epath
from google.protobuf import message
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from pid_jax import checks
from pid_jax import errors
from pid_jax import files

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2
NUM_SPECIAL_IDS = 3
SPACE = '\N{LOWER ONE EIGHTH BLOCK}'  # What SentencePiece puts for one.

MAX_BYTES = 1 << 27  # Of a model's file; mT5's has 4 MB.

logger = logging.getLogger(__name__)


class Vocabulary:
  """Maps strings to ids and back, as seqio.SentencePieceVocabulary does.

  Attributes:
    path: of the model file, or of what it was converted from.
    extra_ids: number of sentinels after the model's pieces.
    model_bytes: content of the model file, without these.
    is_file: whether `path` is known to be that file.
  """

  pad_id = PAD_ID
  eos_id = EOS_ID
  unk_id = UNK_ID

  def __init__(
    self,
    path: epath.PathLike,
    extra_ids: int = 0,
    content: bytes | None = None,
  ):
    """Reads a SentencePiece model.

    Args:
      path: of the model file; local, or gs://.
      extra_ids: number of sentinels to add after the model's pieces, with
        `<extra_id_0>` last, as T5's span corruption numbers them.
      content: of the model file, if it has been read; then `path` only names
        it.

    Raises:
      UserError: the file cannot be read, is not a SentencePiece model, or does
        not reserve ids 0, 1 and 2 for padding, EOS and unknown, as T5 requires;
        or extra_ids is no number of sentinels.
    """
    self.path = files.path(path, 'the vocabulary')
    self.extra_ids = checks.integer(
      'extra_ids', extra_ids, 0, checks.MOST_EXTRA_IDS
    )
    self.is_file = content is None
    if content is None:
      content = files.read_bytes(self.path, 'the vocabulary', MAX_BYTES)
    self.model_bytes = content
    proto = self.proto()
    _check_pieces(proto, extra_ids, self.path)
    for i in reversed(range(extra_ids)):
      proto.pieces.add(
        piece=f'{SPACE}<extra_id_{i}>',
        score=0.0,
        type=sentencepiece_model_pb2.ModelProto.SentencePiece.USER_DEFINED,
      )
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(proto.SerializeToString())
    except RuntimeError as e:
      raise _no_model(self.path) from e
    found = (
      self._processor.pad_id(),
      self._processor.eos_id(),
      self._processor.unk_id(),
    )
    if found != (PAD_ID, EOS_ID, UNK_ID):
      raise errors.UserError(
        f'The vocabulary {self.path} has pad, EOS and unknown at ids {found}, '
        'but T5 needs (0, 1, 2): train it with --pad_id=0 --eos_id=1 '
        '--unk_id=2 --bos_id=-1.'
      )

  def __str__(self) -> str:
    return str(self.path)

  def proto(self) -> sentencepiece_model_pb2.ModelProto:
    """Parses the model, which has no extra ids; UserError if it is none."""
    proto = sentencepiece_model_pb2.ModelProto()
    try:
      proto.ParseFromString(self.model_bytes)
    except message.DecodeError as e:
      raise _no_model(self.path) from e
    return proto

  @property
  def pieces(self) -> list[str]:
    """All pieces by id, with SPACE for spaces; extra ids are not included."""
    num_pieces = self.size - self.extra_ids
    return [self._processor.IdToPiece(i) for i in range(num_pieces)]

  @property
  def size(self) -> int:
    """Number of ids, including extra ids."""
    return self._processor.GetPieceSize()

  @property
  def sha256(self) -> str:
    """Hexadecimal digest of the model file."""
    return hashlib.sha256(self.model_bytes).hexdigest()

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without EOS."""
    return self._processor.EncodeAsIds(text)

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the string of `ids` up to the first EOS.

    Padding is dropped. Ids from `size` on (padding of the embedding) decode as
    unknown.
    """
    kept = []
    for i in ids:
      if i == EOS_ID:
        break
      kept.append(int(i) if i < self.size else UNK_ID)
    return self._processor.DecodeIds(kept)

  def normalize(self, text: str) -> str:
    """Returns the text as the vocabulary writes it, but for unknown characters.

    SentencePiece normalises Unicode (by NFKC in T5: 'm\u00b2' is 'm2') and
    white space. Characters without a piece stay here. Much faster than encoding
    and decoding.
    """
    return self._processor.Normalize(text).replace(SPACE, ' ').strip(' ')

  def lost(self, text: str) -> collections.Counter[str]:
    """Counts the characters of `text` that encoding loses.

    These are the characters encoded as unknown, and newlines, if the vocabulary
    maps them to spaces.
    """
    found: collections.Counter[str] = collections.Counter()
    ids = self.encode(text)
    if UNK_ID in ids:
      pieces = self._processor.EncodeAsPieces(text)
      for i, piece in zip(ids, pieces, strict=True):
        if i == UNK_ID:
          found.update(piece.replace(SPACE, ''))
    if '\n' in text and not self._has_newline:
      found['\n'] += text.count('\n')
    return found

  @functools.cached_property
  def _has_newline(self) -> bool:
    return self.decode(self.encode('a\nb')) == 'a\nb'


class ByteVocabulary:
  """ByT5's vocabulary: three special ids, one per byte of UTF-8, sentinels.

  Sentinels count upwards, as in transformers: `<extra_id_0>` is 259. ByT5's
  embedding has 384 rows, which leaves 125 sentinels.
  """

  pad_id = PAD_ID
  eos_id = EOS_ID
  unk_id = UNK_ID

  def __init__(self, extra_ids: int = 125, *, sentinels_in_text: bool = True):
    """Creates a vocabulary, without a file.

    Args:
      extra_ids: the number of sentinels.
      sentinels_in_text: whether `<extra_id_0>` in a text is the sentinel, as
        for transformers' ByT5Tokenizer, or twelve bytes, as for
        seqio.ByteVocabulary.
    """
    self.extra_ids = checks.integer(
      'extra_ids', extra_ids, 0, checks.MOST_EXTRA_IDS
    )
    self.sentinels_in_text = checks.boolean(
      'sentinels_in_text', sentinels_in_text
    )

  def __str__(self) -> str:
    return f'bytes with {self.extra_ids} extra ids'

  @property
  def size(self) -> int:
    """Number of ids, including extra ids."""
    return NUM_SPECIAL_IDS + 256 + self.extra_ids

  def encode(self, text: str) -> list[int]:
    """Returns the ids of `text`, without EOS."""
    ids: list[int] = []
    parts = [text]
    if self.sentinels_in_text:
      parts = re.split(r'<extra_id_(0|[1-9]\d*)>', text)
    for i, part in enumerate(parts):
      if i % 2 and int(part) < self.extra_ids:
        ids.append(NUM_SPECIAL_IDS + 256 + int(part))
        continue
      if i % 2:
        part = f'<extra_id_{part}>'
      ids.extend(NUM_SPECIAL_IDS + byte for byte in part.encode())
    return ids

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the string of `ids` up to the first EOS.

    Padding, unknown and invalid UTF-8 are dropped.
    """
    content = b''
    for i in ids:
      if i == EOS_ID:
        break
      byte = int(i) - NUM_SPECIAL_IDS
      if 0 <= byte < 256:
        content += bytes([byte])
      elif 256 <= byte < 256 + self.extra_ids and self.sentinels_in_text:
        content += f'<extra_id_{byte - 256}>'.encode()
    return content.decode(errors='ignore')

  def normalize(self, text: str) -> str:
    """Returns the text: bytes write every text as it is."""
    return text

  def lost(self, text: str) -> collections.Counter[str]:
    """Returns an empty counter: bytes encode every text."""
    del text
    return collections.Counter()


AnyVocabulary: TypeAlias = Vocabulary | ByteVocabulary


class RoundTripCounter:
  """Counts texts that a vocabulary does not give back, and says how.

  T5's has no braces, no newline and few letters of most scripts: the model
  neither reads nor writes them. Others it rewrites: superscripts, ligatures and
  full-width letters become plain ones. A target with such a character can never
  be predicted as it is. White space does not count, except newlines: it is
  collapsed everywhere.

  Attributes:
    what: the texts are, such as 'targets'.
    num_texts: number of texts counted.
    num_unknown: number of those with characters that have no piece.
    num_rewritten: number of those that read otherwise, unknown characters
      apart.
    unknown: occurrences of each unknown character.
    rewritten: occurrences of (words, words as the vocabulary writes them); the
      first thousand different ones.
  """

  def __init__(self, vocabulary: AnyVocabulary, what: str = 'texts'):
    self._vocabulary, self.what = vocabulary, what
    self.num_texts = self.num_unknown = self.num_rewritten = 0
    self.unknown: collections.Counter[str] = collections.Counter()
    self.rewritten: collections.Counter[tuple[str, str]] = collections.Counter()

  def count(self, text: str, ids: Sequence[int] | None = None) -> None:
    """Adds a text.

    Args:
      text: as it is encoded, with newlines written as sentinels if there are.
      ids: of the text, if they are known.
    """
    self.num_texts += 1
    ids = self._vocabulary.encode(text) if ids is None else ids
    if UNK_ID in ids or '\n' in text:
      lost = self._vocabulary.lost(text)  # Tokenises again, to name them.
      self.unknown += lost
      self.num_unknown += bool(lost)
    before, after = text.split(), self._vocabulary.normalize(text).split()
    if before == after:
      return
    self.num_rewritten += 1
    pair = _differing_words(before, after)
    if pair in self.rewritten or len(self.rewritten) < _MAX_PAIRS:
      self.rewritten[pair] += 1

  def lines(self) -> list[str]:
    """Returns a line about unknown characters and one about rewritten words.

    Each is left out where there are none.
    """
    return [*self._unknown_line(), *self._rewritten_line()]

  def log(self, *, rewritten: int = logging.WARNING) -> None:
    """Warns of unknown characters, and logs rewritten words at a level."""
    for line in self._unknown_line():
      logger.warning('%s', line)
    for line in self._rewritten_line():
      logger.log(rewritten, '%s', line)

  def _unknown_line(self) -> Iterator[str]:
    if self.num_unknown:
      yield (
        f'{self.num_unknown:,} of {self.num_texts:,} {self.what} have '
        'characters that the vocabulary does not: the model neither reads nor '
        f'writes them. {_most_common(self.unknown, repr)}'
      )

  def _rewritten_line(self) -> Iterator[str]:
    if self.num_rewritten:
      name = lambda pair: f'{pair[0]!r} as {pair[1]!r}'
      yield (
        f'{self.num_rewritten:,} of {self.num_texts:,} {self.what} are '
        'rewritten by the vocabulary: the model reads and writes '
        f'{_most_common(self.rewritten, name)}'
      )


_MAX_PAIRS = 1000
_MAX_NAMED = 8
_MAX_WORDS = 40  # Characters of the words that are shown.


def _differing_words(
  before: Sequence[str], after: Sequence[str]
) -> tuple[str, str]:
  """Returns the words of two texts without those at both ends that agree."""
  shorter = min(len(before), len(after))
  start = 0
  while start < shorter and before[start] == after[start]:
    start += 1
  end = 0
  while end < shorter - start and before[-1 - end] == after[-1 - end]:
    end += 1
  cut = lambda words: ' '.join(words[start : len(words) - end])
  texts = cut(before), cut(after)
  # Words that differ may be far apart.
  return tuple(
    x if len(x) <= _MAX_WORDS else x[: _MAX_WORDS - 3] + '...' for x in texts
  )


def _most_common(
  counts: collections.Counter[Any], name: Callable[[Any], str]
) -> str:
  listed = [f'{name(x)} ({n:,})' for x, n in counts.most_common(_MAX_NAMED)]
  return ', '.join(listed) + (', ...' if len(counts) > _MAX_NAMED else '')


def first_difference(
  one: AnyVocabulary, other: AnyVocabulary, texts: Iterable[str] = ()
) -> tuple[str, list[int], list[int]] | None:
  """Returns a text that two vocabularies encode differently, with its ids.

  Sentinels are compared where both have them: to a model that was trained
  without, they are new tokens.

  Args:
    one: a vocabulary.
    other: another, or the same.
    texts: to compare them on, besides the pieces of both and sentences in many
      scripts.

  Returns:
    The text, its ids in `one`, and in `other`; None if no such text was found.
  """
  both = one, other
  if all(isinstance(v, Vocabulary) for v in both):
    if one.model_bytes == other.model_bytes and (
      one.extra_ids == other.extra_ids or not one.extra_ids * other.extra_ids
    ):
      return None
  sentinels = [
    f'a <extra_id_{i}> b'
    for i in _SENTINELS
    if all(len(v.encode(f'<extra_id_{i}>')) == 1 for v in both)
  ]
  pieces: dict[str, None] = {}  # A set in order.
  for vocabulary in both:
    found = getattr(vocabulary, 'pieces', [])
    found = found[:: len(found) // _MAX_PIECES + 1]
    pieces.update(dict.fromkeys(found))
  words = [piece.replace(SPACE, ' ') for piece in pieces]
  # Segmentations of several pieces depend on their scores.
  longer = [''.join(words[i : i + 8]) for i in range(0, len(words), 8)]
  for text in itertools.chain(texts, _SENTENCES, sentinels, words, longer):
    if '<extra_id_' in text and text not in sentinels:
      continue
    ids = [v.encode(text) for v in both]
    if ids[0] != ids[1]:
      return text, *ids
  return None


def check_same_ids(
  own: AnyVocabulary,
  other: AnyVocabulary,
  what: str,
  remedy: str,
  texts: Iterable[str] = (),
) -> None:
  """Checks that a model's vocabulary and another encode texts the same.

  Args:
    own: of the model.
    other: that is to be used with it.
    what: `other` is, with its name, such as 'the vocabulary x.model'.
    remedy: ends the message.
    texts: see `first_difference`.

  Raises:
    UserError: they do not; the message has a text and its ids.
  """
  found = first_difference(own, other, texts)
  if found is None:
    return
  text, expected, ids = found
  shown = lambda ids: f'{ids[:_MAX_NAMED]}{"..." * (len(ids) > _MAX_NAMED)}'
  raise errors.UserError(
    f'{what} is not that of the model, {own}: {checks.shown(text)} is '
    f'{shown(ids)} in it, and {shown(expected)} in that of the model. {remedy}'
  )


_SENTINELS = (0, 1, 9, 99)
_MAX_PIECES = 20_000  # Of each vocabulary; as many in a second are compared.
# Letters, figures, white space, signs and scripts that normalisers and
# pre-tokenisers treat differently.
_SENTENCES = (
  'The quick brown fox jumps over the lazy dog.',
  'THE Hotel is OPEN; Dr. McCoy, MRI/CT',
  '0123456789 3.14 1,000 -5 12/05/2024 10:30 1e-3',
  '  two  spaces,\ta tab\nand a line ',
  'no',
  ' 31 kg/m² ± 2 °C, 5 µg, ½, … ™ º ﬁ Ａｂ１ ①',
  'naïve café cafe\u0301 Straße Þór İI ĳ',
  '{"key": [1, 2]} <b> #tag @x $5 100% _a_ `b` ~|\\ ^* don\'t',
  '“quoted” – it’s — «done» ‘x’ • ‑ − ×',
  'a\u00a0b\u200bc\u3000d\u00ad\ufeffe\x01\x7f',
  'Αθήνα Привет, мир Հայերեն ქართული',
  'שלום مرحبا بالعالم ١٢٣ فارسی',
  'नमस्ते दुनिया বাংলা தமிழ் ภาษาไทย မြန်မာ',
  '你好，世界。 こんにちは カタカナ ｶﾞ 안녕하세요 \u1112\u1161\u11ab',
  '😀 👩\u200d⚕\ufe0f 🇩🇪 𝔘 ∑ → ☐',
  '</s> <pad> <unk> <s> <0x41> ▁ a▁b ⁇ \ufffd',
)


def _check_pieces(
  proto: sentencepiece_model_pb2.ModelProto,
  extra_ids: int,
  path: epath.PathLike,
) -> None:
  """Raises UserError where SentencePiece would give a vague reason, or none."""
  known: set[str] = set()
  for i, piece in enumerate(proto.pieces):
    fault = ''
    if not math.isfinite(piece.score):
      fault = f'the score {piece.score}'
    elif not piece.piece:
      fault = 'no characters'
    elif piece.piece in known:
      fault = 'the characters of an earlier one'
    if fault:
      raise errors.UserError(
        f'the vocabulary {path} is damaged: its piece {i}, '
        f'{checks.shown(piece.piece)}, has {fault}.'
      )
    known.add(piece.piece)
  if extra_ids and f'{SPACE}<extra_id_0>' in known:
    raise errors.UserError(
      f'the vocabulary {path} has sentinels among its pieces: extra_ids must '
      f'be 0; got {extra_ids}.'
    )


def _no_model(path: epath.PathLike) -> errors.UserError:
  return errors.UserError(
    f'{path} is not a SentencePiece model, as spiece.model of a T5 is one.'
  )
