#!/bin/bash
# Grow on a Slurm cluster:  sbatch docs/scale/slurm.sh --run runs/big --depth 12
# What follows slurm.sh is what follows `sprout grow`. The run's folder must be seen by the first node; the others need only
# the same installation. Where a node or a process dies, the run goes on from its last checkpoint; so does the job when its
# time is up, or when the cluster takes the nodes away.
#SBATCH --job-name=sprout
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sprout-%j.log
#SBATCH --signal=B:USR1@90

trap 'echo "the time is up; the job goes on in another turn"; scontrol requeue "$SLURM_JOB_ID"' USR1

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
processes=${SPROUT_PROCESSES:-${SLURM_GPUS_ON_NODE:-1}} # on each node
status=1
for try in 1 2 3 4 5 6; do
    began=$SECONDS
    port=$((20000 + (SLURM_JOB_ID * 7 + try) % 20000)) # another one each time: the last one's may still be in use
    # The variables are each node's own, so they are read there, and the options stay apart as they were given.
    # shellcheck disable=SC2016
    srun --kill-on-bad-exit=1 bash -c '
        exec torchrun --nnodes "$SLURM_JOB_NUM_NODES" --node-rank "$SLURM_NODEID" --master-addr "$0" --master-port "$1" \
            --nproc-per-node "$2" -m sprout -- grow "${@:3}"' "$first" "$port" "$processes" "$@" &
    step=$!
    wait "$step" # in the background, since a trap waits for what runs in the foreground
    status=$?
    while kill -0 "$step" 2>/dev/null; do wait "$step"; status=$?; done
    [ "$status" -eq 0 ] && exit 0
    if [ $((SECONDS - began)) -lt "${SPROUT_AT_ONCE:-120}" ]; then
        echo "it ended within two minutes with status $status: a mistake rather than an accident; not tried again"
        exit "$status"
    fi
    echo "try $try ended with status $status; the same command goes on from the last checkpoint"
done
exit "$status"
