#!/bin/sh
# A SLURM of this machine alone, for tests: slurm.sh start FOLDER, slurm.sh stop FOLDER. As root, with Debian's slurm-wlm and munge:
#   apt-get install slurm-wlm munge
# All of it lies in FOLDER; its commands need SLURM_CONF=FOLDER/slurm.conf. Two CPUs, whatever the machine has; no cgroups, no systemd.
set -eu
folder=$2
host=$(hostname -s)
ended() {   # waits for a process to be gone
    tries=0
    while kill -0 "$1" 2>/dev/null && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
}
if [ "$1" = stop ]; then
    for name in slurmd slurmctld munged; do
        pid=$(cat "$folder/$name.pid" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        ended "$pid"
    done
    exit
fi
mkdir -p "$folder/state" "$folder/spool"
chmod 755 "$folder"
dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 2>/dev/null
chmod 600 "$folder/munge.key"
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
cat > "$folder/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURM_PORT:-16817}
SlurmdPort=${SLURMD_PORT:-16818}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
KillWait=2
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
slurmctld
slurmd -C >/dev/null
slurmd
tries=0
until sinfo --noheader --states=idle 2>/dev/null | grep -q .; do
    tries=$((tries + 1))
    [ $tries -lt 60 ] || { echo "SLURM does not come up: see $folder/slurmctld.log and slurmd.log" >&2; exit 1; }
    sleep 1
done
