#!/bin/bash
# Pretrain one recipe on several nodes under SLURM:
#   sbatch docs/slurm.sh image/imagenet/pretrain_large_1600 --set data.root=/data/imagenet
# Two minutes before its time limit SLURM sends SIGTERM; the job saves a checkpoint and requeues itself. It then resumes from the
# checkpoint on any number of nodes with the same effective batch size, and with the same samples and masks in every step.
# Never run on a real cluster; tests/end_to_end/test_scale_out.py runs it with stand-ins for srun and scontrol.
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
port=$((20000 + SLURM_JOB_ID % 20000)) # a different port for each job, so that jobs on one node do not collide
stopped=no
trap 'stopped=yes; kill -TERM "$step"' TERM

# The folder `runs` must be on storage that all nodes share. training.workers is the number of data loading workers per process.
srun --kill-on-bad-exit=1 .venv/bin/torchrun \
    --nnodes="$SLURM_NNODES" --nproc-per-node="$SLURM_GPUS_ON_NODE" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint="$head:$port" --rdzv-id="$SLURM_JOB_ID" \
    -m maekit pretrain "$@" &
step=$!
wait "$step"
status=$?
if [ "$stopped" = yes ]; then
    wait "$step" # the signal interrupted the first wait; wait until the checkpoint is saved
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
