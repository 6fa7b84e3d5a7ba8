# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""HTML as a tree of elements, which escapes all text.

The standard library's ElementTree escapes texts and attributes when it writes a
tree. Its tails (the text after an element) are awkward to build by hand, so
`element` takes children and texts in reading order.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence
import json
import re
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element

# Inside <script>, '<' could end the element or begin a comment; the line
# separators end a line in older JavaScript; unpaired surrogates, which a Python
# string may contain, cannot be encoded as UTF-8.
_UNSAFE_IN_SCRIPT = re.compile('[<>&\u2028\u2029\ud800-\udfff]')
# Control characters and unpaired surrogates.
_NOT_IN_HTML = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]')


def element(
  name: str, /, *children: Element | str, **attributes: Any
) -> Element:
  """Builds an element.

  Args:
    name: of the element.
    *children: elements and texts, in order.
    **attributes: a trailing underscore is dropped (`class_`), others become
      hyphens; True is an attribute without a value, None and False omit it.

  Returns:
    The element. Its children must not be used elsewhere.
  """
  made = ElementTree.Element(name)
  for key, value in attributes.items():
    if value is not None and value is not False:
      key = key.rstrip('_').replace('_', '-')
      made.set(key, '' if value is True else _clean(str(value)))
  for child in children:
    if isinstance(child, Element):
      made.append(child)
    elif len(made):
      made[-1].tail = (made[-1].tail or '') + _clean(child)
    else:
      made.text = (made.text or '') + _clean(child)
  return made


def table(
  head: Sequence[str], rows: Iterable[tuple[str, Sequence[Element | str]]]
) -> Element:
  """Builds a table that can be scrolled sideways by itself.

  Args:
    head: titles of the columns, the first over the labels; empty for none.
    rows: label of each row and its cells: texts, or elements <td>.
  """
  body = [
    element(
      'tr',
      element('th', label, scope='row'),
      *[cell if isinstance(cell, Element) else _number(cell) for cell in cells],
    )
    for label, cells in rows
  ]
  titles = [
    element('th', title, scope='col', class_='number' if i else None)
    for i, title in enumerate(head)
  ]
  parts = [element('thead', element('tr', *titles))] if titles else []
  made = element('table', *parts, element('tbody', *body), class_='plain')
  return element('div', made, class_='scroll')


def _number(text: str) -> Element:
  return element('td', text, class_='number')


def to_html(root: Element) -> str:
  """Writes the tree of a document.

  The texts of <script> and <style> are not escaped, as HTML requires; only
  files of this package and results of `to_json` are written there.

  Args:
    root: the element <html>.
  """
  body = ElementTree.tostring(root, encoding='unicode', method='html')
  return f'<!doctype html>\n{body}\n'


def to_json(value: Any) -> str:
  """Returns JSON that is safe inside <script>."""
  text = json.dumps(value, ensure_ascii=False, separators=(',', ':'))
  return _UNSAFE_IN_SCRIPT.sub(lambda m: f'\\u{ord(m[0]):04x}', text)


def _clean(text: str) -> str:
  return _NOT_IN_HTML.sub('\ufffd', text)
