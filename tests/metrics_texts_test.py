# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Answers in many scripts and with signs: right is right, wrong is wrong."""

import pytest
from rouge_score import rouge_scorer

from pid_jax.subtasks import metrics
from pid_jax.subtasks import postprocessors
from pid_jax.subtasks.metrics import words
from pid_jax.viewer import comparing

# Gold answer and another text, which a human would not take for it.
WRONG = [
  # Numbers, signs and units.
  *[('1.5 mg', '15 mg'), ('1.5', '5.1'), ('-5', '5'), ('+', '-'), ('+5', '-5')],
  *[('<5', '>5'), ('≤ 5', '≥ 5'), ('5 %', '5 ‰'), ('5%', '5'), ('10²', '10³')],
  *[('kg/m²', 'kg/m'), ('1,000', '1.000'), ('2024-05-01', '2024-01-05')],
  *[('12:30', '30:12'), ('1/2', '2/1'), ('1–2', '2–1'), ('€5', '$5')],
  *[('½', '¼'), ('٣٫٥', '٥٫٣'), ('३.५', '३५'), ('2×3', '2+3'), ('°C', '°F')],
  *[('.5 mg', '5 mg.'), ('-.5', '.5')],
  *[('A+', 'A-'), ('C#', 'C'), ('C++', 'C'), ('N/A', 'NA'), ('?', '!')],
  *[
    ('...', '.'),
    ('()', '[]'),
    ('¬A', 'A'),
    ('→', '←'),
    ('✓', '✗'),
    ('∅', '0'),
  ],
  *[('I', 'II'), ('Ⅳ', 'Ⅵ'), ('#1', '#2'), ('@a', '@b'), ('1e-3', '1e3')],
  # Words that a rule for English takes for nothing.
  *[('A', 'the'), ('a', 'an'), ('The', ''), ('A', 'B'), ('it', 'It')],
  *[('US', 'us'), ('mW', 'MW'), ("we're", 'were'), ('re-sign', 'resign')],
  *[('yes', 'no'), ('none', 'None'), ('', 'x'), ('x', ''), ('.', '')],
  # Accents and marks.
  *[('año', 'ano'), ('pâté', 'pate'), ('schön', 'schon'), ('Å', 'A')],
  *[('résumé', 'resume'), ('ça', 'ca'), ('ł', 'l'), ('ß', 'ss'), ('œ', 'oe')],
  # Indic scripts, where vowels are marks.
  *[('राम्रो छ', 'नराम्रो छ'), ('राम', 'रमा'), ('कि', 'की'), ('बाल', 'बल')],
  *[('ভাল', 'ভালা'), ('கல்', 'கலி'), ('తల', 'తాల'), ('ಮರ', 'ಮಾರ')],
  *[('മല', 'മാല'), ('ගල', 'ගාල'), ('ਦਿਨ', 'ਦੀਨ'), ('મન', 'માન'), ('ଫଳ', 'ଫାଳ')],
  # Scripts without spaces.
  *[('北京', '南京'), ('東京', '京都'), ('こんにちは', 'こんばんは')],
  *[('カタカナ', 'カナカン'), ('สวัสดี', 'สวย'), ('ไม่', 'ไม้'), ('မြန်မာ', 'မွန်')],
  *[('ខ្មែរ', 'ខ្មោច'), ('ລາວ', 'ລາດ'), ('བོད', 'བདེ')],
  # Others.
  *[('да', 'нет'), ('кот', 'код'), ('ναι', 'όχι'), ('כן', 'לא'), ('نعم', 'لا')],
  *[('كتب', 'كتاب'), ('בַּיִת', 'בָּתִּים'), ('예', '아니요'), ('한국', '한글')],
  *[('այո', 'ոչ'), ('კი', 'არა'), ('አዎ', 'አይ'), ('ꦲ', 'ꦤ'), ('ᐃ', 'ᐅ')],
  *[('😀', '😢'), ('👍', '👎'), ('🇫🇷', '🇩🇪'), ('𝛼', '𝛽'), ('𐍈', '𐌰')],
  # White space inside.
  *[('a b', 'ab'), ('a b', 'a  b'), ('a b', 'a\nb'), ('a b', 'a\tb')],
  *[('a b', 'a\u00a0b'), ('a\u200bb', 'ab'), ('a b c', 'a c b')],
]
# Two writings of one answer.
RIGHT = [
  *[('5', ' 5'), ('5', '5\n'), ('\ta b', 'a b '), ('', ' '), ('a', 'a\u3000')],
  *[(text, text) for pair in WRONG[::7] for text in pair],
]
# Bags of words, and ROUGE besides of words without signs and case, forgive
# these by definition.
_SAME_BAG = {'a b c'}
_SAME_SPACE = {'a b', 'a\u200bb'}
_SAME_ROUGE_WORDS = {
  *('-5', '+5', '<5', '5%', 'A+', 'C#', 'C++', '#1', '1/2', '12:30', '1–2'),
  *('2024-05-01', '1,000', '1.5', 'it', 'US', 'mW', 'none', '2×3', '1e-3'),
  *('a b c', 'a b', '5 %', '.5 mg', '-.5', '٣٫٥', 'a\u200bb'),
}


