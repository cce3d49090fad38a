#!/usr/bin/env bash
# Trains on a Slurm cluster, by default on two machines with four GPUs each:
#
#   sbatch cloud/slurm.sh --config.data.source=PHOTOS --workdir=RUN [FLAGS OF launch.py ...]
#
# from the root of a clone whose environment (README.md) is active. Clone, photos and RUN must
# be on storage that all machines share. Options of sbatch come before the script:
# sbatch --nodes=1 cloud/slurm.sh ... The batch size must be a multiple of all GPUs.
#SBATCH --job-name=colorgan
#SBATCH --nodes=2
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.txt
# Above: one task for each GPU, as JAX expects under Slurm; SIGTERM five minutes before the
# end of the time, upon which launch.py saves; and the lines of all parts in one file.
set -uo pipefail

srun python launch.py --config=configs/pix2pix.py --config.compute_dtype=bfloat16 \
  --multihost "$@"
code=$?

# Saved at SIGTERM (143) or at --config.time_limit_minutes (75): the job goes on when its turn
# comes again. Errors end it. So does scancel, which ends this script as well.
if ((code == 143 || code == 75)); then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
