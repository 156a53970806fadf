"""Judges recorded exchanges by the operations and models of Nutanix's own SDKs; prints verdicts as one JSON object.

Runs in the SDKs' virtual environment.  Standard input: {"exchanges": [{method, path, query, headers, body, answer}]}.

The operations are not written down here: every method of the SDKs that OPERATIONS names is called with placeholders,
and what it would have sent is the contract: path, query, body and answer types.  Bodies are held against the models'
own tables of fields and types, and given to the SDK's deserializer.
"""

from __future__ import annotations

import copy
import inspect
import json
import re
import sys
from dataclasses import dataclass
from typing import Any

import ntnx_clustermgmt_py_client as clustermgmt
import ntnx_dataprotection_py_client as dataprotection
import ntnx_prism_py_client as prism
import ntnx_vmm_py_client as vmm
import ntnx_volumes_py_client as volumes

OPERATIONS = {
    vmm: {
        "VmApi": (
            "list_vms get_vm_by_id get_guest_tools_by_id shutdown_vm power_on_vm"
            " list_disks_by_vm_id create_disk get_disk_by_id delete_disk_by_id"
        )
    },
    dataprotection: {
        "RecoveryPointsApi": (
            "list_recovery_points create_recovery_point get_recovery_point_by_id delete_recovery_point_by_id"
            " set_recovery_point_expiration_time get_vm_recovery_point_by_id discover_cluster_for_recovery_point_id"
            " vm_recovery_point_compute_changed_regions volume_group_recovery_point_compute_changed_regions"
        )
    },
    prism: {"TasksApi": "list_tasks get_task_by_id cancel_task", "CategoriesApi": "list_categories"},
    clustermgmt: {
        "ClustersApi": "list_clusters get_cluster_by_id list_hosts list_hosts_by_cluster_id",
        "StorageContainersApi": "list_storage_containers get_storage_container_by_id",
    },
    volumes: {
        "VolumeGroupsApi": (
            "list_volume_groups create_volume_group get_volume_group_by_id delete_volume_group_by_id"
            " list_volume_disks_by_volume_group_id list_external_iscsi_attachments_by_volume_group_id"
            " attach_iscsi_client detach_iscsi_client"
        )
    },
}
"""What may be called at all: a request that is none of these is an error."""

_JSON = {"str": str, "int": int, "long": int, "float": (int, float), "bool": bool, "datetime": str, "date": str}
_COMMON = {"$objectType", "$reserved", "$unknownFields"}


@dataclass
class Operation:
    """One method of an SDK, as it would have sent its request."""

    name: str
    package: Any
    method: str
    template: str
    query: set[str]
    body: str
    answer: str

    def matches(self, method: str, path: str) -> bool:
        """Say if a request is this operation, at any revision."""
        text = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(self.template))
        return method == self.method and re.fullmatch(re.sub(r"/v4\\\.\d+/", r"/v4\\.\\d+/", text), path) is not None


def operation(package: Any, api: str, name: str) -> Operation:
    """Call a method with placeholders and return what it would have sent."""
    seen: dict[str, Any] = {}
    client = package.ApiClient(configuration=package.Configuration(), allow_version_negotiation=False)
    client._call_api = lambda path, method, *rest, **named: seen.update(
        path=path, method=method, query=rest[1], answer=named["response_type"]
    )
    call = getattr(getattr(package, api)(client), name)
    values = {one: "1" if one != "body" else object() for one in inspect.signature(call).parameters if one != "kwargs"}
    numbers = {one: 1 for one in values if one in ("_page", "_limit")}
    call(**values | numbers)
    body = re.search(r":type body:\s*:class:`~[\w]+\.models\.([\w.]+)`", call.__doc__ or "")
    query = {key for key, _ in seen["query"]}
    found = Operation(f"{api}.{name}", package, seen["method"], seen["path"], query, "", seen["answer"])
    found.body = body[1] if body else ""
    return found