def _figures(gold, text):
  targets, predictions = [{'targets': [gold]}], [[text]]
  return {
    name: value
    for metric in ('exact_match', 'example_exact_match', 'token_f1', 'rouge')
    for name, value in metrics.by_name(metric)(targets, predictions).items()
  }


@pytest.mark.parametrize(('gold', 'text'), WRONG)
def test_a_wrong_answer_is_wrong(gold, text):
  for one, other in ((gold, text), (text, gold)):
    figures = _figures(one, other)
    assert figures['exact_match'] == figures['example_exact_match'] == 0
    if gold not in _SAME_BAG | _SAME_SPACE:
      assert figures['token_f1'] < 1
    if gold not in _SAME_ROUGE_WORDS:
      assert max(figures[f'rouge{x}'] for x in ('1', '2', 'L', 'Lsum')) < 1
    assert comparing.compare([one], other).is_error


@pytest.mark.parametrize(('gold', 'text'), RIGHT)
def test_a_right_answer_is_right(gold, text):
  figures = _figures(gold, text)
  figures.pop('rouge2')  # A single word has no bigrams.
  assert set(figures.values()) == {1}
  assert comparing.compare([gold], text) is comparing.Kind.RIGHT


def test_no_words_found_does_not_mean_that_nothing_was_said():
  for ascii_words in (False, True):
    for gold, text in [('मौसम', 'अन्य'), ('मौसम', ''), ('+', '-'), ('', '!')]:
      figures = metrics.rouge(
        [{'targets': [gold]}], [[text]], ascii_words=ascii_words
      )
      assert set(figures.values()) == {0}, (gold, text)


@pytest.mark.parametrize(
  ('text', 'tokens', 'rouge'),
  [
    ('-1.5 mg, "ok"', ['-1.5', 'mg', ',', '"', 'ok', '"'], '1 5 mg ok'),
    ('x .5, -.5.', ['x', '.5', ',', '-.5', '.'], 'x 5 5'),
    ("It's 5%", ["It's", '5', '%'], 'it s 5'),
    ('a-5 (−5)', ['a', '-', '5', '(', '−5', ')'], 'a 5 − 5'),
    ('kg/m² Å', ['kg', '/', 'm²', 'Å'], 'kg m² å'),
    ('राम्रो छ।', ['राम्रो', 'छ', '।'], 'राम्रो छ'),
    ('北京2024年', ['北', '京', '2024', '年'], '北 京 2024 年'),
    ('ที่นี่', ['ที่', 'นี่'], 'ที่ นี่'),
    ('می‌خواهم', ['می‌خواهم'], 'می‌خواهم'),
    ('e\u0301t\u0301', ['e\u0301t\u0301'], 'e\u0301t\u0301'),
    ('😀!', ['😀', '!'], '😀'),
    (' \n', [], ''),
  ],
)
def test_words_by_hand(text, tokens, rouge):
  assert words.tokens(text) == tokens
  assert words.rouge_words(text) == rouge.split()


def test_tokens_drop_white_space_alone():
  for pair in WRONG:
    for text in pair:
      assert ''.join(words.tokens(text)) == ''.join(text.split())


