"""One Prism, asked single questions: each is sent, and whatever comes of it is an answer to be judged.

Nothing that is asked here changes anything.  A question lists or looks; or, where a right to change something is the
question, it names a thing that does not exist (`{nobody}` is a UUID made for it), or leaves out what the schema
demands: a Prism that checks rights first says 401 or 403, and else 400, 404 or 422.

LIMIT: a Prism that checks its schema first says nothing of a right by that.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from ntxengine.errors import (
    CredentialsError,
    NtxError,
    PrismAnswerError,
    PrismBusy,
    PrismConnectionError,
    PrismError,
    PrismStatusError,
)
from ntxengine.ids import is_uuid
from ntxengine.prism.cluster import Prism
from ntxengine.prism.findings import Findings, Revisions
from ntxengine.prism.http.certificate import Certificate
from ntxengine.prism.http.clock import Clock
from ntxengine.prism.http.endpoint import Endpoint
from ntxengine.prism.http.retry import RetryPolicy
from ntxengine.prism.http.session import Answer, Request, Session, Transport
from ntxengine.prism.http.tls import certificate_error, judged, look_at
from ntxengine.prism.http.trust import Trust
from ntxengine.prism.http.watch import Watch
from ntxengine.prism.place import ELEMENT_PREFIX, Place
from ntxengine.prism.probe import ABSENT, Identity, candidates, identity_of, told_revision
from ntxengine.prism.v3.api import V2, V3
from ntxengine.prism.v3.element import ElementPrism
from ntxengine.prism.v4.central import CentralPrism

Outcome = Literal["good", "denied", "absent", "refused", "busy", "silent", "odd"]

_SAID = re.compile(r"HTTP \d{3}\b")

_RETRY = RetryPolicy(retries=2, first_wait_s=0.2, longest_wait_s=2.0, doubtful_retries=1, deadline_s=10.0)
"""Whoever asks what is wrong wants to know it now."""

_LOOK_TIMEOUT_S = 8.0
"""For a certificate."""

_POINTS = "/api/dataprotection/{dataprotection}/config/recovery-points"
_CLUSTERS = "/api/clustermgmt/{clustermgmt}/config"
_GROUPS = "/api/volumes/{volumes}/config/volume-groups"
_ONE: Mapping[str, str] = {"$page": "0", "$limit": "1"}


@dataclass(frozen=True)
class Question:
    """A request that changes nothing.  `path` may hold a name space for its revision, and `{nobody}`.

    One that is not repeatable is sent once: a Prism that does not want what it leaves out might make something.
    """

    method: str
    path: str
    body: Any = None
    query: Mapping[str, str] = field(default_factory=dict)
    has_request_id: bool = True
    is_repeatable: bool = True


def _list_v3(kind: str) -> Question:
    return Question("POST", f"{V3}/{kind}s/list", {"kind": kind, "length": 1, "offset": 0})


QUESTIONS = {
    # v4, on a Prism Central
    "v4.vms": Question("GET", "/api/vmm/{vmm}/ahv/config/vms", query=_ONE),
    "v4.points": Question("GET", _POINTS, query=_ONE),
    "v4.tasks": Question("GET", "/api/prism/{prism}/config/tasks", query=_ONE),
    "v4.groups": Question("GET", _GROUPS, query=_ONE),
    "v4.clusters": Question("GET", f"{_CLUSTERS}/clusters", query={**_ONE, "$limit": "50"}),
    "v4.containers": Question("GET", f"{_CLUSTERS}/storage-containers", query=_ONE),
    # Prism wants a request id for it, and a VM: without either nothing can come of it.
    "v4.create-point": Question("POST", _POINTS, {}, has_request_id=False, is_repeatable=False),
    "v4.delete-point": Question("DELETE", _POINTS + "/{nobody}"),
    "v4.discover": Question("POST", _POINTS + "/{nobody}/$actions/discover-cluster", {}),
    "v4.hot-add": Question("POST", "/api/vmm/{vmm}/ahv/config/vms/{nobody}/disks", {}),
    "v4.remove-disk": Question("DELETE", "/api/vmm/{vmm}/ahv/config/vms/{nobody}/disks/{nobody}"),
    # To make one without a name might be taken for a wish: that right is not asked for.
    "v4.delete-group": Question("DELETE", _GROUPS + "/{nobody}"),
    "v4.attach-client": Question("POST", _GROUPS + "/{nobody}/$actions/attach-iscsi-client", {}),
    "v4.detach-client": Question("POST", _GROUPS + "/{nobody}/$actions/detach-iscsi-client", {}),
    # v3 and v2, on a Prism Element
    "v3.clusters": Question("POST", f"{V3}/clusters/list", {"kind": "cluster", "length": 20, "offset": 0}),
    "v3.vms": _list_v3("vm"),
    "v3.snapshots": _list_v3("vm_snapshot"),
    "v3.regions": Question("POST", f"{V3}/data/changed_regions", {}),
    "v3.create-snapshot": Question("POST", f"{V3}/vm_snapshots", {}, is_repeatable=False),
    "v3.delete-snapshot": Question("DELETE", f"{V3}/vm_snapshots/{{nobody}}"),
    "v2.cluster": Question("GET", f"{V2}/cluster"),
    "v2.containers": Question("GET", f"{V2}/storage_containers", query={"count": "1"}),
    "v2.groups": Question("GET", f"{V2}/volume_groups", query={"count": "1"}),
    "v2.delete-group": Question("DELETE", f"{V2}/volume_groups/{{nobody}}"),
    "v2.open-group": Question("POST", f"{V2}/volume_groups/{{nobody}}/open", {}),
    "v2.close-group": Question("POST", f"{V2}/volume_groups/{{nobody}}/close", {}),
    "v2.hot-add": Question("POST", f"{V2}/vms/{{nobody}}/disks/attach", {}),
    "v2.remove-disk": Question("POST", f"{V2}/vms/{{nobody}}/disks/detach", {}),
}  # fmt: skip

NAME_SPACES = {
    "vmm": "v4.vms",
    "dataprotection": "v4.points",
    "prism": "v4.tasks",
    "clustermgmt": "v4.clusters",
    "volumes": "v4.groups",
}
"""The name spaces of v4 that a capture uses, and the question that says whether a revision is served."""


@dataclass(frozen=True)
class Reply:
    """What came of a question.  `status` is 0 if no answer came; `error` is None if it is a good one."""

    status: int
    error: NtxError | None = None
    answer: Answer | None = None

    @property
    def outcome(self) -> Outcome:
        """What kind of answer it is; `odd` is one that no Prism gives, `refused` any other no."""
        if self.error is None:
            return "good"
        if isinstance(self.error, PrismAnswerError):
            return "odd"
        if self.status in (401, 403):
            return "denied"
        if self.status in ABSENT:
            return "absent"
        if self.status == 429 or self.status >= 500:
            return "busy"
        return "refused" if self.status else "silent"

    @property
    def text(self) -> str:
        """Why it is no good answer, "" if it is one: what the Prism said, where it said something."""
        text = "" if self.error is None else str(self.error)
        return text[found.start() :] if (found := _SAID.search(text)) else text


@dataclass(frozen=True)
class Served:
    """A name space of v4: the revision that is served, "" if none is, what the server says, and the last reply."""

    revision: str
    told: str
    reply: Reply


class _Cluster(msgspec.Struct, rename="camel"):
    class Config(msgspec.Struct, rename="camel"):
        cluster_function: list[str] | None = None

    ext_id: str | None = None
    config: Config | None = None


class _ClusterList(msgspec.Struct):
    data: list[_Cluster] | None = None


class Inquiry:
    """One Prism.  `watch` heard all of its answers, and those of the elements that were asked beside it.

    A `transport` stands in for the network.  `revisions` are those of v4 that are spoken, once `served` found them.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        element_trust: Trust,
        *,
        transport: Transport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.watch = Watch()
        self.revisions = dict.fromkeys(NAME_SPACES, "v4.0")
        self._unserved: dict[str, str] = {}
        self._place = Place(endpoint, element_trust, clock, _RETRY, transport, self.watch)
        self._session: Session | None = None
        self._prisms: list[Prism] = []

    @property
    def session(self) -> Session:
        """The connections, once opened."""
        assert self._session is not None
        return self._session

    @property
    def who(self) -> str:
        """The account, for messages."""
        return self.endpoint.account.who

    async def open(self) -> None:
        """Read the trust in certificates.  Errors: OptionsError, PrismConnectionError."""
        if self._session is None:
            self._session = await self._place.session()

    async def aclose(self) -> None:
        """Close the connections."""
        for prism in self._prisms:
            await prism.aclose()
        if self._session is not None:
            await self._session.aclose()

    async def certificate(self) -> Certificate | None:
        """Return what is shown, whoever it is; None if nothing is."""
        return await self._look_at(self.endpoint.host, self.endpoint.trust)

    async def distrust(self, shown: Certificate | None) -> tuple[str, str] | None:
        """Connect as a capture does, and return why it is not trusted, and what can be done; None if it is.

        Errors: PrismConnectionError for another reason, PrismTimeout, OptionsError.
        """
        await self.open()
        return await _distrust(self.session, shown, self.endpoint.trust, self._place.option_prefix)

    async def distrust_element(self, address: str, shown: Certificate | None) -> tuple[str, str] | None:
        """The same of a Prism Element that this Prism names."""
        session = await self._place.session_without_account(address)
        try:
            return await _distrust(session, shown, self._place.element_trust, ELEMENT_PREFIX)
        finally:
            await session.aclose()

    async def element_certificate(self, address: str) -> Certificate | None:
        """Return what a Prism Element that this Prism names shows."""
        return await self._look_at(address, self._place.element_trust)

    async def ask(self, name: str) -> Reply:
        """Ask one of QUESTIONS."""
        return await self._ask(QUESTIONS[name], self.revisions)

    async def identity(self) -> tuple[Reply, Identity]:
        """Log in, and ask what this Prism is.  An account for v4 alone asks for VMs, and learns less."""
        if not self.session.speaks_legacy:
            return await self.ask("v4.vms"), Identity(self.watch.product, self._by_header())
        reply = await self.ask("v3.clusters")
        if reply.answer is None:
            return reply, Identity(self.watch.product, self._by_header())
        try:
            return reply, identity_of(reply.answer)
        except PrismAnswerError as exc:
            return Reply(reply.status, exc), Identity(self.watch.product, self._by_header())

    async def served(self, name_space: str) -> Served:
        """Find out which revision of a name space of v4 is served, as a capture chooses it."""
        found = await self._find_served(name_space)
        self._unserved.pop(name_space, None)
        if found.revision:
            self.revisions[name_space] = found.revision
        else:
            self._unserved[name_space] = f"its name space {name_space} is not served: {found.reply.text}"
        return found

    async def _find_served(self, name_space: str) -> Served:
        try:
            told = await told_revision(self.session, name_space)
        except PrismError as exc:
            return Served("", "", _no(exc))
        last = Reply(404, PrismStatusError("it has no finished v4", status=404))
        for revision in candidates(name_space, told):
            last = await self._ask(QUESTIONS[NAME_SPACES[name_space]], {**self.revisions, name_space: revision})
            if last.outcome != "absent":
                if last.outcome in ("good", "denied", "refused"):
                    return Served(revision, told, last)
                break
        return Served("", told, last)

    def unserved(self, name: str) -> str:
        """Return why one of QUESTIONS leads nowhere here, "" if nothing says so: no revision of v4 is served for it."""
        path = QUESTIONS[name].path
        return next((why for name_space, why in self._unserved.items() if f"{{{name_space}}}" in path), "")

    async def cluster_ids(self) -> tuple[Reply, list[str]]:
        """Ask for the ids of the clusters of a Prism Central, itself left out."""
        reply = await self.ask("v4.clusters")
        if reply.answer is None:
            return reply, []
        try:
            listed = reply.answer.decode(_ClusterList).data or []
        except PrismAnswerError as exc:
            return Reply(reply.status, exc), []
        return reply, [
            each.ext_id
            for each in listed
            if is_uuid(each.ext_id) and "PRISM_CENTRAL" not in ((each.config and each.config.cluster_function) or [])
        ]

    def central(self, elements: Inquiry) -> Prism:
        """Return what this Prism Central is to a capture; those that it names are reached as `elements` says."""
        no_volumes = self._unserved.get("volumes", "")
        spoken = self.revisions if not no_volumes else {**self.revisions, "volumes": ""}
        revisions = Revisions(*(spoken[name] for name in ("vmm", "dataprotection", "prism", "volumes")))
        findings = Findings(
            "v4", product=self.watch.product, is_central=True, revisions=revisions, no_volumes=no_volumes
        )
        prism = CentralPrism(
            self.session,
            revisions,
            elements._place.session_without_account,
            project=self.endpoint.project,
            findings=findings,
        )
        self._prisms.append(prism)
        return prism

    def element(self, no_v4: str) -> Prism:
        """Return what this Prism Element is to a capture."""
        findings = Findings("v3", product=self.watch.product, is_central=False, no_v4=no_v4)
        prism = ElementPrism(self.session, findings)
        self._prisms.append(prism)
        return prism

    async def _look_at(self, host: str, trust: Trust) -> Certificate | None:
        timeout_s = min(_LOOK_TIMEOUT_S, self.endpoint.timeout_s)
        return await look_at(host, self.endpoint.port, trust, timeout_s=timeout_s)

    def _by_header(self) -> bool | None:
        return {"pc": True, "pe": False}.get(self.watch.environment)

    async def _ask(self, question: Question, revisions: Mapping[str, str]) -> Reply:
        path = question.path.format(nobody=uuid.uuid4(), **revisions)
        headers = {"NTNX-Request-Id": str(uuid.uuid4())} if question.has_request_id else {}
        request = Request(
            question.method,
            path,
            body=question.body,
            query=question.query,
            headers=headers,
            is_repeatable=question.is_repeatable,
        )
        try:
            answer = await self.session.ask(request)
        except NtxError as exc:
            return _no(exc)
        try:
            if answer.body.strip():
                answer.decode(dict)
        except PrismAnswerError as exc:
            return Reply(answer.status, exc)
        return Reply(answer.status, None, answer)


async def _distrust(session: Session, shown: Certificate | None, trust: Trust, prefix: str) -> tuple[str, str] | None:
    try:
        await session.reach()
    except PrismConnectionError as exc:
        refused = certificate_error(exc)
        if refused is None:
            raise
        return judged(refused, shown, trust, prefix=prefix)
    return None


def _no(error: NtxError) -> Reply:
    if isinstance(error, CredentialsError):
        return Reply(401, error)
    if isinstance(error, PrismBusy):
        return Reply(429, error)
    return Reply(error.status if isinstance(error, PrismStatusError) else 0, error)
