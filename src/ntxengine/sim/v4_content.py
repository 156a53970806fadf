"""The two halves of v4 changed regions: cluster discovery on Prism Central, the computation on Prism Element."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from ntxengine.sim import answers, v4_schema, v4_shapes
from ntxengine.sim.answers import ApiError, Json, SchemaError
from ntxengine.sim.auth import COOKIE, Tokens
from ntxengine.sim.faults.hidden import Question, hide
from ntxengine.sim.faults.regions import spoil
from ntxengine.sim.front import Call, Route
from ntxengine.sim.model import FrozenFile, GroupPoint, VmPoint
from ntxengine.sim.pages import SECTOR_SIZE, Page, Window
from ntxengine.sim.regions import compute
from ntxengine.sim.v4_query import not_found, one, route
from ntxengine.sim.world import World

_DISCOVER = "config/recovery-points/{point}/$actions/discover-cluster"
_CONTENT = "dataprotection.v4.content"


@dataclass(frozen=True)
class DiskKind:
    """How v4 names a disk recovery point of a VM, or of a volume group: `part` is the field of its part."""

    operation: str
    path: str
    part: str
    model: type[VmPoint | GroupPoint]
    reference: str
    answer: str

    @property
    def compute(self) -> str:
        """The path of the computation."""
        return (
            f"content/recovery-points/{{point}}/{self.path}/{{part}}"
            "/disk-recovery-points/{disk_point}/$actions/compute-changed-regions"
        )

    @property
    def references(self) -> tuple[str, str, str]:
        """The fields that name a reference in the body of the computation."""
        part = self.part[0].upper() + self.part[1:]
        return "referenceRecoveryPointExtId", f"reference{part}", "referenceDiskRecoveryPointExtId"


_OF_VM = DiskKind(
    "compute_changed_regions",
    "vm-recovery-points",
    "vmRecoveryPointExtId",
    VmPoint,
    f"{_CONTENT}.VmDiskRecoveryPointReference",
    f"{_CONTENT}.ChangedVmRegionsApiResponse",
)
_OF_GROUP = DiskKind(
    "compute_changed_group_regions",
    "volume-group-recovery-points",
    "volumeGroupRecoveryPointExtId",
    GroupPoint,
    f"{_CONTENT}.VolumeGroupDiskRecoveryPointReference",
    f"{_CONTENT}.ChangedVolumeGroupRegionsApiResponse",
)
_KINDS = (_OF_VM, _OF_GROUP)


@dataclass(frozen=True)
class DiskName:
    """The three ids by which v4 names a disk recovery point; `part` is that of the VM or the volume group."""

    kind: DiskKind
    point: str
    part: str
    disk_point: str


def central_routes(tokens: Tokens) -> list[Route]:
    """Return discovery, and the refusal to compute."""

    async def discover(call: Call) -> Response:
        return await _discover(call, tokens)

    async def refuse(_call: Call) -> Response:
        raise ApiError(501, "NOT_IMPLEMENTED", "Operation is not supported on Prism Central", code="DP-10501")

    return [
        route("discover_cluster", "POST", "dataprotection", _DISCOVER, discover),
        *(route(kind.operation, "POST", "dataprotection", kind.compute, refuse, by_token=True) for kind in _KINDS),
    ]


def element_routes(tokens: Tokens) -> list[Route]:
    """Return the computation: the only thing of v4 that Prism Element answers."""

    def computing(kind: DiskKind) -> Route:
        async def checked(call: Call) -> Response:
            _check_token(call, tokens)
            return await _compute(call, kind)

        return route(kind.operation, "POST", "dataprotection", kind.compute, checked, by_token=True)

    return [computing(kind) for kind in _KINDS]


def _find(world: World, name: DiskName) -> FrozenFile:
    found = world.find_frozen(name.disk_point)
    is_named = found is not None and (found[0].id, found[1].id) == (name.point, name.part)
    if found is None or not is_named or not isinstance(found[1], name.kind.model):
        raise not_found("disk recovery point", name.disk_point, code="DP-10404", group="RECOVERY_POINT_NOT_FOUND_ERROR")
    return found[2]


# -- discovery


def _named(spec: Json, field: str) -> DiskName:
    reference = v4_schema.mapping(spec, field)
    kind = next((one for one in _KINDS if one.reference == reference.get("$objectType")), None)
    if kind is None:
        known = " or ".join(one.reference for one in _KINDS)
        raise SchemaError(f"Field {field} : $objectType must be {known}", place=f"spec.{field}")
    names = ("recoveryPointExtId", kind.part, "diskRecoveryPointExtId")
    return DiskName(kind, *(v4_schema.uuid(reference, name, f"spec.{field}.") for name in names))


async def _discover(call: Call, tokens: Tokens) -> Response:
    world = call.world
    body = await call.json()
    v4_schema.known(body, {"operation", "spec"})
    if body.get("operation") != "COMPUTE_CHANGED_REGIONS":
        raise SchemaError(f"Field operation : {body.get('operation')!r} is not simulated", place="operation")
    spec = v4_schema.mapping(body, "spec")
    if spec.get("$objectType") != "dataprotection.v4.content.ComputeChangedRegionsClusterDiscoverSpec":
        raise SchemaError("Field spec : $objectType is missing or unknown", place="spec")
    disk = _named(spec, "diskRecoveryPoint")
    if disk.point != call.parts["point"]:
        raise SchemaError("Field recoveryPointExtId : differs from the path", place="spec.diskRecoveryPoint")
    _find(world, disk)
    if spec.get("referenceDiskRecoveryPoint") is not None:
        _find(world, _named(spec, "referenceDiskRecoveryPoint"))
    scope = f"/api/dataprotection/{world.config.content_revision}/content"
    token = tokens.issue(world.config.username, scope, world.config.limits.token_s)
    data = v4_shapes.typed(
        "dataprotection.v4.common.ClusterInfo",
        clusterIp=v4_shapes.address(world.cluster_with(disk.disk_point).config.element_host),
        jwtToken=token,
    )
    return one(call, "dataprotection.v4.config.ClusterInfoApiResponse", data)


# -- computation


def _check_token(call: Call, tokens: Tokens) -> None:
    if call.request.headers.get("authorization", "").lower().startswith("bearer "):
        raise ApiError(403, "ACCESS_FORBIDDEN", "Access denied: bearer tokens are not accepted here", code="DP-10403")
    state, scope = tokens.read(call.request.cookies.get(COOKIE, ""))
    if state == "expired":
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "Token has expired", code="DP-10401")
    if state == "foreign":
        raise ApiError(401, "AUTHENTICATION_REQUIRED", "Authentication required.", code="DP-10401")
    if not call.path.startswith(scope + "/"):
        message = "Scope claim value does not match API base path"
        raise ApiError(401, "AUTHENTICATION_REQUIRED", message, code="DP-10401")


def _window(world: World, body: Json, kind: DiskKind) -> Window:
    names = {"offset", "length", "blockSizeByte", *kind.references}
    v4_schema.known(body, names)
    block = v4_schema.integer(body, "blockSizeByte", None)
    if block is not None and block not in v4_schema.BLOCK_SIZES:
        allowed = ", ".join(map(str, v4_schema.BLOCK_SIZES))
        raise SchemaError(f"Field blockSizeByte : {block} is not one of {allowed}", place="blockSizeByte")
    start = v4_schema.integer(body, "offset", 0) or 0
    length = v4_schema.integer(body, "length", None)
    end = None if length is None else start + length
    return Window(start, end, block or SECTOR_SIZE, world.config.limits.regions_per_page)


def _reference(world: World, body: Json, disk: FrozenFile, kind: DiskKind) -> FrozenFile | None:
    names = kind.references
    given = [name for name in names if body.get(name) is not None]
    if not given:
        return None
    if len(given) != len(names):
        raise SchemaError("The three reference ids are needed together", place=given[0])
    reference = _find(world, DiskName(kind, *(v4_schema.uuid(body, name) for name in names)))
    if reference.vmdisk != disk.vmdisk:
        raise SchemaError("The reference is a recovery point of another disk", place=names[2])
    return reference


async def _compute(call: Call, kind: DiskKind) -> Response:
    world = call.world
    disk = _find(world, DiskName(kind, call.parts["point"], call.parts["part"], call.parts["disk_point"]))
    if world.cluster_with(disk.id) is not call.cluster:
        raise not_found("disk recovery point", disk.id, code="DP-10404", group="RECOVERY_POINT_NOT_FOUND_ERROR")
    body = await call.json()
    window = _window(world, body, kind)
    reference = _reference(world, body, disk, kind)
    old = None if reference is None else world.frozen_file(reference)
    try:
        page = await asyncio.to_thread(compute, world.frozen_file(disk), old, window)
    except FileNotFoundError as exc:
        raise not_found("disk recovery point", disk.id, code="DP-10404") from exc
    question: Question = "allocated" if reference is None else "changed"
    page = hide(page, world.config.faults.hidden, (disk.vmdisk, disk.device), question)
    page = spoil(page, window, world.config.faults.regions)
    return JSONResponse(_answer(world, page, window, kind))


def _answer(world: World, page: Page, window: Window, kind: DiskKind) -> Json:
    following = page.next_offset
    if following is None and window.end is not None and window.end < page.size:
        # A window that was answered whole ends where it ends, aligned to the block size.
        following = -(-window.end // window.block_size) * window.block_size
        following = None if following >= page.size else following
    item = "dataprotection.v4.content.ChangedRegion"
    kinds = {False: page.data_type, True: "ZEROED"}
    data: list[Json] = [
        {"$objectType": item, "offset": offset, "length": length, "regionType": kinds[is_zero]}
        for offset, length, is_zero in page.regions
    ]
    extra: Json = {"regionCount": len(data), "nextOffset": following, "blockSizeByte": window.block_size}
    extra["fileSize"] = page.size
    if following is None:
        if world.config.last_offset == "absent":
            del extra["nextOffset"]
        elif world.config.last_offset == "zero":
            extra["nextOffset"] = 0
    if world.config.extra_info_as_text:
        extra = {name: value if value is None else str(value) for name, value in extra.items()}
    meta = answers.metadata(extra=extra)
    return answers.envelope(kind.answer, data, meta, item)
