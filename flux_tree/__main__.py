"""``python -m flux_tree`` is the command ``flux-tree``."""

import sys

from .cli import main

sys.exit(main())
