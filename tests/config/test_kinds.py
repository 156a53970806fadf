"""Jobs that keep replicas: what does not fit together, and what their keys mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntxengine.config.jobs import Job
from ntxengine.config.kinds import KINDS, kind_of
from ntxengine.config.meaning import replica_state, replica_target, replicate_options
from ntxengine.config.reading import parse
from ntxengine.dataplane.bandwidth import Bandwidth
from tests.config.test_reading import read, refused

CLUSTER = "nutanix: {prism_central: pc, username: u}\n"
GOOD = "name: a, vms: [db01], every: 15m"
NBD = "replicate: {to: 'nbd://h/{disk}', state: /s}"


def jobs(*texts: str) -> str:
    return CLUSTER + "jobs:\n" + "".join(f"  - {{{text}}}\n" for text in texts)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (f"{GOOD}, replicate: kvm:/r", ["jobs[0].replicate: must be keys with values"]),
        (f"{GOOD}, replicate: {{state: /r}}", ["f.yaml:3: jobs[0].replicate.to: is missing"]),
        (
            f"{GOOD}, replicate: {{to: 'kwm:/r'}}",
            ["jobs[0].replicate.to: 'kwm:/r': is no target of a replica"],
        ),
        (f"{GOOD}, replicate: {{to: 'kvm:'}}", ["jobs[0].replicate.to: 'kvm:': names no folder: write kvm:DIR"]),
        (f"{GOOD}, replicate: {{to: 'ovf:/r'}}", ["takes a whole copy each time, and follows nothing"]),
        (
            f"{GOOD}, replicate: {{to: 'kvm:/r', fromat: raw}}",
            ["replicate.fromat: unknown key; nearest: format"],
        ),
        (
            f"{GOOD}, replicate: {{to: 'kvm:/r', format: qcow}}",
            ["replicate.format: 'qcow' is none of raw, qcow2"],
        ),
        (f"{GOOD}, replicate: {{to: 'kvm:/r', history: 2}}", ["jobs[0].replicate.history: is not kept as raw"]),
        (f"{GOOD}, replicate: {{to: 'kvm:/r', networks: [x]}}", ["jobs[0].replicate.networks[0]: 'x' does not say"]),
        (f"{GOOD}, replicate: {{to: 'kvm:/r', sample: much}}", ["jobs[0].replicate.sample: 'much' is not a size"]),
        (f"{GOOD}, replicate: {{to: 'kvm:/r'}}, repository: /x", ["jobs[0].repository: contradicts replicate"]),
        (
            f"{GOOD}, replicate: {{to: 'kvm:/r'}}, retention: {{keep_last: 2}}",
            ["jobs[0].retention: contradicts replicate: give one of them"],
        ),
        (f"{GOOD}, replicate: {{to: 'nbd://h/{{disk}}'}}", ["is no directory that could hold the state: give state"]),
        (f"{GOOD}, replicate: {{to: 'nbds://h/{{disk}}', state: /s}}", ["say whom to trust, with tls_ca or tls_psk"]),
        (f"{GOOD.replace('db01', 'db*')}, {NBD}", ["takes the disks of one VM: name it in vms"]),
    ],
)
def test_what_does_not_fit_is_a_mistake(text: str, lines: list[str]) -> None:
    found = refused(jobs(text))

    assert len(found) == len(lines), found
    assert all(line in each for line, each in zip(lines, found, strict=True)), found


def test_replicas_have_servers_and_a_state_of_their_own() -> None:
    first, second = f"{GOOD}, {NBD}", f"{GOOD.replace('name: a', 'name: b')}, {NBD}"
    third = "name: c, vms: [x], every: 1h, repository: /s"

    found = refused(jobs(first, second, third))

    assert sorted(line.partition(": ")[2] for line in found) == [
        "jobs[0].replicate.state: is the repository of jobs[2]: give replicas a directory of their own",
        "jobs[1].replicate.state: is the repository of jobs[2]: give replicas a directory of their own",
        "jobs[1].replicate.to: jobs[0] writes there, too: one would destroy what the other has written",
    ]


def test_what_is_of_points_alone_is_a_warning() -> None:
    found = read(jobs(f"{GOOD}, replicate: {{to: 'kvm:/r'}}, compress: zstd")).warnings

    assert found == ("f.yaml:3: jobs[0].compress: is not used: the job keeps replicas, and no points",)


def test_keys_mean_what_the_options_of_the_command_do(tmp_path: Path) -> None:
    said = "to: 'kvm:r', format: qcow2, history: 3, networks: ['*=bridge:br0'], sample: 0"
    text = jobs(f"{GOOD}, consistency: crash, replicate: {{{said}}}")
    config = parse(text.encode(), "f.yaml", folder=tmp_path).config
    (job,) = config.jobs
    assert job.replicate is not None
    target = replica_target(job.replicate)
    options = replicate_options(config.backup_of(job), job.replicate, Bandwidth(0), at_once=3)

    assert kind_of(job) == "replicate"
    assert (target.text, target.form, target.options.history) == (f"kvm:{tmp_path / 'r'}", "qcow2", 3)
    assert replica_state(job.replicate) == tmp_path / "r" / ".ntx-replicas"
    assert (options.sample_bytes, options.capture.consistency, options.capture.captures_at_once) == (0, "crash", 3)


def test_each_kind_but_the_usual_one_is_a_key_of_jobs() -> None:
    *others, usual = KINDS

    assert set(others) <= set(Job.model_fields)
    assert usual not in Job.model_fields
