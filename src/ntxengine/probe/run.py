"""Runs checks: those of independent things together, each when what it needs went well, told in the order of the table.

needs went wrong          skipped, with the first check that did
needs do not apply        does not apply either
it takes longer           failed: no answer within its limit
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from ntxengine.errors import MachineError, NtxError
from ntxengine.prism.tasks import may_pass
from ntxengine.probe.check import Check, Context
from ntxengine.probe.model import Line, Result, blocked, failed
from ntxengine.probe.words import AGAIN

Tell = Callable[[Line], None]

_Tasks = dict[str, "asyncio.Task[Line | None]"]

log = logging.getLogger(__name__)


async def run_checks(checks: Sequence[Check], context: Context, tell: Tell) -> list[Line]:
    """Run all, tell each as soon as it and all before it are known, and return what was found."""
    tasks: _Tasks = {}
    lines = []
    try:
        for check in checks:
            tasks[check.key] = asyncio.create_task(_line(check, context, tasks))
        for check in checks:
            line = await asyncio.shield(tasks[check.key])
            if line is not None:
                lines.append(line)
                tell(line)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return lines


async def _line(check: Check, context: Context, tasks: _Tasks) -> Line | None:
    """Wait for what it waits for, run it, and keep what was found; None if it does not apply."""
    because, needs_apply = "", True
    for key in (*check.needs, *check.after):
        line = await asyncio.shield(tasks[key])
        if key not in check.needs:
            continue
        needs_apply = needs_apply and line is not None
        if line is not None and line.result.status in ("failed", "skipped"):
            because = because or line.result.because or line.key
    if not needs_apply or (not because and not check.applies(context)):
        return None
    began = asyncio.get_running_loop().time()
    result = blocked(because) if because else await _result(check, context)
    seconds = asyncio.get_running_loop().time() - began
    found = Line(check.subject, check.name, result, round(seconds, 3))
    context.lines[check.key] = found
    return found


async def _result(check: Check, context: Context) -> Result:
    try:
        async with asyncio.timeout(check.limit_s) as limit:
            return await check.run(context)
    except TimeoutError:
        when = f"within {check.limit_s:g} s" if limit.expired() else "in time"
        return failed(f"no answer {when}", "see that what is asked here works, and try again")
    except MachineError:
        raise
    except NtxError as exc:
        return failed(str(exc), AGAIN if may_pass(exc) else "")
    except OSError as exc:
        what = f" ({exc.filename})" if exc.filename else ""
        return failed(f"looking at {check.key} failed: {exc.strerror or exc}{what}", "")
    except Exception as exc:
        log.debug("the traceback of the error", exc_info=exc)
        return failed(f"a defect of ntx: unexpected {type(exc).__name__}: {exc}", "report it, with --report FILE")
