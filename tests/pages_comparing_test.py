# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Kinds of errors, similarity, dialogues and charts, on small cases."""

import html.parser
import pathlib
import random
import re

import pytest

from pid_jax.viewer import comparing
from pid_jax.viewer import dialogues
from pid_jax.viewer import markup
from pid_jax.viewer import records
from pid_jax.viewer import tables

Kind = comparing.Kind


@pytest.mark.parametrize(
  ('golds', 'prediction', 'kind'),
  [
    (['north'], 'north', Kind.RIGHT),
    (['wild fox'], ' wild fox\n', Kind.RIGHT),  # White space at the ends.
    (['wild  fox'], 'wild fox', Kind.NEAR_MISS),  # And inside.
    (['north'], 'north ', Kind.RIGHT),
    (['none'], 'none', Kind.RIGHT),
    ([''], '', Kind.RIGHT),
    (['north', 'centre'], 'centre', Kind.RIGHT),
    (['north', 'none'], 'none', Kind.RIGHT),  # May be empty, too.
    (['north'], 'none', Kind.MISSED),
    (['north'], '', Kind.MISSED),
    (['north'], 'unanswerable', Kind.MISSED),
    (['none'], 'north', Kind.INVENTED),
    ([''], 'north', Kind.INVENTED),
    (['none'], 'None', Kind.INVENTED),  # A value of SGD's.
    (['None'], 'none', Kind.MISSED),
    (['north'], 'south', Kind.WRONG),  # 2 of 5 letters.
    (['18:30'], '18:35', Kind.WRONG),  # 1 of 5, but a digit.
    (['2'], '3', Kind.WRONG),
    (['wild fox bistro'], 'wild fix bistro', Kind.NEAR_MISS),  # 1 of 15.
    (['4 old mill'], '5 old mill', Kind.WRONG),
    (['The Old Mill'], 'old mill.', Kind.NEAR_MISS),  # As SQuAD has it: right.
    (['abcd'], 'abcx', Kind.NEAR_MISS),  # 1 of 4: just so.
    (['abc'], 'abx', Kind.WRONG),  # 1 of 3.
    (['north', 'old mill'], 'old mull', Kind.NEAR_MISS),  # To any.
    (['none'], '', Kind.NEAR_MISS),  # Both say nothing.
    (['none'], None, Kind.ABSENT),
    (['north'], None, Kind.ABSENT),
    ([], 'north', Kind.UNJUDGED),
    ([], None, Kind.UNJUDGED),
  ],
)
def test_kinds(golds, prediction, kind):
  assert comparing.compare(golds, prediction) is kind


def test_other_words_for_nothing():
  words = {'', 'not mentioned'}
  assert comparing.compare(['x'], 'not  mentioned', words) is Kind.MISSED
  assert comparing.compare(['not mentioned'], 'x', words) is Kind.INVENTED
  assert comparing.compare(['x'], 'none', words) is Kind.WRONG


