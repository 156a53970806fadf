"""What has to fit together: mistakes, and warnings where it most likely is one."""

from __future__ import annotations

import pytest

from tests.config.test_reading import CLUSTER, job, read, refused

GOOD = "name: a\nvms: [db01]\nevery: 15m"


def test_a_whole_job_has_neither_mistakes_nor_warnings() -> None:
    assert read(job(GOOD)).warnings == ()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (job("name: a\nvms: [x]"), ["f.yaml:5: jobs[0]: never runs: give every or cron"]),
        (job("name: a\nevery: 1h"), ["f.yaml:5: jobs[0]: chooses no VMs"]),
        (job(GOOD, "nutanix: {prism_central: pc, username: u}\n"), ["f.yaml:4: jobs[0]: has no repository"]),
        (job(GOOD + "\ncron: '0 2 * * *'"), ["f.yaml:8: jobs[0].cron: contradicts every: give one of them"]),
        (job(GOOD + "\njitter: 15m"), ["jobs[0].jitter: 15m is not shorter than every 15m"]),
        (job("name: a\nvms: [x]\ncron: '0 2 * * *'\njitter: 25h"), ["jobs[0].jitter: 1d1h is more than 1d"]),
        (job(GOOD + "\nretention: {prune: true}"), ["f.yaml:8: jobs[0].retention: keeps nothing: give keep_last"]),
        (job(GOOD + "\nwriter: qemu\ncompress: zstd"), ["jobs[0]: writer qemu: only our own writer compresses"]),
        (job(GOOD) + "  - {name: a, vms: [x], every: 1h}", ["f.yaml:8: jobs[1].name: jobs[0] has the name a, too"]),
        (job(GOOD, "backup: {repository: /r}\n"), ["neither prism_central nor prism_element"]),
        (
            "agent: {metrics: {listen: '0.0.0.0:9108'}}",
            ["f.yaml:1: agent.metrics.listen: whoever reaches 0.0.0.0:9108 can read the names of VMs: give token_file"],
        ),
        ("agent: {metrics: {listen: '[2001:db8::1]:9108'}}", ["whoever reaches [2001:db8::1]:9108"]),
        ("agent: {socket: /run/" + "x" * 120 + "}", ["agent.socket: is too long for a unix socket: 125 bytes, 107"]),
        ("nutanix: {username: u}", ["f.yaml:1: nutanix: neither prism_central nor prism_element"]),
        ("nutanix: {prism_central: pc}", ["f.yaml:1: nutanix: username is missing"]),
        ("nutanix: {prism_central: pc, auth: saml}", ["a SAML user logs in with a browser"]),
        ("nutanix: {prism_central: pc, auth: ad, username: u}", ["user@domain"]),
        ("nutanix: {prism_element: pe, auth: api_key, api: v3}", ["an API key is for v4 only"]),
        (
            "nutanix: {prism_central: pc, username: u, password: a,\n password_file: b}",
            ["f.yaml:2: nutanix.password_file: contradicts password: give one of them"],
        ),
        (
            f"nutanix: {{prism_central: pc, username: u, insecure: true, fingerprint: {'ab' * 32}}}",
            ["a fingerprint and insecure contradict each other"],
        ),
        ("performance: {bandwidth: 5M, bandwidth_limit_mbps: 5}", ["contradicts bandwidth"]),
        ("backup: {snapshot_retention_hours: 1, keep_recovery_point: 7d}", ["contradicts snapshot_retention_hours"]),
        ("backup: {compress: zstd, zstd_level: 3}", ["contradicts compress"]),
        ("backup: {request_size: 65K}", ["not a multiple of 64 KiB"]),
        ("backup: {compress_again: true}", ["no compression was asked for"]),
        (CLUSTER + "profiles: {lab: {nutanix: {auth: saml}}}", ["profiles.lab.nutanix: a SAML user"]),
        (CLUSTER + "profiles: {lab: {backup: {compress_again: true}}}", ["profiles.lab.backup: disks were"]),
    ],
)
def test_what_does_not_fit_is_a_mistake(text: str, lines: list[str]) -> None:
    found = refused(text)

    assert len(found) == len(lines), found
    assert all(any(line in each for each in found) for line in lines), found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (job("name: a\nvms: [x]\nevery: 7d"), "f.yaml:7: jobs[0].every: the cluster keeps our recovery point for 7d"),
        (job(GOOD.replace("15m", "1d") + "\nkeep_recovery_point: 12h"), "each would find its reference gone"),
        (job("name: a\nvms: [x]\ncron: '0 2 1 * *'"), "the next run is 31d later"),
        (job(GOOD + "\nobjective: 10m"), "jobs[0].objective: 10m cannot be kept: runs are 15m apart"),
        ("nutanix: {prism_central: pc, username: u, insecure: true}", "nutanix.insecure: anybody between here"),
        ("nutanix: {prism_central: pc, username: u, api_key: k}", "nutanix.api_key: is not used: auth is local"),
        ("nutanix: {prism_central: pc, auth: api_key, password: k}", "nutanix.password: is not used"),
        ("nutanix: {prism_central: pc, username: u, element_username: k}", "is for a prism_element beside"),
        ("nutanix: {prism_central: pc, username: u, trust_file: /k}", "not used without trust_on_first_use"),
        ("agent: {socket_mode: '0666'}", "agent.socket_mode: 0666 lets every user of this machine pause jobs"),
    ],
)
def test_what_most_likely_is_a_mistake_is_a_warning(text: str, line: str) -> None:
    found = read(text).warnings

    assert len(found) == 1, found
    assert line in found[0]


