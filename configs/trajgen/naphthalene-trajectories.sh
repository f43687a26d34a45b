#!/usr/bin/env bash
# Makes what configs/trajgen/naphthalene.yaml trains on beside the 10 ps of its data set, in which
# naphthalene's vibrations hardly exchange energy: 24 trajectories of 1 ps of our own force field
# `md17s` (itself trained on the same frames), velocities drawn anew. Some ten minutes on one core.
set -euo pipefail
folder=runs/forcefield-naphthalene
mkdir -p "$folder"
python - "$folder/starts.xyz" <<'PYTHON'
import sys

import ase
import ase.io

from shared.data.md17 import load_md17s

frames = load_md17s("naphthalene")
starts = [ase.Atoms(frames.numbers, frames.positions[row]) for row in (0, 2500, 5000)]
ase.io.write(sys.argv[1], starts)
PYTHON
for frame in 0 1 2; do
    python -m forcefield.simulate --from "$folder/starts.xyz" --frame "$frame" --checkpoint md17s \
        --ensemble md17 --replicas 8 --length-ps 1 --interval-fs 0.5 --format extxyz \
        --seed "$frame" --out "$folder/naph_$frame"
done
