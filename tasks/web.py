# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Downloads in bounded time.

Without a connection, tfds retries for minutes and leaves temporary folders
behind, and TensorFlow's file system for gs:// searches for credentials as long.
A request by `fetch` comes first, and fails within TIMEOUT_SECONDS, so that the
user soon learns to get the files in another way.
"""

from __future__ import annotations

import threading
import urllib.request

TIMEOUT_SECONDS = 30  # In total, including the DNS lookup.


def fetch(url: str, num_bytes: int | None = None) -> bytes:
  """Reads the content of a URL.

  Args:
    url: the address.
    num_bytes: read only this many; None reads all.

  Raises:
    OSError: there is no answer in time, or no such file.
  """
  result = {}

  def read():
    try:
      with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:
        result['content'] = response.read(*([num_bytes] if num_bytes else []))
    except (OSError, ValueError) as e:
      result['error'] = str(e).strip('<>')

  # In a thread, since the DNS lookup has no timeout.
  thread = threading.Thread(target=read, daemon=True)
  thread.start()
  thread.join(TIMEOUT_SECONDS)
  if 'content' in result:
    return result['content']
  why = result.get('error', f'no answer in {TIMEOUT_SECONDS} s')
  raise OSError(f'{url}: {why}')