class Models:
    """The models of one SDK: tables of fields and their types."""

    def __init__(self, package: Any) -> None:
        self._package = package

    def of(self, name: str) -> Any:
        """Return the class that a type is."""
        models, short = self._package.models, name.rpartition(".")[2]
        name = self._package.ApiClient.DUPLICATE_SCHEMA_MAPPING.get(name, short if hasattr(models, short) else name)
        return getattr(models, name, None)

    def choices(self, kind: Any) -> set[str]:
        """Return the values of an enumeration that a server or client may write."""
        values = {value for name, value in vars(kind).items() if not name.startswith("_") and isinstance(value, str)}
        return {value for value in values if not value.startswith("$")}

    def problems(self, value: Any, kind: str, where: str) -> list[str]:
        """Return where a value is not of this type: a field that the model does not have, a type, an enumeration."""
        if value is None or kind == "object":
            return []
        if kind in _JSON:
            fits = isinstance(value, _JSON[kind]) and isinstance(value, bool) == (kind == "bool")
            return [] if fits else [f"{where}: {value!r} is no {kind}"]
        if match := re.fullmatch(r"list\[(.*)\]", kind):
            if not isinstance(value, list):
                return [f"{where}: {value!r} is no list"]
            return [p for n, item in enumerate(value) for p in self.problems(item, match[1], f"{where}[{n}]")]
        if match := re.fullmatch(r"dict\([^,]*, (.*)\)", kind):
            if not isinstance(value, dict):
                return [f"{where}: {value!r} is no map"]
            return [p for key, item in value.items() for p in self.problems(item, match[1], f"{where}.{key}")]
        if kind.startswith("OneOf"):
            return self._one_of(value, kind, where)
        return self._model(value, kind, where)

    def alternatives(self, kind: str) -> list[str]:
        """Return the types that a OneOf may be."""
        one_of = getattr(self.of(kind), "discriminator_value_class_map", {})
        return [one for name, one in one_of.items() if not name.startswith("EMPTY_")]

    def _one_of(self, value: Any, kind: str, where: str) -> list[str]:
        known = self.alternatives(kind)
        if isinstance(value, dict):
            chosen = value.get("$objectType")
            if chosen not in known:
                return [f"{where}: $objectType {chosen!r} is not one of {known}"]
            return self._model(value, chosen, where)
        tried = [self.problems(value, one, where) for one in known if one.startswith("list[") or one in _JSON]
        return min(tried, key=len, default=[f"{where}: {value!r} is none of {known}"])

    def _model(self, value: Any, kind: str, where: str) -> list[str]:
        model = self.of(kind)
        if model is None:
            return [f"{where}: the SDK has no model {kind}"]
        if not hasattr(model, "attribute_map"):
            allowed = self.choices(model)
            return [] if value in allowed else [f"{where}: {value!r} is not one of {sorted(allowed)}"]
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no {kind}"]
        stated = value.get("$objectType", kind)
        if stated != kind and not stated.endswith("." + kind.rpartition(".")[2]):
            return [f"{where}: $objectType is {stated!r} where {kind} belongs"]
        fields = {wire: model.swagger_types[name] for name, wire in model.attribute_map.items()}
        found = []
        for name, item in value.items():
            if name in _COMMON or re.fullmatch(r"\$\w+ItemDiscriminator", name):
                continue
            if name not in fields:
                found.append(f"{where}.{name}: {kind} has no such field")
            else:
                found += self.problems(item, fields[name], f"{where}.{name}")
        return found

    def describe(self, kind: str, into: dict[str, Any]) -> None:
        """Add the fields of a type, and of all that it is made of, to `into`."""
        for part in re.findall(r"[\w.]*[A-Za-z][\w.]*", kind):
            if part in into or part in _JSON or part in ("list", "dict", "object"):
                continue
            model = self.of(part)
            if part.startswith("OneOf"):
                into[part] = {"one_of": self.alternatives(part)}
            elif not hasattr(model, "attribute_map"):
                into[part] = {"choices": sorted(self.choices(model)) if model is not None else []}
            else:
                fields = {wire: model.swagger_types[name] for name, wire in model.attribute_map.items()}
                into[part] = {"fields": {wire: one for wire, one in fields.items() if wire not in _COMMON}}
            for one in into[part].get("one_of", []) + list(into[part].get("fields", {}).values()):
                self.describe(one, into)


def judge(exchange: dict[str, Any], operations: list[Operation]) -> dict[str, Any]:
    """Return which operation an exchange is, and what is wrong with its request and its answer."""
    found = [one for one in operations if one.matches(exchange["method"], exchange["path"])]
    if not found:
        return {"operation": "", "problems": [f"no SDK has {exchange['method']} {exchange['path']}"]}
    [one] = found
    models = Models(one.package)
    problems = [f"query {name}: not one of {sorted(one.query)}" for name in exchange["query"] if name not in one.query]
    if "ntnx-request-id" not in exchange["headers"]:
        problems.append("NTNX-Request-Id: the SDK sends it with every call")
    body = exchange["body"]
    if (body is not None) != bool(one.body):
        problems.append(f"body: {body!r} where the SDK sends {one.body or 'none'}")
    elif body is not None:
        problems += models.problems(body, one.body, "body")
        problems += _read(one, body, one.body, "body")
    answer = exchange["answer"]
    if answer is not None:
        problems += models.problems(answer, one.answer, "answer")
        problems += _read(one, answer, one.answer, "answer")
    return {"operation": one.name, "problems": problems}


def _read(one: Operation, value: Any, kind: str, where: str) -> list[str]:
    """Let the SDK itself read it."""
    client = one.package.ApiClient(configuration=one.package.Configuration(), allow_version_negotiation=False)
    read = client.deserialize(copy.deepcopy(value), kind)
    return [f"{where}.{name}: the SDK does not know it" for name in unknown(read, kind)]


def unknown(value: Any, where: str) -> list[str]:
    """Return every field of an answer that the SDK's models do not know."""
    if isinstance(value, list):
        return [name for number, item in enumerate(value) for name in unknown(item, f"{where}[{number}]")]
    if not hasattr(value, "get_unknown_fields"):
        return []
    found = [name for name in value.get_unknown_fields() or {} if not name.endswith("ItemDiscriminator")]
    found = [f"{where}.{name}" for name in found]
    for name in value.swagger_types:
        if not name.startswith("_"):
            found += unknown(getattr(value, name), f"{where}.{name}")
    return found


def main() -> None:
    """Judge what comes in, and describe the models of all answers."""
    operations = [
        operation(package, api, name)
        for package, apis in OPERATIONS.items()
        for api, names in apis.items()
        for name in names.split()
    ]
    described: dict[str, Any] = {}
    for one in operations:
        Models(one.package).describe(one.answer, described)
    verdicts = [judge(exchange, operations) for exchange in json.load(sys.stdin)["exchanges"]]
    answers = {one.name: one.answer for one in operations}
    json.dump({"verdicts": verdicts, "answers": answers, "models": described}, sys.stdout)


if __name__ == "__main__":
    main()
