"""What a configuration needs to write to is what the unit allows."""

from __future__ import annotations

from pathlib import Path

from ntxengine.config.reading import parse
from ntxengine.deploy.needs import needs_of

JOBS = """
nutanix: {prism_central: pc, username: u}
jobs:
  - {name: a, vms: [a], every: 1h, repository: /backups}
  - {name: b, vms: [b], every: 1h, replicate: {to: "kvm:/srv/replicas"}}
  - {name: c, vms: [c], every: 1h, replicate: {to: "vmware:/mnt/datastore", state: /srv/states}}
  - {name: d, vms: [d], every: 1h, replicate: {to: "nbd://h/{disk}", state: /srv/others}}
"""


def test_repositories_targets_and_states_are_written_to() -> None:
    needs = needs_of(parse(JOBS.encode(), "agent.yaml").config)

    assert needs.repositories == (Path("/backups"),)
    assert [str(path) for path in needs.replicas] == ["/mnt/datastore", "/srv/others", "/srv/replicas", "/srv/states"]
    assert set(needs.to_write) >= {*needs.repositories, *needs.replicas}
