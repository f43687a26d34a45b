"""Imported before numpy and torch: one thread, and the packages where they are not installed.

One thread, because speeds are per core and because compiled code keeps its thread team spinning.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"
sys.path.insert(0, str(ROOT))  # before this folder, whose forcefield.py is not the package
