# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""A headless Chromium for tests of pages, driven by the WebDriver protocol.

Needs the programs `chromium` and `chromedriver` (Debian: the packages chromium
and chromium-driver) and nothing from Python: the protocol is JSON over HTTP.
"""

from __future__ import annotations

import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import time
from typing import Any
import urllib.error
import urllib.request

_BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')


def missing() -> str | None:
  """What must be installed to run a browser; None if nothing."""
  if not any(map(shutil.which, _BROWSERS)):
    return 'no Chromium is installed (Debian: apt-get install chromium)'
  if not shutil.which('chromedriver'):
    return 'chromedriver is missing (Debian: apt-get install chromium-driver)'
  return None


class Browser:
  """A browser with one window; a context manager."""

  def __init__(self, folder: pathlib.Path):
    """Starts it.

    Args:
      folder: an empty one, for its profile.
    """
    self._stack = contextlib.ExitStack()
    driver = self._stack.enter_context(
      subprocess.Popen(
        ['chromedriver', '--port=0'],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
      )
    )
    self._stack.callback(driver.terminate)
    port = None
    while port is None:
      line = driver.stdout.readline()
      assert line, 'chromedriver ended'
      if 'successfully on port ' in line:
        port = int(line.rpartition('on port ')[2].strip(' .\n'))
    self._url = f'http://127.0.0.1:{port}'
    arguments = [
      '--headless=new',
      '--no-sandbox',  # Containers run as root.
      '--disable-dev-shm-usage',
      '--disable-gpu',
      '--no-first-run',
      f'--user-data-dir={folder}',
    ]
    session = self._call(
      'POST',
      '/session',
      {
        'capabilities': {
          'alwaysMatch': {
            'goog:chromeOptions': {
              'binary': next(filter(None, map(shutil.which, _BROWSERS))),
              'args': arguments,
            },
            'goog:loggingPrefs': {'browser': 'ALL', 'performance': 'ALL'},
          }
        }
      },
    )
    self._url += f'/session/{session["sessionId"]}'
    self._stack.callback(self._call, 'DELETE', '')
    # A new window asks for parts of the browser's own.
    self.open('about:blank')
    self.requested()

  def __enter__(self) -> Browser:
    return self

  def __exit__(self, *unused) -> None:
    self._stack.close()

  def open(self, url: str) -> float:
    """Opens a page; returns the seconds until it was loaded."""
    start = time.monotonic()
    self._call('POST', '/url', {'url': url})
    return time.monotonic() - start

  def run(self, script: str, *args: Any) -> Any:
    """Runs the body of a JavaScript function; returns what it returns."""
    return self._call(
      'POST', '/execute/sync', {'script': script, 'args': list(args)}
    )

  def wait(self, condition: str, *args: Any, seconds: float = 20.0) -> Any:
    """Waits until a JavaScript expression is true; returns its value."""
    end = time.monotonic() + seconds
    while True:
      value = self.run(f'return {condition}', *args)
      if value:
        return value
      assert time.monotonic() < end, f'in vain: {condition}'
      time.sleep(0.02)

  def command(self, name: str, **params: Any) -> Any:
    """Sends a command of the DevTools protocol."""
    return self._call(
      'POST', '/goog/cdp/execute', {'cmd': name, 'params': params}
    )

  def log(self, kind: str) -> list[dict[str, Any]]:
    """What came since last asked: of 'browser' (errors), or 'performance'."""
    return self._call('POST', '/se/log', {'type': kind})

  def requested(self) -> list[str]:
    """The addresses that were requested since last asked."""
    events = [json.loads(entry['message']) for entry in self.log('performance')]
    return [
      event['message']['params']['request']['url']
      for event in events
      if event['message']['method'] == 'Network.requestWillBeSent'
    ]

  def resize(self, width: int, height: int) -> None:
    """Sets the size of the page in CSS pixels."""
    self.command(
      'Emulation.setDeviceMetricsOverride',
      width=width,
      height=height,
      deviceScaleFactor=1,
      mobile=width < 600,
    )

  def prefer(self, scheme: str) -> None:
    """Sets the reader's preference: 'light' or 'dark'."""
    feature = {'name': 'prefers-color-scheme', 'value': scheme}
    self.command('Emulation.setEmulatedMedia', features=[feature])

  def screenshot(self) -> bytes:
    """Takes a picture of the window, a PNG."""
    return base64.b64decode(self._call('GET', '/screenshot'))

  def print_pdf(self) -> bytes:
    """Prints the page."""
    return base64.b64decode(self._call('POST', '/print', {'background': True}))

  def _call(self, method: str, path: str, body: Any = None) -> Any:
    request = urllib.request.Request(
      self._url + path,
      data=None if body is None else json.dumps(body).encode(),
      headers={'Content-Type': 'application/json'},
      method=method,
    )
    try:
      with urllib.request.urlopen(request, timeout=180) as response:
        return json.load(response)['value']
    except urllib.error.HTTPError as e:
      with e:
        raise AssertionError(json.load(e)['value']['message']) from None
