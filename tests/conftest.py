"""Before anything imports torch: one thread. Small tensors gain nothing from more, and a busy machine
makes threads wait for each other; commands that tests start inherit it."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
