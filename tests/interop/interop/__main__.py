"""Runs every check against running simulators; see ../README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from .apple import endpoints as apple_endpoints
from .apple import scenes as apple_scenes
from .apple.verifier import CLIENT as APPLE
from .follow import Follower
from .google import endpoints as google_endpoints
from .google import scenes as google_scenes
from .google.push import CLIENT as PUSH
from .google.push import PushCheck
from .report import Report
from .scenes import play
from .superwall import SVIX, EVENTS, STORES, SuperwallCheck
from .world import APPLE_PATH, GOOGLE_PATH, SUPERWALL_PATH, World

HERE = Path(__file__).resolve().parent.parent
YEAR = datetime.timedelta(days=400)


def main() -> int:
    arguments = argparse.ArgumentParser(prog="interop", description=__doc__)
    arguments.add_argument("directories", nargs="+", type=Path, help="directories of running simulators")
    arguments.add_argument("--node", type=Path, help="directory with the Node packages; without it Node checks nothing")
    arguments.add_argument("--scenes", help="play only scenes whose name contains this (for working on one)")
    options = arguments.parse_args()
    report = Report()
    for directory in options.directories:
        world = World(directory, report)
        try:
            check(world, options)
        finally:
            world.receiver.stop()
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
    scenes = [*apple_scenes.SCENES, *google_scenes.SCENES]
    if options.scenes:
        scenes = [scene for scene in scenes if options.scenes in f"{scene.__module__}.{scene.__name__}"]
    row = report.row("driver", f"scenes played to the end ({world.name})")
    play(world, scenes, row, YEAR, Follower(world).follow)
    if not options.scenes:
        apple_endpoints.check(world)
        google_endpoints.check(world)
    check_apple(world, options)
    check_pushes(world)
    check_superwall(world)


def check_apple(world: World, options: argparse.Namespace) -> None:
    world.verifier.check_ocsp()
    world.verifier.check_forgeries()
    seen = world.verifier.seen
    row = world.report.row(APPLE, "notification types and subtypes seen")
    for expected in sorted(apple_scenes.EXPECTED):
        row.check(seen[expected] > 0, f"{expected} was never sent")
    world.report.note(f"App Store notifications ({world.name}): {_counts(seen)}")
    if options.node:
        check_node(world, options.node)


def check_pushes(world: World) -> None:
    pushes = PushCheck(world.manifest, world.report)
    deliveries = world.receiver.at(GOOGLE_PATH)
    pushes.check(deliveries)
    pushes.check_forgeries(deliveries)
    row = world.report.row(PUSH, "developer notification types seen")
    for expected in sorted(google_scenes.EXPECTED):
        row.check(pushes.types[expected] > 0, f"{expected} was never sent")
    world.report.note(f"Google Play notifications ({world.name}): {_counts(pushes.types)}")


def check_superwall(world: World) -> None:
    deliveries = world.receiver.at(SUPERWALL_PATH)
    superwall = SuperwallCheck(world.manifest["superwall_webhook_secret"], world.report, legacy=world.legacy_superwall)
    superwall.check(deliveries)
    superwall.check_forgeries(deliveries)
    row = world.report.row(SVIX, "events seen")
    for store in sorted(STORES):
        for event in sorted(EVENTS - ({"subscription_paused"} if store == "APP_STORE" else set())):
            row.check(superwall.events[f"{store} {event}"] > 0, f"{store} {event} was never sent")
    world.report.note(f"Superwall events ({world.name}): {_counts(superwall.events)}")


def check_node(world: World, node: Path) -> None:
    """Hands over what was received; the Node libraries count rows of their own."""
    superwall = [
        {"headers": delivery.headers, "body": delivery.body.decode()} for delivery in world.receiver.at(SUPERWALL_PATH)
    ]
    handed = {
        "manifest": world.manifest,
        "signed": {kind: list(documents) for kind, documents in world.verifier.documents.items()},
        "superwall": superwall,
        "now": world.control.now_millis(),
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


def _counts(seen: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(seen.items()))


if __name__ == "__main__":
    sys.exit(main())
