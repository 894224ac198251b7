"""Genuine and forged documents, judged by the server and by the vendors' own verifiers.

The server makes the corpus and says what it thinks of each document (`entitled inspect corpus`). A
verifier that disagrees must be expected to, with a reason, in EXPLAINED; an entry that explains
nothing any more fails as well.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import standardwebhooks
import svix
from appstoreserverlibrary.models.Environment import Environment
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier
from google.oauth2 import id_token

from .report import Report

APPLE = "Apple, Python"
APPLE_NODE = "Apple, Node"
GOOGLE = "google-auth, Python"
SVIX = "svix, Python"
SVIX_NODE = "svix, Node"
STANDARD = "standardwebhooks, Python"
STANDARD_NODE = "standardwebhooks, Node"
WHAT = "verdicts agree with the server's, or are explained"
HERE = Path(__file__).resolve().parent.parent

# (verifier, class, name, why it disagrees). The server is the stricter one in all but the last.
EXPLAINED: list[tuple[str, str, str, str]] = [
    (
        "Apple, .*",
        "A2",
        "leaf with a byte too many",
        "bytes after the certificate are ignored there; here a certificate is all that x5c may hold",
    ),
    (
        "Apple, .*",
        "A3",
        "(alg|x5c) given twice",
        "the last of two values counts there; here a header that two readers could read differently is refused",
    ),
    (
        "Apple, .*",
        "A4",
        "(jwk|jku|x5u) beside the chain|crit of nothing|crit names b64|b64 false",
        "parameters that the library does not use are ignored; Apple sends none of them, and here nothing "
        "that leads to another key or changes what is signed is let pass",
    ),
    ("Apple, Node", "A10", "critical header unknown", "the library does not look at crit; RFC 7515 has it refused"),
    ("Apple, Python", "A5", "padded base64", "padding is forgiven there; a JWS has none (RFC 7515)"),
    (
        "Apple, .*",
        "A6",
        "no signedDate|signedDate (null|\"[0-9]+\")",
        "without a time of signing the library judges the chain by its own clock; here documents are ordered "
        "by signedDate, so there must be one",
    ),
    (
        "Apple, Node",
        "A6",
        "signedDate (1e\\+308|-9223372036854775808|18446744073709551615)",
        "no date in JavaScript, and what is compared with no date is never out of range",
    ),
    (
        "Apple, .*",
        "A6",
        "signed (an hour from now|in ten years)",
        "the library has no opinion of the future; whoever orders by signedDate must have one",
    ),
    (
        "google-auth, Python",
        "C6",
        "no expiry|expiry (as text|with a fraction|in ten years|beyond all numbers)|issue time as text",
        "with keys as JWKS the library takes tokens without an end and numbers in any clothes; Google's live an hour",
    ),
    (
        "google-auth, Python",
        "C6",
        "(jku|x5u|jwk|x5c) in the header",
        "parameters that the library does not use are ignored; Google sends none of them",
    ),
    (
        "(svix|standardwebhooks), Python",
        "C1",
        "with a byte too many",
        "what follows the padding of base64 is dropped there",
    ),
    (
        "(svix|standardwebhooks), Node",
        "C1",
        "the good one behind ten thousand others",
        "there every signature of the header is tried; here sixteen",
    ),
    (
        "google-auth, Python",
        "C6",
        "issued within the minute from now",
        "the library allows no difference between clocks unless told to; the server allows a minute",
    ),
]


def check(report: Report, binary: str, node: Path | None) -> None:
    done = subprocess.run(
        [binary, "inspect", "corpus", "--seed", os.environ.get("ENTITLED_SEED", "0")],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    row = report.row("driver", "the server judged its corpus as its maker did")
    if not row.check(done.stdout.startswith("{"), done.stderr[-2000:]):
        return
    corpus = json.loads(done.stdout)
    for case in [*corpus["apple"]["cases"], *corpus["push"]["cases"]]:
        row.check(
            case["accepted"] == case["genuine"],
            f"{case['kind']} {case['class']} {case['name']}: {case['why'][-300:]}",
        )
    judged = Judged(report)
    judged.all(APPLE, corpus["apple"]["cases"], apple(corpus["apple"]))
    judged.all(GOOGLE, corpus["push"]["cases"], google(corpus["push"]))
    deliveries = corpus["superwall"]["cases"]
    for case in deliveries:
        case["kind"] = "delivery"
        row.check(case["accepted"] == case["genuine"], f"delivery {case['class']} {case['name']}")
    secret = corpus["superwall"]["secret"]
    judged.all(SVIX, deliveries, webhook(svix.Webhook(secret)))
    judged.all(STANDARD, deliveries, webhook(standardwebhooks.Webhook(secret)))
    if node:
        by_node(judged, corpus, node)
    judged.finish(everything=node is not None)


class Judged:
    """Compares verdicts, and keeps an account of what was explained."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.explained: Counter[int] = Counter()

    def all(self, client: str, cases: list[dict[str, Any]], accepts: Callable[[dict[str, Any]], Any]) -> None:
        for case in cases:
            try:
                accepts(case)
                verdict, why = True, "accepted"
            except Exception as error:  # noqa: BLE001 - whatever it raises, it does not accept
                verdict, why = False, repr(error)
            self.one(client, case, verdict, why)

    def one(self, client: str, case: dict[str, Any], verdict: bool, why: str) -> None:
        row = self.report.row(client, WHAT)
        if verdict == case["accepted"]:
            row.passed += 1
            return
        for number, (by, of, name, _) in enumerate(EXPLAINED):
            if re.fullmatch(by, client) and case["class"] == of and re.fullmatch(name, case["name"]):
                self.explained[number] += 1
                row.passed += 1
                return
        server = "accepts" if case["accepted"] else "refuses"
        row.check(False, f"{case['kind']} {case['class']} {case['name']}: the server {server} it, here: {why[:200]}")

    def finish(self, *, everything: bool) -> None:
        row = self.report.row("driver", "explained disagreements that there are")
        for number, (by, of, name, why) in enumerate(EXPLAINED):
            if everything:
                row.check(self.explained[number] > 0, f"nobody disagrees: {by}, {of}, {name}")
            self.report.note(f"disagreement, {self.explained[number]} times: {by}, {of} {name}: {why}")


