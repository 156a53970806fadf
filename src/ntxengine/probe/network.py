"""From a name to an account: what has to work before anything can be asked."""

from __future__ import annotations

import ipaddress

from ntxengine.errors import OptionsError, PrismError, PrismTimeout
from ntxengine.prism.http.endpoint import authority
from ntxengine.prism.http.trust import shown
from ntxengine.prism.http.watch import RateHeaders
from ntxengine.probe.check import Context, PrismCheck
from ntxengine.probe.machine import Route
from ntxengine.probe.model import Facts, Result, failed, ok, warning
from ntxengine.probe.words import FEW_DAYS, days_left, not_known, options_of

MAX_SKEW_S = 60.0
"""Tokens live 15 minutes, and a recovery point expires by the cluster's clock."""


class Name(PrismCheck):
    """The name of the Prism stands for an address."""

    name = "name"

    async def run(self, context: Context) -> Result:
        host = self.place.inquiry.endpoint.host
        try:
            ipaddress.ip_address(host)
        except ValueError:
            pass
        else:
            self.place.addresses = [host]
            return ok(f"{host} is an address", addresses=[host])
        try:
            found = await context.machine.addresses(host)
        except (OSError, TimeoutError) as exc:
            cause = "no answer in time" if isinstance(exc, TimeoutError) else (exc.strerror or "unknown").lower()
            return failed(
                f"the name {host} cannot be resolved: {cause}",
                f"correct {options_of(self.place)['address']}, or this machine's DNS: getent hosts {host}",
            )
        self.place.addresses = found
        return ok(f"{host} is {', '.join(found)}", addresses=found)


class Port(PrismCheck):
    """Its port can be reached."""

    name = "port"

    async def run(self, context: Context) -> Result:
        port = self.place.inquiry.endpoint.port
        tried: list[tuple[str, Route]] = []
        for address in self.place.addresses:
            route = await context.machine.connect(address, port)
            tried.append((address, route))
            if route.answer == "open":
                self.place.our_address = route.source
                return ok(
                    f"{authority(address, port)} answers in {route.seconds * 1000:.0f} ms, from here as {route.source}",
                    address=address,
                    our_address=route.source,
                    milliseconds=round(route.seconds * 1000),
                )
        said = "; ".join(f"{authority(address, port)}: {route.cause}" for address, route in tried)
        is_closed = any(route.answer == "closed" for _, route in tried)
        return failed(
            f"no connection to {said}",
            f"nothing listens there: is it the address of a Prism ({options_of(self.place)['address']})?"
            if is_closed
            else f"open TCP {port} from this machine to it in the firewalls between",
        )


class CertificateCheck(PrismCheck):
    """It shows a certificate that a capture would trust."""

    name = "certificate"

    async def run(self, context: Context) -> Result:
        inquiry = self.place.inquiry
        found = await inquiry.certificate()
        options = options_of(self.place)
        if found is None:
            return failed(
                "no TLS handshake: something listens there that shows no certificate",
                f"is it the address of a Prism ({options['address']})? Is a proxy in between?",
            )
        self.place.certificate = found
        days = days_left(found.not_after, context.now())
        who = f"{found.subject or 'unnamed'}, signed by {'itself' if found.subject == found.issuer else found.issuer}"
        facts: Facts = {
            "subject": found.subject,
            "issuer": found.issuer,
            "names": list(found.names),
            "sha256": shown(found.fingerprint),
            "days_left": days,
        }
        try:
            distrust = await inquiry.distrust(found)
        except PrismTimeout:
            distrust = None  # it was taken, and what is asked next will say that nobody answers
        except (PrismError, OptionsError) as exc:
            return failed(str(exc), "is it the address of a Prism? Is a proxy in between?", **facts)
        if distrust is not None:
            why, remedy = distrust
            return failed(f"not trusted: {why}; it is {who}", remedy, **facts)
        if days is not None and days < FEW_DAYS:
            left = f"it ends in {days} days" if days >= 0 else f"it ended {-days} days ago, and is trusted all the same"
            return warning(f"{who}: {left}", "renew it: Prism > Settings > SSL Certificate", **facts)
        left = "" if days is None else f", {days} days left"
        return ok(f"{who}{left}, SHA-256 {shown(found.fingerprint)}", **facts)


