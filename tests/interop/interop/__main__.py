"""Runs every check against running simulators; see ../README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from . import differential, selfcheck
from .apple import endpoints as apple_endpoints
from .apple import scenes as apple_scenes
from .apple.verifier import CLIENT as APPLE
from .control import Control
from .follow import Follower
from .google import endpoints as google_endpoints
from .google import scenes as google_scenes
from .google.client import CLIENT as GOOGLE
from .google.push import CLIENT as PUSH
from .google.push import PushCheck
from .report import Report
from .scenes import play
from .superwall import EVENTS, STANDARD, STORES, SVIX, SuperwallCheck
from .world import APPLE_PATH, GOOGLE_PATH, SUPERWALL_PATH, World

HERE = Path(__file__).resolve().parent.parent
YEAR = datetime.timedelta(days=400)
QUARTER = datetime.timedelta(days=100)
PAGE = "Chromium"
# All of these must have verified something.
CLIENTS = (
    APPLE,
    "Apple, Node",
    GOOGLE,
    PUSH,
    SVIX,
    STANDARD,
    "svix, Node",
    "standardwebhooks, Node",
    PAGE,
)
# What looks different in the sandbox: environments, test purchases, single attempts.
IN_SANDBOX = {
    apple_scenes.app_level,
    apple_scenes.billing_trouble,
    apple_scenes.family,
    apple_scenes.one_time,
    apple_scenes.refund_consultation,
    apple_scenes.refused_delivery,
    google_scenes.cancels_and_restores,
    google_scenes.one_time,
    google_scenes.pending,
    google_scenes.refunds,
}


def main() -> int:
    arguments = argparse.ArgumentParser(prog="interop", description=__doc__)
    arguments.add_argument("directories", nargs="+", type=Path, help="directories of running simulators")
    arguments.add_argument("--node", type=Path, help="directory with the Node packages; without it Node checks nothing")
    arguments.add_argument("--binary", help="the server, to judge the corpus of forgeries; without it nobody does")
    arguments.add_argument("--page", type=Path, help="directory with the page's check and its packages")
    arguments.add_argument("--scenes", help="play only scenes whose name contains this (for working on one)")
    options = arguments.parse_args()
    report = Report()
    selfcheck.check(report)
    for directory in options.directories:
        world = World(directory, report)
        try:
            check(world, options)
        finally:
            world.receiver.stop()
    if options.page and not options.scenes:
        check_page(options.directories[-1], options.page, report)
    if options.binary and not options.scenes:
        differential.check(report, options.binary, options.node)
    if not options.scenes:
        row = report.row("driver", "clients that took part")
        for client in CLIENTS:
            row.check(any(counted.client == client for counted in report.rows.values()), f"{client} verified nothing")
    report.print()
    return 0 if report.good else 1


def check(world: World, options: argparse.Namespace) -> None:
    report = world.report
    world.control.post(
        "webhooks",
        {
            "app_store": world.receiver.url(APPLE_PATH),
            "google_play": world.receiver.url(GOOGLE_PATH),
            "superwall": world.receiver.url(SUPERWALL_PATH),
        },
    )
    for store in ("app_store", "google_play"):
        world.control.post("notifications/test", {"store": store})
    whole = world.control.production and not options.scenes
    scenes = [*apple_scenes.SCENES, *google_scenes.SCENES]
    if options.scenes:
        scenes = [scene for scene in scenes if options.scenes in f"{scene.__module__}.{scene.__name__}"]
    elif not whole:
        scenes = [scene for scene in scenes if scene in IN_SANDBOX]
    row = report.row("driver", f"scenes played to the end ({world.name})")
    play(world, scenes, row, YEAR if whole else QUARTER, Follower(world).follow)
    parts = [lambda: check_apple(world, options, whole=whole), lambda: check_pushes(world, whole=whole)]
    parts.append(lambda: check_superwall(world, whole=whole))
    if whole:
        parts[:0] = [lambda: apple_endpoints.check(world), lambda: google_endpoints.check(world)]
    elif not options.scenes:
        parts[:0] = [lambda: apple_endpoints.check_sandbox_limit(world)]
    row = report.row("driver", "checks came to their ends")
    for part in parts:
        with row.case(world.name):
            part()


def check_apple(world: World, options: argparse.Namespace, *, whole: bool) -> None:
    world.verifier.check_ocsp()
    world.verifier.check_responders(world.control)
    world.verifier.check_forgeries()
    seen = world.verifier.seen
    if whole:
        row = world.report.row(APPLE, "notification types and subtypes seen")
        for expected in sorted(apple_scenes.EXPECTED):
            row.check(seen[expected] > 0, f"{expected} was never sent")
    world.report.note(f"App Store notifications ({world.name}): {_counts(seen)}")
    if options.node:
        check_node(world, options.node, whole=whole)


def check_pushes(world: World, *, whole: bool) -> None:
    pushes = PushCheck(world.manifest, world.report)
    deliveries = world.receiver.at(GOOGLE_PATH)
    pushes.check(deliveries)
    pushes.check_forgeries(deliveries)
    if whole:
        row = world.report.row(PUSH, "developer notification types seen")
        for expected in sorted(google_scenes.EXPECTED):
            row.check(pushes.types[expected] > 0, f"{expected} was never sent")
    world.report.note(f"Google Play notifications ({world.name}): {_counts(pushes.types)}")


def check_superwall(world: World, *, whole: bool) -> None:
    deliveries = world.receiver.at(SUPERWALL_PATH)
    superwall = SuperwallCheck(
        world.manifest["superwall"]["secret"], world.report, legacy=world.manifest["superwall"]["version"] == 1
    )
    superwall.check(deliveries)
    superwall.check_forgeries(deliveries)
    if whole:
        row = world.report.row(SVIX, "events seen")
        for store in sorted(STORES):
            for event in sorted(EVENTS - ({"subscription_paused"} if store == "APP_STORE" else set())):
                row.check(superwall.events[f"{store} {event}"] > 0, f"{store} {event} was never sent")
    world.report.note(f"Superwall events ({world.name}): {_counts(superwall.events)}")


def check_node(world: World, node: Path, *, whole: bool) -> None:
    """Hands over what was received; the Node libraries count rows of their own."""
    superwall = [
        {"headers": delivery.headers, "body": delivery.body.decode()} for delivery in world.receiver.at(SUPERWALL_PATH)
    ]
    handed = {
        "manifest": world.manifest,
        "signed": {kind: list(documents) for kind, documents in world.verifier.documents.items()},
        "superwall": superwall,
        "now": world.control.now_millis(),
        "drive": whole,
    }
    done = subprocess.run(
        ["node", str(HERE / "node" / "main.mjs"), str(node)],
        input=json.dumps(handed),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )
    if world.report.row("driver", "Node ran to the end").check(done.returncode == 0, done.stderr[-2000:]):
        world.report.add(json.loads(done.stdout))


def check_page(directory: Path, page: Path, report: Report) -> None:
    """Drives the simulator's page in a browser; that script counts for itself."""
    control = Control(directory)
    done = subprocess.run(
        ["node", "check.mjs"],
        cwd=page,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env={**os.environ, "SANDBOX_URL": control.url.removesuffix("/control")},
    )
    row = report.row(PAGE, "steps on the simulator's page")
    row.passed += sum(line.startswith("ok ") for line in done.stdout.splitlines())
    row.check(done.returncode == 0, (done.stdout + done.stderr)[-1500:])


def _counts(seen: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(seen.items()))


if __name__ == "__main__":
    sys.exit(main())
