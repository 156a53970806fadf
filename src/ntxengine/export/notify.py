"""Telling the control plane: one POST, tried again, whose answer is not believed further than its status.

2xx                                   told
408 425 429 5xx, no answer, no way    tried again, later each time
3xx                                   refused: what we send is for whom it was meant
else                                  final
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

import httpx

from ntxengine.concurrency.completion import to_thread_joined
from ntxengine.concurrency.handshake import HandshakeGuard
from ntxengine.errors import ControlPlaneError, OptionsError
from ntxengine.export.options import NotifyOptions

log = logging.getLogger(__name__)

FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0

_ANSWER_LIMIT = 64 * 1024
"""Bytes of an answer that are taken: what says why is in the beginning."""
_SHOWN = 200
_AGAIN = (408, 425, 429)


class _TryAgain(ControlPlaneError):
    """Not told yet."""


async def notify(
    options: NotifyOptions,
    body: bytes,
    *,
    key: str,
    warn: Callable[[str], None],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Tell the control plane.  `key` is the same in every try: who got an earlier one knows it again.

    Errors: ControlPlaneError; OptionsError (its CA cannot be read).
    """
    context = await to_thread_joined(_context, options)
    wait_s = FIRST_WAIT_S
    async with httpx.AsyncClient(verify=context, follow_redirects=False, trust_env=False, timeout=None) as client:
        for attempt in range(1, options.attempts + 1):
            try:
                await _post(client, options, body, key)
            except _TryAgain as error:
                if attempt == options.attempts:
                    raise ControlPlaneError(f"{error}; given up after {attempt} attempts") from error
                warn(f"{error}; trying again in {wait_s:g} s")
                await sleep(wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            else:
                return


async def _post(client: httpx.AsyncClient, options: NotifyOptions, body: bytes, key: str) -> None:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key, "Accept-Encoding": "identity"}
    if options.token is not None:
        headers["Authorization"] = f"Bearer {options.token.reveal()}"
    guarded = {"trace": HandshakeGuard()}
    said = bytearray()
    try:
        async with (
            asyncio.timeout(options.timeout_s),
            client.stream("POST", options.url, content=body, headers=headers, extensions=guarded) as answer,
        ):
            status = answer.status_code
            async for piece in answer.aiter_raw():
                said += piece
                if len(said) >= _ANSWER_LIMIT:
                    break
    except TimeoutError as exc:
        raise _TryAgain(f"{options.url}: no answer within {options.timeout_s:g} s") from exc
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError) as exc:
        # Without the cause: it carries the request, with its token.
        raise _TryAgain(f"{options.url}: cannot be told: {str(exc) or type(exc).__name__}") from None
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise ControlPlaneError(
            f"{options.url}: answers with a redirect ({status}), which is not followed: name the address itself"
        )
    text = f"{options.url}: answers {status}{_words(bytes(said))}"
    raise (_TryAgain if status >= 500 or status in _AGAIN else ControlPlaneError)(text)


def _words(said: bytes) -> str:
    """Return the beginning of an answer, for a message: printable, one line."""
    text = " ".join(said[: 4 * _SHOWN].decode("utf-8", "replace").split())
    shown = "".join(letter if letter.isprintable() else "?" for letter in text)[:_SHOWN]
    return f": {shown}" if shown else ""


def _context(options: NotifyOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca)
    except (OSError, ssl.SSLError) as exc:
        raise OptionsError(f"--notify-ca {options.ca}: {exc.strerror or exc}") from exc
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
