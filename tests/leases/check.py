"""Has a development stack sign leases, and both examples of docs/leases.md judge them."""

import base64
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from lease import entitlements

APP = "example-ios"
THUMBPRINT = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
DAY = 24 * 60 * 60
# What the example's yearly plan gives.
ON = ["export", "pro_access"]
PATIENCE_SECONDS = 60


class Stack:
    """`entitled dev`, which may be stopped and started again."""

    def __init__(self, binary, work):
        self.binary, self.work, self.dir = binary, Path(work), Path(work) / "stack"
        self.port = free_ports()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = None

    def start(self):
        log = self.work / "log"
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [self.binary, "dev", "--dir", self.dir, "--port", str(self.port)],
                stdout=out,
                stderr=out,
            )
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "entitled is running" not in log.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                sys.exit(f"the stack did not start:\n{log.read_text()}")
            time.sleep(0.1)

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(PATIENCE_SECONDS)

    def command(self, *arguments):
        done = subprocess.run(
            [self.binary, *arguments, "--dir", self.dir], capture_output=True, text=True
        )
        if done.returncode:
            sys.exit(f"{arguments}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def get(self, path, token=None):
        request = urllib.request.Request(self.url + path)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def keys(self):
        return self.get("/.well-known/jwks.json")

    def lease(self, token, **terms):
        query = "&".join(f"{name}={value}" for name, value in terms.items())
        return self.get(f"/v1/entitlement:issueLease?{query}", token)["lease"]

    def snapshot(self, token):
        return self.get("/v1/entitlement:getEntitlements", token)["snapshot"]


def free_ports():
    """The first of four free ports."""

    def free(port):
        with socket.socket() as it:
            return it.connect_ex(("127.0.0.1", port)) != 0

    while True:
        first = random.randrange(20000, 32000)
        if all(free(first + offset) for offset in range(4)):
            return first


class Judges:
    """Both examples; whatever is asked, they must agree."""

    def __init__(self, work, issuer):
        self.node = subprocess.Popen(
            ["node", os.path.join(work, "judge.mjs")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.issuer = issuer
        self.judged = 0
        self.failed = 0

    def ask(self, lease, keys, *, audience=APP, issuer=None, device_key=None, kept=None, now=None):
        how = {"issuer": issuer or self.issuer, "audience": audience, "keys": keys}
        clock = {} if now is None else {"clock": lambda: now}
        mine, theirs = dict(kept or {}), {**how, "lease": lease, "kept": dict(kept or {})}
        try:
            on = entitlements(lease, **how, device_key=device_key, kept=mine, **clock)
            python = {"on": on, "kept": mine}
        except jwt.InvalidTokenError as refused:
            python = {"refused": f"{type(refused).__name__}: {refused}"}
        if device_key:
            theirs["deviceKey"] = device_key
        if now is not None:
            theirs["now"] = now
        self.node.stdin.write(json.dumps(theirs) + "\n")
        self.node.stdin.flush()
        return python, json.loads(self.node.stdout.readline())

    def expect(self, what, lease, keys, on, **how):
        """`on`: the ids that are given; None: it is refused."""
        self.judged += 1
        said = dict(zip(("Python", "JavaScript"), self.ask(lease, keys, **how)))
        for language, it in said.items():
            given = sorted(it["on"]) if "on" in it else None
            if given != on:
                self.failed += 1
                print(f"FAILED {what}: {language} says {it}, expected {on}")
        return said["Python"].get("kept")


def unsigned(lease):
    return json.loads(base64.urlsafe_b64decode(lease.split(".")[1] + "=="))


def forge(key, claims, typ="lease+jwt", **changes):
    headers = {"typ": typ, "kid": changes.pop("kid")}
    return jwt.encode({**claims, **changes}, key, algorithm="ES256", headers=headers)


def altered(lease):
    head, body, signature = lease.split(".")
    claims = unsigned(lease)
    claims["entitlements"]["more"] = claims["entitlements"]["pro_access"]
    more = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"{head}.{more}.{signature}"


def check(stack, judges):
    alice, backend = stack.command("token", "alice"), stack.command("token", "backend", "--service")
    stack.command("buy", "alice", "pro_yearly")
    account = stack.snapshot(alice)["account"]["id"]
    keys = stack.keys()
    lease = stack.lease(alice, **{"terms.app": APP})
    claims = unsigned(lease)
    assert claims["sub"] == account, claims

    # Genuine.
    judges.expect("a phone's", lease, keys, ON)
    bound = stack.lease(alice, **{"terms.app": APP, "terms.deviceKey": THUMBPRINT})
    judges.expect("a device's own", bound, keys, ON, device_key=THUMBPRINT)
    asked = stack.lease(backend, account="dev:alice")
    name = unsigned(asked)["aud"]
    assert name == "dev:backend", name
    judges.expect("a service's", asked, keys, ON, audience=name)
    assert unsigned(asked)["exp"] - unsigned(asked)["iat"] == 300, asked
    nobody = stack.lease(stack.command("token", "bob"), **{"terms.app": APP})
    judges.expect("of who has nothing", nobody, keys, [])

    # Refused.
    judges.expect("another app's", lease, keys, None, audience="example-android")
    judges.expect("another server's", lease, keys, None, issuer="https://entitled.example.com")
    judges.expect("another device's", bound, keys, None, device_key="x" * 43)
    judges.expect("a device's, without its key", bound, keys, None)
    judges.expect("unbound, where a device's is wanted", lease, keys, None, device_key=THUMBPRINT)
    judges.expect("altered", altered(lease), keys, None)
    judges.expect("by a key that is not published", lease, {"keys": []}, None)
    judges.expect("a part of it", lease.rsplit(".", 1)[0], keys, None)
    made = urllib.request.Request(
        stack.url + "/v1/account:createAnonymous", b"{}", {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(made, timeout=30) as answer:
        credential = json.load(answer)["credentials"]["accessToken"]
    judges.expect("a credential", credential, keys, None, audience=judges.issuer)

    # As a thief of the key would sign, to see what else is looked at.
    pem = (stack.dir / "tokens.pem").read_bytes()
    own, kid = load_pem_private_key(pem, None), jwt.get_unverified_header(lease)["kid"]
    now = int(time.time())
    judges.expect("as signed", forge(own, claims, kid=kid), keys, ON)
    judges.expect("of another type", forge(own, claims, "at+jwt", kid=kid), keys, None)
    judges.expect("expired", forge(own, claims, kid=kid, exp=now - 3600), keys, None)
    ahead = {"iat": now + 3600, "nbf": now + 3600}
    judges.expect("from the future", forge(own, claims, kid=kid, **ahead), keys, None)
    stranger = ec.generate_private_key(ec.SECP256R1())
    judges.expect("a stranger's", forge(stranger, claims, kid=kid), keys, None)

    # Its end, whatever the clock says later.
    until = claims["entitlements"]["pro_access"]["until"]
    assert until - claims["iat"] == 3 * DAY, claims
    judges.expect("in its last second", lease, keys, ON, now=until - 1)
    kept = judges.expect("at its end", lease, keys, [], now=until)
    judges.expect("with the clock set back", lease, keys, [], kept=kept)

    # A refund ends the next one, and the one before does not come back.
    stack.command("refund", "alice")
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        after = stack.lease(alice, **{"terms.app": APP})
        if "pro_access" not in unsigned(after)["entitlements"]:
            break
        if time.monotonic() > deadline:
            sys.exit("the refund did not end the next lease")
        time.sleep(0.1)
    kept = judges.expect("after the refund", after, keys, [])
    judges.expect("from before the refund", lease, keys, None, kept=kept)

    # Another key signs; what the first has signed holds while it is published.
    new = stranger.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    stack.stop()
    (stack.dir / "tokens.pem").write_bytes(new + pem)
    stack.start()
    both = stack.keys()
    assert len(both["keys"]) == 2, both
    rotated = stack.lease(alice, **{"terms.app": APP})
    assert jwt.get_unverified_header(rotated)["kid"] != kid
    judges.expect("by the new key", rotated, both, [])
    judges.expect("by the old key", lease, both, ON)
    judges.expect("by a key not fetched yet", rotated, keys, None)
    only_new = {"keys": [it for it in both["keys"] if it["kid"] != kid]}
    judges.expect("by a key that is gone", lease, only_new, None)


def main():
    binary, work = sys.argv[1:]
    stack = Stack(binary, work)
    with contextlib.ExitStack() as at_end:
        at_end.callback(stack.stop)
        stack.start()
        anyone = stack.command("token", "carol")
        judges = Judges(work, unsigned(stack.lease(anyone, **{"terms.app": APP}))["iss"])
        at_end.callback(judges.node.kill)
        check(stack, judges)
    print(f"{judges.judged} leases judged in Python and JavaScript, {judges.failed} of them wrongly")
    sys.exit(1 if judges.failed else 0)


if __name__ == "__main__":
    main()
