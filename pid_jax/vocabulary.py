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
import logging
import re
import struct
from typing import Any, TypeAlias

from etils import epath
import sentencepiece

from pid_jax import errors
from pid_jax import files

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2
NUM_SPECIAL_IDS = 3
_MAX_BYTES = 1 << 30  # Of a model file.
SPACE = '\N{LOWER ONE EIGHTH BLOCK}'  # What SentencePiece puts for one.

logger = logging.getLogger(__name__)


class Vocabulary:
  """Maps strings to ids and back, as seqio.SentencePieceVocabulary does."""

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
      UserError: the file is missing, is not a SentencePiece model, or does not
        reserve ids 0, 1 and 2 for padding, EOS and unknown, as T5 requires.
    """
    self.path = files.path(path, 'the vocabulary')
    self.extra_ids = extra_ids
    if content is None:
      content = files.read_bytes(self.path, 'the vocabulary', _MAX_BYTES)
    self.model_bytes = content
    self._processor = sentencepiece.SentencePieceProcessor()
    try:
      self._processor.LoadFromSerializedProto(
        self.model_bytes + _extra_pieces(extra_ids)
      )
    except RuntimeError as e:
      raise errors.UserError(
        f'{self.path} is not a SentencePiece model.'
      ) from e
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

  def rewrite(self, text: str) -> str:
    """Returns the text as the vocabulary writes it, which is all outputs do.

    SentencePiece normalises Unicode (by NFKC in T5: 'm\u00b2' is 'm2') and
    white space, and has no piece for some characters, which become U+2047.
    """
    return self.decode(self.encode(text))

  def normalize(self, text: str) -> str:
    """As `rewrite`, but characters without a piece stay; much faster."""
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
    self.extra_ids = extra_ids
    self.sentinels_in_text = sentinels_in_text

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

  def rewrite(self, text: str) -> str:
    """Returns the text: bytes write every text as it is."""
    return text

  normalize = rewrite

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


def _extra_pieces(count: int) -> bytes:
  """Returns `count` sentinel pieces as a serialised ModelProto."""
  return b''.join(
    piece_proto(f'{SPACE}<extra_id_{i}>', 0.0, USER_DEFINED)
    for i in reversed(range(count))
  )


# SentencePiece's ModelProto, as far as it is needed; the numbers of fields and
# types are those of sentencepiece_model.proto. The generated module's version
# often conflicts with the installed protobuf.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED = 1, 2, 3, 4


def piece_proto(piece: str, score: float, kind: int) -> bytes:
  """Returns a serialised ModelProto of one piece.

  Protocol buffers merge when their bytes are concatenated, so appending these
  bytes to a model adds the piece.

  Args:
    piece: with SPACE for spaces.
    score: its log-probability.
    kind: NORMAL, UNKNOWN, CONTROL or USER_DEFINED.
  """
  packed_score = b'\x15' + struct.pack('<f', score)  # Field 2, a float.
  fields = proto_field(1, piece.encode()) + packed_score + proto_field(3, kind)
  return proto_field(1, fields)


def proto_field(number: int, value: bytes | int) -> bytes:
  """Returns a field of a serialised protocol buffer."""
  if isinstance(value, int):
    return _varint(number << 3) + _varint(value % (1 << 64))
  return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
  out = b''
  while value > 127:
    out += bytes([value & 127 | 128])
    value >>= 7
  return out + bytes([value])
