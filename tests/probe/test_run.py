"""How checks are run: what needs what, what takes too long, what a server says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ntxengine.errors import NtxError, PrismError
from ntxengine.prism import Secret, Trust
from ntxengine.prism.http.watch import RateHeaders
from ntxengine.prism.inquiry import Inquiry
from ntxengine.probe.check import Check, Context, Probed
from ntxengine.probe.model import MAX_TEXT, Line, ProbeOptions, Result, failed, ok
from ntxengine.probe.network import ClockSkew, Rates
from ntxengine.probe.run import run_checks
from ntxengine.sim.faults import AnswerFault, HttpFault
from tests.probe.lab import WORKER, Lab, ToldMachine


class Told(Check):
    """Returns what it is told to, or raises it."""

    def __init__(self, name: str, outcome: Result | Exception, *, needs: str = "", applies: bool = True) -> None:
        super().__init__("x", needs=tuple(f"x.{each}" for each in needs.split()))
        self.name = name
        self.outcome = outcome
        self.is_applied = applies

    def applies(self, context: Context) -> bool:
        return self.is_applied

    async def run(self, context: Context) -> Result:
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome


class Hangs(Check):
    name = "hangs"
    limit_s = 0.01

    async def run(self, context: Context) -> Result:
        await asyncio.sleep(3600)
        return ok("never")


@pytest.fixture
def context() -> Context:
    return Context(ProbeOptions(None, None), ToldMachine(), [])


async def run(context: Context, *checks: Check) -> dict[str, Line]:
    return {line.name: line for line in await run_checks(checks, context, lambda _line: None)}


async def test_what_needs_a_failed_check_is_skipped_and_names_the_first(context: Context) -> None:
    lines = await run(
        context, Told("a", failed("no", "mend")), Told("b", ok(""), needs="a"), Told("c", ok(""), needs="b")
    )

    assert lines["b"].result.status == lines["c"].result.status == "skipped"
    assert lines["b"].because == lines["c"].because == "x.a"


async def test_what_needs_a_check_that_does_not_apply_is_not_told(context: Context) -> None:
    lines = await run(context, Told("a", ok(""), applies=False), Told("b", ok(""), needs="a"))

    assert lines == {}


async def test_a_check_that_takes_too_long_has_failed(context: Context) -> None:
    lines = await run(context, Hangs("x"), Told("b", ok("")))

    assert lines["hangs"].result.status == "failed"
    assert "no answer within" in lines["hangs"].result.text
    assert lines["b"].result.status == "ok"


async def test_what_a_check_did_not_expect_does_not_end_the_others(context: Context) -> None:
    lines = await run(context, Told("a", KeyError("x")), Told("b", ok("")))

    assert lines["a"].result.status == "failed"
    assert "a defect of ntx: unexpected KeyError" in lines["a"].result.text
    assert lines["b"].result.status == "ok"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (NtxError("it broke"), "it broke"),
        (PrismError("it broke"), "it broke"),
        (OSError(5, "it broke"), "looking at x.a failed: it broke"),
        (PermissionError(13, "Permission denied", "/mnt"), "looking at x.a failed: Permission denied (/mnt)"),
        (TimeoutError(), "no answer in time"),
    ],
)
async def test_what_a_check_raises_is_its_failure(error: Exception, text: str, context: Context) -> None:
    lines = await run(context, Told("a", error))

    assert (lines["a"].result.status, lines["a"].result.text) == ("failed", text)


async def test_lines_come_in_the_order_of_the_table(context: Context) -> None:
    told: list[str] = []

    await run_checks(
        [Told("a", ok(""), needs="b"), Told("b", ok("")), Hangs("x"), Told("c", ok(""))],
        context,
        lambda line: told.append(line.name),
    )

    assert told == ["a", "b", "hangs", "c"]


def test_a_text_is_one_line_of_bounded_length() -> None:
    found = failed("a\n\tb " + "x" * 10_000, "c\r\nd")

    assert found.text.startswith("a b ")
    assert len(found.text) <= MAX_TEXT + 3
    assert found.remedy == "c d"


async def test_a_silent_prism_does_not_hold_it_up(lab: Lab) -> None:
    lab.central(timeout_s=1)  # in which a certificate is looked at, also on a busy machine
    # It refuses in the end: to answer it would log in, and that while the next test counts logins.
    lab.sim.faults.http.append(HttpFault("", status=503, delay_s=10, count=-1))

    async with asyncio.timeout(60):
        not_ok = await lab.not_ok()

    assert not_ok == {"prism.account": "failed"}


async def test_a_busy_prism_does_not_make_a_name_wrong(lab: Lab) -> None:
    lab.sim.faults.http.append(HttpFault(f"/ahv/config/vms/{lab.sim.vm_id(WORKER)}$", status=503, count=-1))

    found = await lab.probe()

    line = next(line for line in found.lines if line.key == "worker.found")
    assert line.result.status == "failed"
    assert line.result.remedy.startswith("try again later")


async def test_a_wrong_password_is_tried_once(lab: Lab) -> None:
    lab.central(password=Secret("wrong"))
    directory = lab.sim.front("central").directory
    before = directory.logins

    await lab.probe()

    assert directory.logins - before == 1


async def test_one_login_is_enough(lab: Lab) -> None:
    directory = lab.sim.front("central").directory
    before = directory.logins

    await lab.probe()

    assert directory.logins - before == 1


@pytest.mark.parametrize("text", ["\x1b[31mred\n" * 50, "\u202egnirts", "x" * 100_000], ids=["escape", "bidi", "long"])
async def test_what_a_server_says_is_bounded(text: str, lab: Lab, tmp_path: Path) -> None:
    lab.sim.faults.answers += [
        AnswerFault("clusters/[^/]+$", count=-1, field="data.name", value=text),
        AnswerFault("storage-containers", count=-1, field="data.*.name", value=text),
    ]

    found = await lab.probe()

    assert all(len(line.result.text) <= MAX_TEXT + 3 and "\n" not in line.result.text for line in found.lines)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ([], "no rate limit is told"),
        ([("5", "1"), ("2", "1")], "2 a second for the slowest call"),
        ([("5", "1"), ("100", "60")], "100 in 60 s for the slowest call"),
        ([("\u00b2", "1"), ("5", "")], "5 a second for the slowest call"),
        ([("\u00b2", "\u00b2")], "no number is told"),
    ],
)
async def test_rates_are_of_their_period(limits: list[tuple[str, str]], text: str, lab: Lab) -> None:
    found = await lab.probe()
    (place,) = found.context.places
    place.inquiry.watch.rates = {
        f"call {number}": RateHeaders(limit, period_s, "") for number, (limit, period_s) in enumerate(limits)
    }

    result = await Rates(place).run(found.context)

    assert (result.status, result.text) == ("ok", text)


@pytest.mark.parametrize(
    ("skew_s", "status", "text"),
    [
        (None, "ok", "it tells no time"),
        (-1.5, "ok", "it is ours to the second"),
        (59.0, "ok", "it is 59 s off"),
        (61.0, "warning", "it is 61 s ahead of ours: tokens and the expiry of recovery points go by it"),
        (-61.0, "warning", "it is 61 s behind ours: tokens and the expiry of recovery points go by it"),
    ],
)
async def test_a_clock_is_judged_by_the_times_of_its_answers(
    skew_s: float | None, status: str, text: str, lab: Lab
) -> None:
    context = Context(lab.options, lab.machine, [])
    inquiry = Inquiry(lab.endpoint(lab.sim.central_url), Trust())
    inquiry.watch.skew_s = skew_s

    result = await ClockSkew(Probed("prism", inquiry, True, True)).run(context)

    assert (result.status, result.text) == (status, text)


async def test_where_no_address_of_a_prism_element_is_told_none_is_looked_at(lab: Lab) -> None:
    lab.sim.faults.answers.append(
        AnswerFault("config/clusters/[^/]+$", count=-1, kind="drop", field="data.network.externalAddress")
    )

    found = await lab.probe()

    line = next(line for line in found.lines if line.key == "cluster.computing")
    assert line.result.status == "skipped"
    assert line.result.text.startswith("no address of a Prism Element is told")
    assert found.count("failed") == 0
