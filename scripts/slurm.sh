#!/bin/bash
# Workers of a sweep as a Slurm job array, each with one GPU. From a folder that all nodes see:
#
#   sbatch --array=0-7 scripts/slurm.sh --config ablations/losses --workdir runs/losses
#
# What a job asks for can be changed there, too: sbatch --array=0-7 --partition=a --time=1:00:00 ...
# Two minutes before its time is up, a worker writes a checkpoint and leaves its cells to the others.
#
#SBATCH --job-name=nst_jax
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=4:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail
[[ -f venv/bin/activate ]] && source venv/bin/activate
srun python -m nst_jax.sweep "$@" --worker