def apple(corpus: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    verifier = SignedDataVerifier(
        [base64.b64decode(corpus["root"])],
        False,  # noqa: FBT003 - OCSP is asked for genuine documents elsewhere
        Environment(corpus["environment"]),
        corpus["bundle_id"],
        corpus["app_apple_id"],
    )
    decode = {
        "transaction": verifier.verify_and_decode_signed_transaction,
        "notification": verifier.verify_and_decode_notification,
    }
    return lambda case: decode[case["kind"]](case["document"])


def google(corpus: dict[str, Any]) -> Callable[[dict[str, Any]], Any]:
    def accepts(case: dict[str, Any]) -> None:
        keys = mock.Mock(status=200, data=json.dumps(corpus["keys"]).encode())
        claims = id_token.verify_token(
            case["document"],
            lambda *_arguments, **_named: keys,
            audience=corpus["audience"],
            certs_url="https://keys.example/jwks",
        )
        # As Google's documentation tells receivers of pushes to go on.
        if claims["iss"] not in {"accounts.google.com", "https://accounts.google.com"}:
            raise ValueError("another issuer")
        if claims["email"] != corpus["email"] or claims["email_verified"] is not True:
            raise ValueError("another sender")

    return accepts


def webhook(verifier: Any) -> Callable[[dict[str, Any]], Any]:
    standard = isinstance(verifier, standardwebhooks.Webhook)

    def accepts(case: dict[str, Any]) -> None:
        headers = case["headers"]
        if "content-encoding" in headers:
            raise ValueError("a receiver of Svix webhooks takes bodies as they are signed")
        if standard:
            headers = {name.replace("svix-", "webhook-"): value for name, value in headers.items()}
        verifier.verify(base64.b64decode(case["body"]), headers)

    return accepts


def by_node(judged: Judged, corpus: dict[str, Any], node: Path) -> None:
    done = subprocess.run(
        ["node", str(HERE / "node" / "differential.mjs"), str(node)],
        input=json.dumps(corpus),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )
    if not judged.report.row("driver", "Node judged the corpus").check(done.returncode == 0, done.stderr[-2000:]):
        return
    verdicts = json.loads(done.stdout)
    for client, cases, judgements in (
        (APPLE_NODE, corpus["apple"]["cases"], verdicts["apple"]),
        (SVIX_NODE, corpus["superwall"]["cases"], verdicts["svix"]),
        (STANDARD_NODE, corpus["superwall"]["cases"], verdicts["standard"]),
    ):
        for case, why in zip(cases, judgements, strict=True):
            judged.one(client, case, why is None, why or "accepted")
