# Copyright 2026 The pid_jax Authors.
# SPDX-License-Identifier: Apache-2.0
"""Asks the network in bounded time.

Where nothing answers, tfds tries again for minutes, and leaves temporary
folders behind; TensorFlow's file system for gs:// looks for credentials as
long. So one request by ourselves comes before either, and no later than in
SECONDS a user knows that the files must come another way.
"""

from __future__ import annotations

import threading
import urllib.request

SECONDS = 30  # In all, the look-up of the name included.


def read(url: str, num_bytes: int | None = None) -> bytes:
  """Reads what lies at an address.

  Args:
    url: the address.
    num_bytes: read only so many; None reads all.

  Raises:
    OSError: nothing answers in time, or there is no such file.
  """
  found = {}

  def fetch():
    try:
      with urllib.request.urlopen(url, timeout=SECONDS) as response:
        found['content'] = response.read(*([num_bytes] if num_bytes else []))
    except (OSError, ValueError) as e:
      found['error'] = str(e).strip('<>')

  # The look-up of a name knows no time limit of its own.
  thread = threading.Thread(target=fetch, daemon=True)
  thread.start()
  thread.join(SECONDS)
  if 'content' in found:
    return found['content']
  why = found.get('error', f'no answer in {SECONDS} s')
  raise OSError(f'{url}: {why}')
