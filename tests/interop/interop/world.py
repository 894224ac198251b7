"""One simulator, the vendors' clients of it, and the mailbox it delivers to."""

from __future__ import annotations

from pathlib import Path

from .apple.client import Api
from .apple.verifier import Verifier
from .control import Control
from .google.client import Play
from .receiver import Receiver
from .report import Report

APPLE_PATH = "/apple"
GOOGLE_PATH = "/google"
SUPERWALL_PATH = "/superwall"


class World:
    """What scenes and checks work with."""

    def __init__(self, directory: Path, report: Report) -> None:
        self.report = report
        self.control = Control(directory)
        self.manifest = self.control.manifest
        self.receiver = Receiver()
        self.verifier = Verifier(self.manifest, report)
        self.apple = Api(self.manifest, self.verifier, report)
        self.google = Play(self.manifest, report)
        self.name = self.manifest["environment"].lower()
