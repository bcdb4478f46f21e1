"""A real SLURM of two nodes on this one host, without systemd and without an accounting service.

Debian's build lets several slurmd live on a host. All files are in one folder, all addresses on the loopback device.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

DAEMONS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue")
SBIN = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
CGROUP = "CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n"
CONFIG = """\
ClusterName=lab
SlurmctldHost=localhost(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/run/munge.sock
CredType=cred/munge
StateSaveLocation={folder}/spool/ctld
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/run/slurmctld.pid
SlurmdPidFile={folder}/run/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldPort={ports[0]}
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_interval=5
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=10
MinJobAge=3600
MessageTimeout=20
InactiveLimit=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=4 RealMemory=8000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=4 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=60 State=UP PriorityTier=1 GraceTime=120 PreemptMode=REQUEUE \
OverSubscribe=NO
PartitionName=hi Nodes=n1,n2 MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""
CLIENT_SECONDS = 60
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED"}


@dataclass(frozen=True)
class Cluster:
    """A running cluster; `environment` is what its commands, and jobs submitted from Python, need."""

    folder: Path
    environment: Mapping[str, str]

    def run(self, *command: str, **more: str) -> str:
        """Returns what a client command prints; `more` are variables beside those of the cluster."""
        environment = {**self.environment, **more}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=CLIENT_SECONDS)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def states(self, job: str) -> dict[str, str]:
        """Returns the state of each element of a job that SLURM still knows."""
        text = self.run("scontrol", "--oneliner", "show", "job", job)
        fields = [dict(word.partition("=")[::2] for word in line.split()) for line in text.splitlines() if line]
        return {item["JobId"]: item["JobState"] for item in fields}

    def is_over(self, job: str) -> bool:
        """Returns whether all elements of a job have ended and will not start again."""
        return set(self.states(job).values()) <= OVER

    def start_again(self, job: str) -> None:
        """Spares a job that has just been requeued its two minutes of waiting, all but three seconds.

        A node knows by whole seconds which of a job's starts it has ended: one in the same second it would refuse
        ("Killing non-startable batch JobId: Job credential revoked"), and the job would fail.
        """
        self.run("scontrol", "update", f"job={job}", "StartTime=now+3")

    def logs(self) -> str:
        """Returns the ends of the logs, for a message about a failure."""
        files = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"{file.name}: {file.read_text()[-2000:]}" for file in files)


def missing() -> str:
    """Returns why there can be no cluster on this machine; empty if there can."""
    absent = [name for name in DAEMONS if shutil.which(name, path=SBIN) is None]
    if absent:
        return f"SLURM is not installed ({', '.join(absent)}): apt-get install slurm-wlm slurm-client munge"
    return "" if os.geteuid() == 0 else "a SLURM of one's own needs root"


def _ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    found = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return found


def _write(folder: Path) -> None:
    for name in ("run", "log", "spool/ctld", "spool/n1", "spool/n2", "etc"):
        (folder / name).mkdir(parents=True)
    (folder / "etc/munge.key").write_bytes(os.urandom(256))
    (folder / "etc/munge.key").chmod(0o400)
    (folder / "etc/cgroup.conf").write_text(CGROUP)
    text = CONFIG.format(folder=folder, ports=_ports(3), host=socket.gethostname().partition(".")[0])
    (folder / "etc/slurm.conf").write_text(text)


def _start(folder: Path, environment: Mapping[str, str]) -> list[subprocess.Popen[bytes]]:
    """Returns the services, started in the foreground so that they are ours to end."""
    munge = [
        f"--{name}-file={folder}/{path}"
        for name, path in (
            ("key", "etc/munge.key"),
            ("pid", "run/munged.pid"),
            ("log", "log/munged.log"),
            ("seed", "run/munged.seed"),
        )
    ]
    commands = [
        ["munged", "--foreground", "--force", f"--socket={folder}/run/munge.sock", *munge],
        ["slurmctld", "-D"],
        ["slurmd", "-D", "-N", "n1"],
        ["slurmd", "-D", "-N", "n2"],
    ]
    started = []
    for command in commands:
        with (folder / "log" / f"{command[0]}{len(started)}.out.log").open("wb") as log:
            started.append(
                subprocess.Popen(command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            )
        if command[0] == "munged":
            _until(lambda: (folder / "run/munge.sock").exists(), 10)
    return started


def _until(condition: object, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.1)
    return False


def _ready(cluster: Cluster) -> bool:
    with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
        return cluster.run("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T").split() == ["idle"] * 2
    return False


@contextmanager
def two_nodes(folder: Path) -> Iterator[Cluster]:
    """Gives a cluster of the nodes n1 and n2, with a partition `main` and a partition `hi` that pre-empts it."""
    reason = missing()
    if reason:
        pytest.skip(reason)
    _write(folder)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
    environment = {
        **kept,
        "PATH": SBIN,
        "SLURM_CONF": f"{folder}/etc/slurm.conf",
        "MASTER_ADDR": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    cluster = Cluster(folder, environment)
    services = _start(folder, environment)
    try:
        if not _until(lambda: _ready(cluster), 120):
            pytest.fail(f"the two nodes did not come up:\n{cluster.logs()}")
        yield cluster
    finally:
        for service in reversed(services):
            service.send_signal(signal.SIGTERM)
        for service in reversed(services):
            try:
                service.wait(10)
            except subprocess.TimeoutExpired:
                service.kill()
                service.wait()
        _end_jobs(environment["SLURM_CONF"])


def _end_jobs(config: str) -> None:
    """Ends what jobs of this cluster are left, with slurmstepd, which would wait for its services for minutes."""
    mark = f"SLURM_CONF={config}".encode()
    for item in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (item / "environ").read_bytes().split(b"\0") and int(item.name) != os.getpid():
                os.kill(int(item.name), signal.SIGKILL)
