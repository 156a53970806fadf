"""Anything in any place of an answer: each parser gives a value or a PrismAnswerError, nothing else.

The answers are made from our own structs: each field right, null, absent, of another type, with fields beside it that
nobody knows.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from ntxengine.errors import PrismAnswerError
from ntxengine.prism import regions
from ntxengine.prism.http.error_body import read_error_body
from ntxengine.prism.http.hidden_error import hidden_error
from ntxengine.prism.http.parse import decode
from ntxengine.prism.models import Disk, Vm
from ntxengine.prism.v3 import schema as v3
from ntxengine.prism.v3 import schema_v2 as v2
from ntxengine.prism.v4 import schema as v4
from ntxengine.prism.v4 import schema_points as v4_points
from ntxengine.prism.v4.schema_discovery import ClusterInfoAnswer

ID = str(uuid.UUID(int=1))
VM = Vm(ID, "vm", "on", "", None, (Disk(ID, 1024, "scsi", 0, ""),))

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**40), 10**40),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8),
    st.sampled_from(
        [ID, "", "-1", "9999-12-31T23:59:59-01:00", "/a/.acropolis/vmdisk/" + ID, "COMPLETE", "ERROR", 2**63]
    ),
    st.lists(st.none() | st.integers() | st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=5), st.none() | st.integers(), max_size=2),
)


def shape(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Return values that often fit the type and sometimes do not."""
    right: st.SearchStrategy[Any] = ODD
    if isinstance(kind, inspect.UnionType):
        right = st.one_of([shape(each) for each in kind.types])
    elif isinstance(kind, inspect.ListType):
        right = st.lists(shape(kind.item_type), max_size=3)
    elif isinstance(kind, inspect.StructType):
        right = struct(kind)
    elif isinstance(kind, inspect.StrType):
        right = st.sampled_from([ID, "text", "COMPLETE", "SUCCEEDED", "INSTALLED"])
    elif isinstance(kind, inspect.IntType):
        right = st.integers(0, 2**40)
    elif isinstance(kind, inspect.BoolType):
        right = st.booleans()
    elif isinstance(kind, inspect.NoneType):
        right = st.none()
    return st.one_of(right, right, right, right, ODD)


def struct(kind: inspect.StructType) -> st.SearchStrategy[dict[str, Any]]:
    fields = {field.encode_name: st.deferred(lambda field=field: shape(field.type)) for field in kind.fields}
    needed = {field.encode_name: fields[field.encode_name] for field in kind.fields if field.required}
    optional = {name: values for name, values in fields.items() if name not in needed}
    return st.fixed_dictionaries(needed, optional=optional | {"$unknown": ODD})


def decoded(kind: type[Any], use: Callable[[Any], object]) -> Callable[[bytes], object]:
    return lambda body: use(decode(body, kind, request="GET /x"))


def of_snapshot(found: v3.Snapshot) -> object:
    point = v3.recovery_point_from(found, files=v3.VmFiles({ID: ID}), vm=VM, request="GET /x")
    return point, found.is_complete, found.has_failed, found.complaint(), found.state, found.is_of("ntx", VM)


def of_point(found: v4_points.RecoveryPointState) -> object:
    points = [v4_points.disk_points_from(one, vm=VM, recovery_point_id=ID) for one in found.vm_recovery_points or ()]
    return v4_points.recovery_point_from(found, vm_id=ID), found.vm_ids(), found.protection, points


PARSERS: dict[str, tuple[type[Any], Callable[[bytes], object]]] = {
    "v4 VM": (v4._Vm, lambda body: v4.vm_from(msgspec.Raw(body), request="GET /x")),
    "v4 disk": (v4.VmDisk, decoded(v4.VmDisk, lambda found: (found.label, found.cloned_from))),
    "v4 task": (
        v4.TaskState,
        decoded(v4.TaskState, lambda found: (found.complaint(), found.detail("a"), found.affected("b"))),
    ),
    "v4 recovery point": (v4_points.RecoveryPointState, decoded(v4_points.RecoveryPointState, of_point)),
    "v4 list": (v4.EntityList, decoded(v4.EntityList, repr)),
    "v4 discovery": (ClusterInfoAnswer, decoded(ClusterInfoAnswer, lambda found: found.data.cluster_ip.text)),
    "v3 VM": (v3._Vm, lambda body: v3.vm_from(body, {}, request="GET /x")),
    "v3 snapshot": (v3.Snapshot, decoded(v3.Snapshot, of_snapshot)),
    "v3 list": (v3.EntityList, decoded(v3.EntityList, repr)),
    "v2 VM": (v2.V2Vm, decoded(v2.V2Vm, lambda found: (found.files(), v3.vm_files(VM, found)))),
    "v2 task": (v2.V2Task, decoded(v2.V2Task, lambda found: found.state)),
    "v3 page": (regions._PageV3, lambda body: regions.page_v3(body, start=0, request="GET /x")),
    "v4 page": (regions._PageV4, lambda body: regions.page_v4(body, start=0, request="GET /x")),
    "error": (v3.Snapshot, lambda body: (read_error_body(body), hidden_error(body))),
}


def complaint(name: str, body: bytes) -> str:
    """Return why a body is refused, "" if it is taken."""
    try:
        PARSERS[name][1](body)
    except PrismAnswerError as refused:
        return str(refused)
    return ""


def test_a_task_is_read_whatever_it_says_of_its_progress() -> None:
    body = b'{"data": {"status": "RUNNING", "operation": 7, "progressPercentage": 33.3}}'

    assert decode(body, v4.TaskAnswer, request="GET /tasks/x").data.status == "RUNNING"


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=60)
@given(source=st.data())
def test_every_answer_is_a_value_or_refused(name: str, source: st.DataObject) -> None:
    info = inspect.type_info(PARSERS[name][0])
    assert isinstance(info, inspect.StructType)

    assert complaint(name, json.dumps(source.draw(struct(info))).encode()).isprintable()


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"1e999", b'"x"', b"\xff", b"[" * 100_000, b'{"data":' * 20_000, b'{"a":"\\ud800"}']
)
def test_every_body_is_a_value_or_refused(name: str, body: bytes) -> None:
    assert complaint(name, body).isprintable()
