"""Functions that come with headrace, made as users make theirs: `detect`, `profile`, `redact`. Loaded by path, one file each.

What each version computes is locked in `functions.lock.json`, like in any folder of functions.
"""

from pathlib import Path

FOLDER = Path(__file__).parent
