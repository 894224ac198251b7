"""The simulator's control API, as a script drives it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import requests


class Refused(Exception):
    """The control API did not do what was asked."""


class Control:
    """One running simulator."""

    def __init__(self, directory: Path) -> None:
        self.manifest: dict[str, Any] = json.loads((directory / "manifest.json").read_text())
        self.url: str = self.manifest["control_url"]
        self.session = requests.Session()

    def get(self, path: str, **query: str) -> Any:
        return self._answer(self.session.get(f"{self.url}/{path}", params=query, timeout=60))

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._answer(self.session.post(f"{self.url}/{path}", json=body, timeout=300))

    @staticmethod
    def _answer(response: requests.Response) -> Any:
        if not response.ok:
            path = response.request.path_url
            sent = response.request.body
            raise Refused(f"{path} {sent!r}: {response.status_code} {response.text[:300]}")
        return response.json() if response.content else {}

    def apple(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Something that happens at the App Store."""
        return self.post(f"app-store/{verb}", _present(fields))

    def google(self, verb: str, **fields: Any) -> dict[str, Any]:
        """Something that happens at Google Play."""
        return self.post(f"google-play/{verb}", _present(fields))

    def now(self) -> datetime.datetime:
        return datetime.datetime.fromisoformat(self.get("clock")["now"])

    def now_millis(self) -> int:
        return int(self.now().timestamp() * 1000)

    def advance_to(self, moment: datetime.datetime) -> None:
        self.post("advance", {"to": moment.isoformat().replace("+00:00", "Z")})

    @property
    def production(self) -> bool:
        return self.manifest["environment"] == "Production"


def _present(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
