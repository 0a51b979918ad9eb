"""Lets the tests of this folder share known_world.py: in importlib mode pytest puts no test folder on the path."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