class Account(PrismCheck):
    """The account is taken."""

    name = "account"

    async def run(self, context: Context) -> Result:
        place = self.place
        reply, identity = await place.inquiry.identity()
        place.is_central = identity.is_central
        who, options = place.inquiry.who, options_of(place)
        if reply.status == 401:
            return failed(
                f"{who} was refused: {reply.text}",
                f"correct {options['account']}; Prism Central and each Prism Element have accounts of their own, and a"
                " directory wants user@domain (--auth ad)",
            )
        if reply.status == 403:
            other = await place.inquiry.ask("v3.vms" if place.inquiry.session.speaks_legacy else "v4.points")
            if other.outcome == "denied":
                return failed(
                    f"{who} may see nothing here: {reply.text}",
                    "give it a role: Backup Admin (Prism Central > Admin Center > IAM), Cluster Admin (Prism Element >"
                    " Settings > Local User Management or Role Mapping)",
                )
        if reply.outcome in ("busy", "silent"):
            return not_known(reply)
        if reply.outcome == "odd" or (reply.outcome == "absent" and await self._is_foreign()):
            return failed(
                f"it answers, and not as a Prism does: {reply.text}",
                f"is it the address of a Prism ({options['address']})? Is a proxy in between?",
            )
        return ok(f"{who} is taken", user=who)

    async def _is_foreign(self) -> bool:
        """Return whether nothing says that it is a Prism: neither its headers, nor v4 where v3 is gone."""
        watch = self.place.inquiry.watch
        if watch.product or watch.environment:
            return False
        return (await self.place.inquiry.ask("v4.vms")).outcome in ("absent", "odd")


class Kind(PrismCheck):
    """It is the kind of Prism that it was given as."""

    name = "kind"

    async def run(self, context: Context) -> Result:
        place = self.place
        kind = {True: "Prism Central", False: "Prism Element", None: "a Prism that does not say which"}[
            place.is_central
        ]
        product = place.inquiry.watch.product
        facts: Facts = {"is_central": place.is_central, "product": product}
        text = f"{kind}{f', {product}' if product else ''}"
        if place.is_central is True and not place.may_be_central:
            return failed(
                f"{text}: it was given as a Prism Element",
                "give the address of a Prism Element (--element; or --prism with --api v3)",
                **facts,
            )
        if place.is_central is False and not place.may_be_element:
            return failed(
                f"{text}: it was given as a Prism Central",
                "give the address of a Prism Central (--prism), or let it be asked (without --api v4)",
                **facts,
            )
        return ok(text, **facts)


class ClockSkew(PrismCheck):
    """Its clock is near to ours."""

    name = "clock"

    async def run(self, context: Context) -> Result:
        skew_s = self.place.inquiry.watch.skew_s
        if skew_s is None:
            return ok("it tells no time")
        facts: Facts = {"ahead_s": round(skew_s, 1)}
        if abs(skew_s) <= MAX_SKEW_S:
            return ok("it is ours to the second" if abs(skew_s) < 2 else f"it is {abs(skew_s):.0f} s off", **facts)
        way = "ahead of" if skew_s > 0 else "behind"
        return warning(
            f"it is {abs(skew_s):.0f} s {way} ours: tokens and the expiry of recovery points go by it",
            "set both by NTP: `timedatectl` here, `ncli cluster get-ntp-servers` on a controller VM",
            **facts,
        )


class Rates(PrismCheck):
    """How often Prism may be asked, as far as the headers of its answers tell."""

    name = "rates"

    async def run(self, context: Context) -> Result:
        rates = self.place.inquiry.watch.rates
        told = [
            {"call": call, "limit": rate.limit, "period_s": rate.period_s, "all_calls": rate.of_all}
            for call, rate in sorted(rates.items())
        ]
        if not told:
            return ok("no rate limit is told")
        slowest = min((rate for rate in rates.values() if _number(rate.limit)), key=_a_second, default=None)
        of_all = next((rate.of_all for rate in rates.values() if rate.of_all), "")
        parts = [
            f"{slowest.limit} {_period(slowest)} for the slowest call" if slowest else "",
            f"{of_all} a second for all" if of_all else "",
        ]
        return ok(", ".join(filter(None, parts)) or "no number is told", rates=told)


def _number(text: str) -> int:
    """Return a number as a header has it, 0 if it is none."""
    return int(text) if text.isascii() and text.isdecimal() else 0


def _a_second(rate: RateHeaders) -> float:
    return _number(rate.limit) / (_number(rate.period_s) or 1)


def _period(rate: RateHeaders) -> str:
    return "a second" if _number(rate.period_s) in (0, 1) else f"in {_number(rate.period_s)} s"
