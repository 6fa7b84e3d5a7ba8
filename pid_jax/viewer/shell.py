# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Assembles a self-contained page with inline styles, scripts and data.

The content security policy of the page forbids all requests, and all scripts
and styles except those whose digests it lists. So the output of a model could
not run even if it reached the page as markup.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
import hashlib
import importlib.resources
from typing import Any

from pid_jax.viewer import markup

_BASE_STYLE = 'base.css'


def page(
  title: str,
  body: Sequence[markup.Element],
  *,
  styles: Sequence[str] = (),
  scripts: Sequence[str] = (),
  data: Any = None,
) -> str:
  """Assembles a page.

  Args:
    title: of the window.
    body: its elements.
    styles: names of files in assets/, in addition to base.css.
    scripts: names of files in assets/, concatenated to one script at the end of
      the body.
    data: for the scripts, as JSON in the element with the id 'data'.

  Returns:
    The whole document.
  """
  style = ''.join(map(_asset, [_BASE_STYLE, *styles]))
  script = ''.join(map(_asset, scripts))
  policy = [
    "default-src 'none'",
    "base-uri 'none'",
    "form-action 'none'",
    'img-src data:',
    f"style-src 'sha256-{_digest(style)}'",
    f"script-src 'sha256-{_digest(script)}'" if script else '',
  ]
  element = markup.element
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element(
      'meta',
      http_equiv='Content-Security-Policy',
      content='; '.join(filter(None, policy)),
    ),
    element(
      'meta', name='viewport', content='width=device-width, initial-scale=1'
    ),
    element('meta', name_='color-scheme', content='light dark'),
    element('link', rel='icon', href='data:,'),  # Avoids a request.
    element('title', title),
    element('style', style),
  )
  parts = list(body)
  if data is not None:
    parts.append(
      element(
        'script', markup.to_json(data), type='application/json', id='data'
      )
    )
  if script:
    parts.append(element('script', script))
  return markup.to_html(
    element('html', head, element('body', *parts), lang='en')
  )


def _asset(name: str) -> str:
  folder = importlib.resources.files('pid_jax.viewer')
  return folder.joinpath('assets', name).read_text(encoding='utf-8')


def _digest(text: str) -> str:
  """Digest of an inline style or script, as in a content security policy."""
  return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
