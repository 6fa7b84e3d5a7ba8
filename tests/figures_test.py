# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures: marks stand where values are, in files and in pages."""

import re
from xml.etree import ElementTree

import pytest

from pid_jax.viewer import figures

pytestmark = pytest.mark.skipif(
  not figures.is_installed(), reason='not installed: matplotlib'
)
LINE = figures.Series(
  'a', [(1, 1.0), (2, 10.0), (4, 100.0)], spread=[(1, 1), (5, 20), (90, 100)]
)
LOGARITHMIC = figures.Panel(
  'both',
  [
    LINE,
    figures.Series('b by formula', [(1, 2.0), (4, 3.0)], is_dashed=True),
    figures.Series('c', [(1, 1.0), (4, 10.0)], labels='XY'),
  ],
  x_label='size',
  log_x=True,
  log_y=True,
)
BARS = figures.Panel(
  'ms', bars={'PiD': {'encode': 1.0, 'steps': 2.0}, 'PiE': {'encode': 6.0}}
)


def _texts(figure) -> list[str]:
  return [text.text for text in figure.iter('text')]


def _titles(figure) -> list[str]:
  return [title.text for title in figure.iter('title')]


def test_points_stand_where_their_values_are():
  (figure,) = figures.to_elements([LOGARITHMIC], 'x')
  points = [u for u in figure.iter('use') if u.find('title') is not None]
  places = [(float(u.get('x')), float(u.get('y'))) for u in points[:3]]
  (x0, y0), (x1, y1), (x2, y2) = places
  assert x1 == pytest.approx((x0 + x2) / 2) and y1 == pytest.approx(
    (y0 + y2) / 2
  )
  assert x0 < x2 and y0 > y2  # SVG counts downwards.
  assert _titles(figure)[:3] == ['a 1: 1', 'a 2: 10', 'a 4: 100']
  assert {'c 1: 1', 'c 4: 10', 'b by formula 4: 3'} <= set(_titles(figure))
  texts = _texts(figure)
  assert [t for t in texts if t in ('X', 'Y')] == ['X', 'Y']
  assert {'1', '2', '5', 'size', 'both'} <= set(texts)  # Ticks, and labels.
  assert {'a', 'c'} <= set(texts) and 'b by formula' not in texts  # Legend.
  label = figure.find('svg').get('aria-label')
  assert label == 'both; at the end: a 100, b by formula 3, c 10'


def test_the_page_forbids_nothing_that_a_figure_needs():
  """No style attributes and elements, no fonts of its own, no double ids."""
  elements = figures.to_elements([LOGARITHMIC, BARS], 'x')
  found = [e for figure in elements for e in figure.iter()]
  assert not any('style' in e.attrib or e.tag == 'style' for e in found)
  assert all(':' not in e.tag and '}' not in e.tag for e in found)
  ids = [e.get('id') for e in found if e.get('id')]
  assert len(ids) == len(set(ids))
  text = b''.join(ElementTree.tostring(e) for e in elements).decode()
  used = set(re.findall(r'url\(#(\w+)\)|href="#(\w+)"', text))
  assert {a or b for a, b in used} == set(ids)
  assert 'var(--series-0)' in text and '#0b57d0' not in text


def test_bars_are_as_long_as_their_parts():
  (figure,) = figures.to_elements([BARS], 'x')
  widths = {}
  for path in figure.iter('path'):
    xs = [float(x) for x in re.findall(r'[ML] ([\d.]+)', path.get('d'))]
    name = path.get('fill', '')
    if name.startswith('var(--series') and 'clip-path' in path.attrib:
      widths.setdefault(name, []).append(max(xs) - min(xs))
  encode, steps = widths['var(--series-0)'], widths['var(--series-1)']
  assert encode[1] == pytest.approx(6 * encode[0])
  assert max(steps) == pytest.approx(2 * encode[0])
  assert figure.find('svg').get('aria-label') == 'ms; in all: PiD 3, PiE 6'


def test_files_are_deterministic_and_their_text_is_text(tmp_path):
  contents = []
  for _ in range(2):
    names = figures.save([LOGARITHMIC, BARS], tmp_path, 'both')
    assert names == ['both.svg', 'both.png']
    contents.append([(tmp_path / name).read_bytes() for name in names])
  assert contents[0] == contents[1]
  assert b'>size</text>' in contents[0][0]
  assert contents[0][1].startswith(b'\x89PNG')


def test_long_curves_are_small_and_keep_their_values():
  curve = figures.Series('', [(i, float(i == 777)) for i in range(5000)])
  (figure,) = figures.to_elements([figures.Panel('loss', [curve])], 'x')
  assert len(ElementTree.tostring(figure)) < 60_000
  assert 100 < len(_titles(figure)) <= 300


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
  assert figures.number(value) == text
