# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Words of texts in any script, for the metrics that count words.

Letters, combining marks and numbers are those of Unicode's categories, as the
`regex` package knows them. Scripts that put no spaces between words (Han, kana,
Thai, Lao, Khmer, Burmese and others of UAX #14's class SA) are taken by
character, each with its marks, as public scorers take Chinese (the evaluation
script of MLQA; sacrebleu's tokenizer `zh`): a segmenter for each language
would make figures depend on its version.
"""

from __future__ import annotations

import regex

# In brackets; V1: sets can be subtracted.
_UNSPACED = (
  r'[\p{Ideographic}\p{Hiragana}\p{Katakana}\p{Line_Break=Complex_Context}]'
)
_CHARACTER = rf'[{_UNSPACED}--\p{{M}}]\p{{M}}*'
# Joiners stand within words of Persian and of Indic scripts.
_LETTERS = rf'[[\p{{L}}\p{{M}}\p{{N}}\p{{Join_Control}}]--{_UNSPACED}]+'

_WORD = regex.compile(
  # Outside of ASCII, only punctuation, spaces and controls are no words.
  rf'{_CHARACTER}|{_LETTERS}|[\p{{S}}--\p{{ASCII}}]\p{{M}}*',
  regex.V1,
)
_TOKEN = regex.compile(
  rf"""{_CHARACTER}
  |(?:(?<![\p{{L}}\p{{M}}\p{{N}}])[+\-−±]?[.٫]?(?=\p{{Nd}}))?  # Of a number.
   {_LETTERS}
   (?:(?:(?<=\p{{Nd}})[.,:/\-–٫٬](?=\p{{Nd}})|(?<=\p{{L}}\p{{M}}*)['’](?=\p{{L}}))
      {_LETTERS})*
  |\S\p{{M}}*""",
  regex.V1 | regex.VERBOSE,
)


def tokens(text: str) -> list[str]:
  """Splits a text into words, numbers and signs; drops white space only.

  A number keeps its sign, and its separators: '-1.5', '.5' and '12:30' are
  single tokens; an apostrophe between letters belongs to its word. Every other
  sign is a token. Case is kept.
  """
  return _TOKEN.findall(text)


def rouge_words(text: str) -> list[str]:
  """Splits a text into the words that ROUGE counts, lower-cased.

  Of ASCII text these are the words of the rouge-score package, runs of [a-z0-9]
  (Lin, 2004): signs and punctuation separate words, so '1.5' is two, and are
  dropped. Runs of other scripts' letters, marks and numbers are words likewise;
  symbols outside of ASCII ('€', emoji) are words, punctuation is not.
  """
  return _WORD.findall(text.lower())
