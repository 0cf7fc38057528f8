#!/bin/bash
# One recipe on several machines under SLURM: sbatch docs/slurm.sh image/imagenet/pretrain_large_1600 --set data.root=/data/imagenet
# Two minutes before its time ends the job saves a checkpoint and goes back into the queue, where it goes on, on any
# number of machines: the effective batch, the samples of a step and their masks stay the same. Never tried on a cluster;
# tests/end_to_end/test_scale_out.py runs it with stand-ins for srun and scontrol.
#SBATCH --job-name=maekit
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -uo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # another for every job
stopped=no
trap 'stopped=yes; kill -TERM "$step"' TERM

# `runs` must be on storage that all machines share. Workers that read pictures: training.workers is for each process.
srun --kill-on-bad-exit=1 .venv/bin/torchrun \
    --nnodes="$SLURM_NNODES" --nproc-per-node="$SLURM_GPUS_ON_NODE" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint="$head:$port" --rdzv-id="$SLURM_JOB_ID" \
    -m maekit pretrain "$@" &
step=$!
wait "$step"
status=$?
if [ "$stopped" = yes ]; then
    wait "$step" # the signal ended the first wait; this one lasts until the checkpoint is saved
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