def test_what_follows_from_a_mistake_is_not_said_again() -> None:
    assert len(refused(job("name: a\nvms: [x]\nevry: 15m"))) == 1
    assert len(refused(job(GOOD, CLUSTER.replace("repository", "repostory")))) == 1
    assert len(refused(job(GOOD, CLUSTER.replace("prism_central", "prism_centrall")))) == 1


def test_a_job_has_what_is_its_own_and_else_what_all_have() -> None:
    text = job(GOOD + "\nkeep_recovery_point: 3d\nverify: false\nzstd_level: 0", CLUSTER.replace("}", "}", 1))
    config = read(
        text.replace("{repository: /r}", "{repository: /r, snapshot_retention_hours: 24, compress: zstd:3}")
    ).config

    found = config.backup_of(config.jobs[0])

    assert (found.repository, found.verify) == ("/r", False)
    assert (found.keep_recovery_point, found.snapshot_retention_hours) == ("3d", None)
    assert (found.compress, found.zstd_level) == (None, 0)


def test_a_profile_takes_the_place_of_what_it_names() -> None:
    text = CLUSTER + "profiles: {lab: {nutanix: {prism_central: lab, password: x}, performance: {bandwidth: 5M}}}\n"
    loaded = read("performance: {bandwidth_limit_mbps: 500, max_concurrent_vms: 7}\n" + text)

    found = loaded.config.with_profile("lab")

    assert (found.nutanix.prism_central, found.nutanix.username) == ("lab", "u")
    assert found.performance.model_dump(include={"bandwidth", "bandwidth_limit_mbps", "max_concurrent_vms"}) == {
        "bandwidth": "5M",
        "bandwidth_limit_mbps": None,
        "max_concurrent_vms": 7,
    }
    assert loaded.config.with_profile(None) is loaded.config


def test_no_secret_of_the_cluster_is_an_argument_of_a_hook() -> None:
    text = job(GOOD + "\nhooks: {failure: [tell, --password=s3cret]}").replace(
        "username: u", "username: u, password: s3cret"
    )

    (problem,) = refused(text)

    assert problem.startswith("f.yaml:8: jobs[0].hooks.failure: holds nutanix.password: everybody on this machine can")
    assert read(text.replace("s3cret}", "te}")).warnings == ()
