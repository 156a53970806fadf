"""The example checks clean, the schema describes every key and takes the example, and so do the documents."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ntxengine.config.file import Config
from ntxengine.config.part import Part
from ntxengine.config.reading import parse
from ntxengine.config.showing import HIDDEN, as_yaml, effective, example, schema
from tests.config.seed import ENVIRONMENT, PASSWORD, SEED

DOCUMENT = Path(__file__).parents[2] / "docs" / "config.md"


def parts(kind: type[Part] = Config) -> Iterator[type[Part]]:
    yield kind
    for field in kind.model_fields.values():
        for each in (field.annotation, *typing.get_args(field.annotation)):
            if isinstance(each, type) and issubclass(each, Part):
                yield from parts(each)


def uncommented() -> str:
    """The example with every key that it has in a comment, but those that others there exclude."""
    text = re.sub(r"^( *)# ((?: *[a-z_]+:|  +- ).*)$", r"\1\2", example(), flags=re.MULTILINE)
    return re.sub(r"^ *(?:password|bandwidth): .*\n", "", text, flags=re.MULTILINE)


def test_the_example_has_neither_mistakes_nor_warnings() -> None:
    assert parse(example().encode(), "example.yaml", folder=Path("/etc/ntx"), environment={}).warnings == ()


def test_the_example_is_right_also_with_what_it_has_in_comments() -> None:
    text = uncommented()

    found = parse(text.encode(), "example.yaml", folder=Path("/etc/ntx"), environment={"PING_URL": "https://x/y"})

    assert found.config.tunnel.tunnel_port == 443
    assert found.config.jobs[0].hooks.failure == ("/usr/local/bin/tell-somebody", "--backup")
    assert found.config.with_profile("lab").backup.repository == "/backups/lab"


@pytest.mark.parametrize("text", [example(), uncommented(), SEED], ids=["example", "uncommented", "seed"])
def test_the_schema_takes_it(text: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())

    jsonschema.Draft202012Validator(schema()).validate(yaml.safe_load(text))


@pytest.mark.parametrize("text", ["nutanix: {prism_centrall: x}", "jobs: [{every: 1h}]", "backup: {method: magic}"])
def test_the_schema_refuses_what_is_wrong(text: str) -> None:
    assert not jsonschema.Draft202012Validator(schema()).is_valid(yaml.safe_load(text))


def test_every_key_is_described_in_the_schema() -> None:
    found = schema()
    mappings = [found, *found["$defs"].values()]

    silent = [
        (each["title"], key)
        for each in mappings
        for key, value in each["properties"].items()
        if not value.get("description")
    ]

    assert not silent
    assert all(each["additionalProperties"] is False for each in mappings)


def test_every_key_is_described_in_the_documents() -> None:
    text = DOCUMENT.read_text()

    missing = {f"{kind.__name__}.{key}" for kind in parts() for key in kind.model_fields if f"`{key}`" not in text}

    assert not missing


def test_what_the_documents_show_is_right() -> None:
    shown = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)

    assert shown
    for text in shown:
        parse(text.encode(), "docs.yaml", environment={"NUTANIX_PASSWORD": "x", "PING_URL": "https://x/y"})


def shown(text: str, profile: str | None = None) -> dict[str, Any]:
    loaded = parse(text.encode(), "f.yaml", folder=Path("/etc"), environment=ENVIRONMENT | {"TOKEN": "hush"})
    found = effective(loaded, profile)
    assert yaml.safe_load(as_yaml(found)) == found
    return found


def test_no_secret_is_shown() -> None:
    text = (
        SEED.replace('"${NUTANIX_PASSWORD}"', "said-openly")
        + "jobs: [{name: a, vms: [x], every: 1h, repository: /r, hooks: {failure: [tell, 'x${TOKEN}']},"
        + " pings: {success: 'https://hc/hush'}}]"
    )

    for each in (shown(text), shown(SEED)):
        assert each["nutanix"]["password"] == HIDDEN
        assert not {"said-openly", PASSWORD, "hush"} & set(re.split(r"[^a-z-]+", str(each)))
    assert shown(text)["jobs"][0]["hooks"]["failure"] == ["tell", "x${TOKEN}"]
    assert shown(text)["jobs"][0]["pings"]["success"] == HIDDEN


def test_what_holds_is_shown_with_defaults() -> None:
    found = shown("nutanix: {prism_central: p, username: u}\n")

    assert found["backup"]["keep_recovery_point"] == "7d"
    assert found["backup"]["device_dir"] == "/dev/disk/by-id"
    assert found["performance"]["bandwidth"] == "off"
    assert found["agent"]["socket_mode"] == "0660"


def test_what_holds_of_a_job_and_under_a_profile_is_shown() -> None:
    text = (
        "nutanix: {prism_central: p, username: u}\nbackup: {repository: /r, audit: 2%, compress: zstd}\n"
        "jobs: [{name: a, vms: [x], every: 1h, zstd_level: 3}]\n"
        "profiles: {lab: {nutanix: {prism_central: lab}, backup: {repository: '/${NUTANIX_PASSWORD}'}}}\n"
    )

    usual, lab = shown(text), shown(text, "lab")

    assert (usual["nutanix"]["prism_central"], lab["nutanix"]["prism_central"]) == ("p", "lab")
    assert (usual["jobs"][0]["repository"], usual["jobs"][0]["audit"]) == ("/r", "2%")
    assert (usual["jobs"][0]["compress"], usual["jobs"][0]["zstd_level"]) == (None, 3)
    assert lab["backup"]["repository"] == lab["jobs"][0]["repository"] == "/${NUTANIX_PASSWORD}"
    assert usual["profiles"] == ["lab"]