def test_edit_distance_is_that_of_the_table():
  rng = random.Random(0)

  def by_table(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
      above, row = row, [i]
      for j, y in enumerate(b):
        row.append(min(above[j + 1] + 1, row[j] + 1, above[j] + (x != y)))
    return row[-1]

  for _ in range(500):
    a, b = (rng.choices('abc', k=rng.randrange(80)) for _ in range(2))
    assert comparing.edit_distance(a, b) == by_table(a, b)
  assert comparing.edit_distance('kitten', 'sitting') == 3
  assert comparing.edit_distance('', '') == 0


def _example(name, inputs='x', task='', **kwargs):
  fields = dict(
    names=['s'],
    prompts=['s'],
    targets=['a'],
    alternatives=[[]],
    predictions=['a'],
  )
  return records.Example(name, task, inputs, **{**fields, **kwargs})


def test_dialogues_by_ids_and_texts():
  examples = [
    _example('b-test-0-2', 'user: a system: b user: c'),
    _example('single', 'user: a'),
    _example('b-test-0-1', 'user: a'),
    _example('b-test-1-1', 'user: z'),  # Has one turn.
    _example('1_00000-0-Hotels_1', 'user: h'),
    _example('1_00000-2-Hotels_1', 'user: h system: i user: j'),
    _example('1_00000-2-Taxis_1', 'user: h system: i user: j'),
    _example('1_00000-4-Taxis_1', 'user: h system: i user: j system: k'),
    _example('page-1', 'a text'),  # The ids of other things.
    _example('page-2', 'another text'),
    _example('b-test-0-3', 'user: a', task='other'),
    _example('b-test-0-10', 'user: a system: b user: c system: d user: e'),
  ]
  assert dialogues.find(examples) == [
    dialogues.Dialogue('b-test-0', '', [2, 0, 11]),
    dialogues.Dialogue('1_00000', 'Hotels_1', [4, 5]),
    dialogues.Dialogue('1_00000', 'Taxis_1', [6, 7]),
  ]
  assert dialogues.find([]) == []


def test_counts():
  examples = [
    _example(
      'one',
      names=['s', 't', 'u'],
      prompts=['s', 't', 'u'],
      targets=['a', 'none', None],
      alternatives=[['b'], [], []],
      predictions=['b', 'a', 'c'],
    ),
    _example('two'),
    _example('three', targets=[None]),
  ]
  table = tables.compare(examples, comparing.EMPTY_WORDS)
  assert table.kinds == [
    [Kind.RIGHT, Kind.INVENTED, Kind.UNJUDGED],
    [Kind.RIGHT],
    [Kind.UNJUDGED],
  ]
  assert table.counts() == {
    Kind.RIGHT: 2,
    Kind.INVENTED: 1,
    Kind.UNJUDGED: 2,
  }
  assert table.counts_by_name()['s'] == {Kind.RIGHT: 2, Kind.UNJUDGED: 1}
  assert (table.num_right(), table.num_judged()) == (1, 2)
  assert table.has_gold
  assert not tables.compare(examples[2:], ()).has_gold


def test_markup_escapes_all_that_it_is_given():
  element = markup.element
  text = '</p><script>alert("&amp;")</script><!--'
  tree = element('p', 'a', element('b', text), text, title=text, hidden=True)
  seen = []

  class Parser(html.parser.HTMLParser):
    def handle_starttag(self, tag, attrs):
      seen.append((tag, attrs))

    def handle_data(self, data):
      seen.append(data)

    def handle_comment(self, data):
      raise AssertionError(data)

  parser = Parser()
  parser.feed(markup.to_html(tree))
  parser.close()
  expected = [('p', [('title', text), ('hidden', '')]), 'a', ('b', []), text]
  assert seen[1:] == [*expected, text, '\n']
  assert markup.to_html(element('p', '\x00\ud800')).count('\ufffd') == 2
  json_text = markup.to_json({'a': '</script><!-- & \u2028 \ud800 é'})
  assert json_text == (
    r'{"a":"\u003c/script\u003e\u003c!-- \u0026 \u2028 \ud800 é"}'
  )


def _luminance(color):
  """Relative luminance of [r, g, b] from 0 to 1, as WCAG 2 defines it."""
  linear = [
    x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in color
  ]
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize('scheme', [0, 1, 2], ids=['light', 'dark', 'print'])
def test_text_has_contrast(scheme):
  """At least 4.5 to 1 (WCAG 2, AA), on tinted badges too."""
  folder = pathlib.Path(comparing.__file__).parent / 'assets'
  css = (folder / 'base.css').read_text()
  # Dark and print change some of the colours that come first.
  blocks = css.split(':root {')
  colors = {
    name: [int(value[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    for block in (blocks[1], blocks[scheme + 1])
    for name, value in re.findall(r'--([\w-]+): #(\w{6});', block)
  }
  assert len(colors) == 14
  for name in set(colors) - {'page', 'panel', 'line'}:
    for behind in (colors['page'], colors['panel']):
      badge = [
        0.12 * x + 0.88 * y for x, y in zip(colors[name], behind, strict=True)
      ]
      for back in (behind, badge):
        low, high = sorted(map(_luminance, (colors[name], back)))
        assert (high + 0.05) / (low + 0.05) >= 4.5, (name, back)
