# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""HTML as a tree of elements, so that no text is ever taken for markup.

The standard library's ElementTree escapes texts and attributes when the tree is
written. Its tails (what stands behind an element) are awkward to build by hand:
`element` takes children and texts in the order in which they are to be read.
"""

from __future__ import annotations

import json
import re
from typing import Any
from xml.etree import ElementTree

Element = ElementTree.Element

# Inside <script>, '<' could end the element or begin a comment; the line
# separators end a line of older JavaScript; halves of a surrogate pair, which a
# Python string may hold, are not UTF-8.
_UNSAFE_IN_SCRIPT = re.compile('[<>&\u2028\u2029\ud800-\udfff]')
# What HTML cannot hold: controls, and halves of a surrogate pair.
_NOT_IN_HTML = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]')


def element(
  name: str, /, *children: Element | str, **attributes: Any
) -> Element:
  """Makes an element.

  Args:
    name: of the element.
    *children: elements and texts, in order.
    **attributes: a trailing underscore is dropped (`class_`), others become
      hyphens; True is an attribute without a value, None and False are none.

  Returns:
    The element. Its children belong to it alone.
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


def to_html(root: Element) -> str:
  """Writes the tree of a document.

  Texts of <script> and <style> are written as they are, as HTML wants it; only
  this package's own files and `to_json` go there.

  Args:
    root: the element <html>.
  """
  body = ElementTree.tostring(root, encoding='unicode', method='html')
  return f'<!doctype html>\n{body}\n'


def to_json(value: Any) -> str:
  """Writes JSON that is the same inside <script> as outside."""
  text = json.dumps(value, ensure_ascii=False, separators=(',', ':'))
  return _UNSAFE_IN_SCRIPT.sub(lambda m: f'\\u{ord(m[0]):04x}', text)


def _clean(text: str) -> str:
  return _NOT_IN_HTML.sub('\ufffd', text)