def test_rouge_words_of_ascii_are_those_of_the_package():
  text = ''.join(map(chr, range(128))) + " It's 3.5 km_2; THE end-point (x2)"
  tokenize = rouge_scorer.RougeScorer(['rouge1'])._tokenizer.tokenize
  assert words.rouge_words(text) == tokenize(text)
  for use_stemmer in (False, True):
    want = rouge_scorer.RougeScorer(['rougeL'], use_stemmer).score(
      'The dogs are running to houses', 'A dog runs to the house'
    )
    found = metrics.rouge(
      [{'targets': ['The dogs are running to houses']}],
      [['A dog runs to the house']],
      use_stemmer=use_stemmer,
    )
    assert found['rougeL'] == pytest.approx(want['rougeL'].fmeasure)


def test_any_of_several_gold_answers_counts():
  answers = [metrics.join_answers(['inn', 'the inn', 'in the house'])]
  targets = [{'targets': ['inn'], 'answers': answers}]
  for text, f1, rouge1 in [
    ('the inn', 1, 1),
    ('inn', 1, 1),
    ('the house', 4 / 5, 4 / 5),  # Of in the house.
    ('The inn', 2 / 3, 1),  # Case counts.
    ('an inn', 2 / 3, 2 / 3),
  ]:
    exact = float(text in ('inn', 'the inn'))
    assert metrics.exact_match(targets, [[text]]) == {'exact_match': exact}
    found = metrics.token_f1(targets, [[text]])['token_f1']
    assert found == pytest.approx(f1), text
    found = metrics.rouge(targets, [[text]])['rouge1']
    assert found == pytest.approx(rouge1), text
  # A target that the list leaves out counts, too.
  targets = [{'targets': ['x'], 'answers': [metrics.join_answers(['y'])]}]
  assert metrics.exact_match(targets, [['x']])['exact_match'] == 1


@pytest.mark.parametrize('name', metrics.names)
@pytest.mark.parametrize(
  ('targets', 'predictions'),
  [
    ([], []),
    ([{'targets': ['']}], [['']]),
    ([{'targets': ['\ud83d']}], [['\ud83d']]),  # Half a character.
    ([{'targets': ['x'], 'answers': ['[]']}], [['x']]),
    ([{'targets': ['x'], 'answers': ['']}], [[None]]),
    ([{'targets': ['none', 'x'], 'subtasks': ['', '']}], [['x', 'none']]),
    ([{'targets': ['x' * 5000]}], [['\u0301' * 5000]]),
    ([{'targets': ['\x00\x1f']}], [['\x00']]),
  ],
)
def test_figures_are_fractions_for_any_text(name, targets, predictions):
  figures = metrics.by_name(name)(targets, predictions)
  assert all(0 <= value <= 1 for value in figures.values())


class _Vocabulary:
  """Writes characters, by NFKC and without '{', which is unknown."""

  unk_id = 2

  def encode(self, text):
    text = text.replace('²', '2').replace('ﬁ', 'fi')
    return [2 if x == '{' else ord(x) + 3 for x in ' '.join(text.split())]

  def decode(self, ids):
    return ''.join('\u2047' if i == 2 else chr(i - 3) for i in ids)


@pytest.mark.parametrize(
  ('gold', 'written'),
  [
    ('kg/m²', 'kg/m2'),
    ('ﬁne', 'fine'),
    ('a  b\tc', 'a b c'),
    ('plain', 'plain'),
    ('{²', '{²'),  # Not as an output of unknown tokens would be.
    ('', ''),
  ],
)
def test_golds_are_as_the_vocabulary_writes_them(gold, written):
  assert postprocessors.as_written(gold, _Vocabulary()) == written
  output = _Vocabulary().decode(_Vocabulary().encode(gold))
  right = metrics.is_right([written], output)
  assert right == ('{' not in gold)


def test_lines_of_golds_survive_by_the_sentinel():
  vocabulary = _Vocabulary()
  assert postprocessors.as_written('a\n²', vocabulary) == 'a 2'
  assert postprocessors.as_written('a\n²', vocabulary, '<n>') == 'a\n2'
  # No output has a sentinel in its text.
  assert postprocessors.as_written('<n>²', vocabulary, '<n>') == '<n>²'
