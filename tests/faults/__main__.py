"""Runs schedules of faults: ``python -m tests.faults --help``."""

import sys
from pathlib import Path

# as pytest has it, whose tests import this package too
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from faults.soak import main

if __name__ == "__main__":
    main()
