#!/usr/bin/env bash
# Trains the runs that show what the diffusion adds, in equal gradient steps: four backbones alone
# and with it, its ablations on ViSNet, and two of them from a second seed. Runs that are there are
# left alone. Then:  python benchmarks/forcefield.py --rows effect --runs runs/effect
#   benchmarks/effect.sh [STEPS] [RUN ...]       a run: BACKBONE-DIFFUSION or BACKBONE-DIFFUSION-seedN
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-2000}
shift || true
runs=("$@")
if [[ ${#runs[@]} == 0 ]]; then
    runs=({visnet,mace,nequip,segno}-{none,full} visnet-{scalar,local,message_passing}
        visnet-{none,full}-seed1)
fi
for run in "${runs[@]}"; do
    backbone=${run%%-*} kind=${run#*-} seed=0
    case $kind in *-seed*) seed=${kind##*-seed} kind=${kind%-seed*} ;; esac
    config=configs/forcefield/3bpa-$backbone-ggnd.yaml # its sizes keep the parameters within 10 %
    [[ $kind == none ]] && config=configs/forcefield/3bpa-$backbone.yaml
    [[ -d runs/effect/$run/$run ]] && continue
    python -m forcefield.train --config "$config" --diffusion.kind "$kind" --run.seed "$seed" \
        --run.steps "$steps" --run.epoch_steps 250 --loss.energy "{0: 1.0, $((steps * 3 / 4)): 100.0}" \
        --optimiser.ema_decay 0.99 --run.out "runs/effect/$run" --run.name "$run" --run.resume true
done
