"""The reader of configurations on any bytes and any tree: a configuration, or lines that say what is wrong.

`make fuzz` tries more examples than the tests.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml
from hypothesis import example as with_example
from hypothesis import given, settings
from hypothesis import strategies as st

from ntxengine.config.file import Config
from ntxengine.config.problems import MOST_TOLD, ConfigError
from ntxengine.config.reading import Loaded, parse
from ntxengine.config.showing import as_yaml, effective, example, schema
from tests.fuzz.test_python_parsers import Edit, damage, edits, fuzzed

ENVIRONMENT = {"NAME": "a value", "SECRET": "hush-hush", "URL": "https://x/"}

EXAMPLE = re.sub(r"^ *#.*\n", "", example(), flags=re.MULTILINE).encode()  # comments only cost time
KEYS = sorted({key for each in [schema(), *schema()["$defs"].values()] for key in each["properties"]})
SECTIONS = list(Config.model_fields)

texts = st.one_of(
    st.sampled_from(
        [
            "", "5", "-1", "1e9", "nan", "15m", "7d", "5%", "64KiB", "0 2 * * *", "22:00-06:00", "host:9440", "auto",
            "true", "${NAME}", "${SECRET}", "${NOT_SET}", "${", "$$", "UTC", "../x", "https://x/", "nbd://x", "K=V",
            "a" * 300, "*", "22:00-22:00", "* * * * * *", "99999999999999999999", "\u202e", "0 0 31 2 *",
            "../../usr/share/zoneinfo/UTC",
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), inner, max_size=6)
    ),
    max_leaves=30,
)
sections = st.fixed_dictionaries({}, optional=dict.fromkeys(SECTIONS, trees))
"""What is right as far as its sections, and may be anything in them."""

jobs = st.lists(
    st.dictionaries(st.sampled_from(KEYS), trees | texts | st.lists(texts, max_size=3), max_size=8), max_size=4
)


watched: list[str] = []
"""What was opened while a configuration was read; empty again after each."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in ("open", "os.listdir", "socket.connect", "subprocess.Popen"):
        watched.append(str(arguments[0]))


sys.addaudithook(_watch)


def is_ours(name: str) -> bool:
    """Say whether a file is of Python itself: where it looks for modules, and what is known of time zones."""
    is_module = any(name == folder or name.startswith(f"{folder}/") for folder in sys.path if folder)
    return is_module or "zoneinfo" in name or "tzdata" in name


def check(content: bytes) -> Loaded | None:
    """Read; what is wrong is lines that can be shown, and a configuration can be shown too."""
    watched.clear()
    try:
        loaded = parse(content, "f.yaml", folder=Path("/etc/ntx"), environment=ENVIRONMENT)
    except ConfigError as error:
        refused = error
    else:
        assert [name for name in watched if not is_ours(name)] == []
        assert all(line.startswith("f.yaml:") for line in loaded.warnings)
        assert "hush-hush" not in as_yaml(effective(loaded)) + repr(loaded) + "".join(loaded.warnings)
        return loaded
    assert [name for name in watched if not is_ours(name)] == []
    assert 0 < len(refused.problems) <= MOST_TOLD
    for line in (*refused.problems, str(refused)):
        assert line.startswith("f.yaml:")
        assert not any(letter in line for letter in "\n\r\x1b\u202e\u2028")
        assert len(line) < 600
        assert "hush-hush" not in line
    return None


@fuzzed
@given(content=st.binary(max_size=400))
@with_example(content=b"%YAML 9999999999999999999999.1\n---\na")
@with_example(content=b'"\\xff\\UFFFFFFFF"')
@with_example(content=b"? ? ? a\n")
@with_example(content=b"&a [*a, &a *a]")
def test_any_bytes_are_refused_or_a_configuration(content: bytes) -> None:
    check(content)


@settings(fuzzed, max_examples=fuzzed.max_examples // 3)
@given(changes=edits)
def test_an_example_that_was_damaged_is_refused_or_a_configuration(changes: list[Edit]) -> None:
    check(damage(EXAMPLE, changes))


@settings(fuzzed, max_examples=fuzzed.max_examples // 3)
@given(tree=trees | sections)
def test_any_tree_is_refused_or_a_configuration(tree: Any) -> None:
    check(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(fuzzed, max_examples=fuzzed.max_examples // 3)
@given(found=jobs, backup=trees)
def test_any_jobs_are_refused_or_a_configuration(found: Any, backup: Any) -> None:
    document = {"nutanix": {"prism_central": "pc", "username": "u"}, "backup": backup, "jobs": found}

    check(yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@settings(fuzzed, max_examples=fuzzed.max_examples // 20)
@given(depth=st.integers(0, 2000), width=st.integers(0, 2000), opening=st.sampled_from(["[", "{a: ", "- ", "? "]))
def test_what_nests_or_multiplies_is_refused_at_once(depth: int, width: int, opening: str) -> None:
    check(f"a: {opening * depth}".encode())
    check(("x: &x [1]\ny: [" + "*x, " * width + "]").encode())
