"""The binding knows every name of csrc/ntx.h, and what Python has for an enumerator is found by its name."""

import re
from pathlib import Path

import pytest

from ntxengine import errors
from ntxengine._core import device, engine
from ntxengine.dataplane.copy import Pace
from ntxengine.errors import NtxError, from_core

ROOT = Path(__file__).parent.parent.parent
COMMENTS = re.compile(r"/\*.*?\*/", re.DOTALL)
HEADER = COMMENTS.sub("", (ROOT / "csrc/ntx.h").read_text())
DECLARED = set(re.findall(r"\w+", (ROOT / "src/ntxengine/_core/ntx.pxd").read_text()))


def enumerators(enum: str) -> list[str]:
    """Return the names of an enum of ntx.h."""
    found = re.search(rf"enum {enum} {{(.*?)}};", HEADER, re.DOTALL)
    assert found, enum
    return re.findall(r"\b(NTX_\w+)", found[1])


def fields(struct: str) -> list[str]:
    """Return the names of the fields of a struct of ntx.h."""
    found = re.search(rf"struct {struct} {{(.*?)}};", HEADER, re.DOTALL)
    assert found, struct
    names = re.findall(r"[\w\]]+(?=[;,])", re.sub(r"\[\w+\]", "", found[1]))
    assert len(names) > 2
    return names


def test_each_enumerator_flag_and_field_is_declared_in_the_binding() -> None:
    enums = re.findall(r"enum (\w+) {", HEADER)
    structs = re.findall(r"struct (\w+) {", HEADER)
    flags = re.findall(r"#define (NTX_(?:DEVICE|EXTENT)_\w+)", HEADER)

    names = {name for enum in enums for name in enumerators(enum)} | {*flags}
    names |= {field for struct in structs for field in fields(struct)}

    assert len(enums) >= 3
    assert len(structs) >= 7
    assert len(flags) >= 12
    assert names - DECLARED == set()


def test_each_class_of_error_of_the_core_is_an_exception() -> None:
    names = [name.removeprefix("NTX_E_") for name in enumerators("ntx_error_class")]

    assert sorted(device.ERROR_CLASSES.values()) == sorted(names)
    assert device.ERROR_CLASSES[0] == "NONE"
    for name in names:
        if name != "NONE":
            assert isinstance(from_core(name, -5, 0, 0, "x"), NtxError)
    assert type(from_core("TIMEOUT", -110, 0, 0, "x")) is errors.TransferTimeout
    assert type(from_core("CANCELLED", -125, 0, 0, "x")) is errors.Cancelled


def test_a_class_that_the_core_does_not_have_is_a_defect() -> None:
    with pytest.raises(KeyError):
        from_core("NONE", 0, 0, 0, "x")


def test_each_reason_of_the_pace_has_words() -> None:
    names = [name.removeprefix("NTX_PACE_") for name in enumerators("ntx_pace_why")]

    assert sorted(engine.PACE_REASONS.values()) == sorted(names)
    assert sorted(Pace.__members__) == sorted(names)
