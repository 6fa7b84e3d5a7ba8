# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Kinds of errors, similarity, dialogues and charts, on small cases."""

import html.parser
import pathlib
import random
import re

import pytest

from pid_jax.viewer import charts
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
    (['wild  fox'], ' wild fox\n', Kind.RIGHT),  # White space.
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
  folder = pathlib.Path(charts.__file__).parent / 'assets'
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


@pytest.mark.parametrize(
  ('low', 'high', 'expected'),
  [
    (0, 1, [0, 0.5, 1]),
    (100, 3400, [0, 1000, 2000, 3000, 4000]),
    (-3, 8, [-5, 0, 5, 10]),
    (0.021, 0.0279, [0.02, 0.022, 0.024, 0.026, 0.028]),
  ],
)
def test_ticks_are_round_and_cover_the_values(low, high, expected):
  assert charts.ticks(low, high) == expected


@pytest.mark.parametrize('value', [0.0, 5.0, -5.0, 1e-9, 1e12])
def test_ticks_of_one_value_surround_it(value):
  ticks = charts.ticks(value, value)
  assert ticks[0] <= value <= ticks[-1] and ticks[0] < ticks[-1]


def test_log_ticks_are_powers_of_ten():
  assert charts.log_ticks(0.02, 4) == pytest.approx([0.01, 0.1, 1, 10])
  assert charts.log_ticks(1, 1) == pytest.approx([1, 10])


def test_a_line_chart_puts_points_where_they_belong():
  series = charts.Series('loss', [(0, 0.0), (5, 1.0), (10, 0.5)])
  figure = charts.line_chart('loss', [series])
  (line,) = [p for p in figure.iter('path') if p.get('class') == 'series-0']
  points = [
    tuple(map(float, point.split(',')))
    for point in line.get('d')[1:].split('L')
  ]
  (x0, y0), (x1, y1), (x2, y2) = points
  assert x1 == (x0 + x2) / 2 and y2 == (y0 + y1) / 2 and y1 < y0
  titles = [title.text for title in figure.iter('title')]
  assert titles == ['loss 0: 0', 'loss 5: 1', 'loss 10: 0.5']
  assert figure.find('svg').get('aria-label') == 'loss; at the end: loss 0.5'
  two = charts.line_chart('both', [series, charts.Series('b', [(0, 1.0)])])
  legend = [s.text for s in two.iter('span') if 'legend' in s.get('class')]
  assert legend == ['loss', 'b']


def test_logarithms_spreads_and_letters():
  line = charts.Series(
    'a', [(1, 1.0), (2, 10.0), (4, 100.0)], spread=[(1, 1), (5, 20), (90, 100)]
  )
  other = charts.Series('b', [(1, 2.0)], is_dashed=True, colour=0)
  letters = charts.Series('c', [(1, 1.0), (4, 10.0)], letters='XY')
  figure = charts.line_chart(
    't', [line, other, letters], log_x=True, log_y=True
  )
  paths = {p.get('class'): p.get('d') for p in figure.iter('path')}
  points = [
    tuple(map(float, point.split(',')))
    for point in paths['series-0'][1:].split('L')
  ]
  (x0, y0), (x1, y1), (x2, y2) = points
  assert x1 == (x0 + x2) / 2 and y1 == (y0 + y2) / 2
  # Over the greatest, and back under the least.
  outline = paths['series-0 spread'][1:-1].split('L')
  assert len(outline) == 6 and outline[0] == outline[-1] == f'{x0},{y0}'
  assert outline[2] == f'{x2},{y2}'
  assert 'series-0 dashed' in paths and 'series-2' not in paths
  shown = {
    text.text: (float(text.get('x')), float(text.get('y')))
    for text in figure.iter('text')
    if 'letter' in text.get('class')
  }
  assert shown == {'X': (x0, y0), 'Y': (x2, y1)}
  ticks = [t.text for t in figure.iter('text') if 'of-x' in t.get('class')]
  assert ticks == ['1', '2', '4']
  legend = [s.text for s in figure.iter('span') if 'legend' in s.get('class')]
  assert legend == ['a', 'c']


def test_thinning_keeps_ends_and_peaks():
  points = [(i, float(i == 777) - float(i == 1234)) for i in range(5000)]
  thin = charts.thinned(points)
  assert len(thin) < 600 and set(thin) <= set(points) and thin == sorted(thin)
  assert {points[0], points[-1], (777, 1.0), (1234, -1.0)} <= set(thin)
  assert charts.thinned(points[:300]) == points[:300]


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.03162277, '0.03162'),
    (24000, '24,000'),
    (2.0, '2'),
    (12345.6, '12,346'),
    (1.2e-5, '1.2e-05'),
    (3.1e9, '3.1e+09'),
  ],
)
def test_numbers_are_short(value, text):
  assert charts.number(value) == text
