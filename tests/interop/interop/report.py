"""What was verified by whom, counted; a row that verified nothing has failed."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator

FAILURES_SHOWN = 12


@dataclasses.dataclass
class Row:
    """One kind of check by one client."""

    client: str
    what: str
    passed: int = 0
    failures: list[str] = dataclasses.field(default_factory=list)

    def check(self, holds: bool, otherwise: str) -> bool:
        """Counts one check; `otherwise` says what is wrong when it does not hold."""
        if holds:
            self.passed += 1
        else:
            self.failures.append(otherwise)
        return holds

    def equal(self, found: object, expected: object, what: str) -> bool:
        return self.check(found == expected, f"{what}: expected {expected!r}, found {found!r}")

    def none(self, problems: list[str], what: str) -> bool:
        """One check, which lists everything that is wrong."""
        return self.check(not problems, f"{what}: " + "; ".join(problems[:5]))

    @contextlib.contextmanager
    def case(self, what: str) -> Iterator[None]:
        """Counts a block that must not raise."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a client raises is the finding
            self.failures.append(f"{what}: {error!r}"[:600])
        else:
            self.passed += 1

    @contextlib.contextmanager
    def refused(self, what: str, *by: type[BaseException]) -> Iterator[None]:
        """Counts a block that must raise one of these."""
        try:
            yield
        except by:
            self.passed += 1
        except Exception as error:  # noqa: BLE001
            self.failures.append(f"{what}: refused for another reason: {error!r}"[:600])
        else:
            self.failures.append(f"{what}: accepted")

    @property
    def good(self) -> bool:
        return self.passed > 0 and not self.failures


class Report:
    """All rows, in the order in which they were first asked for."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Row] = {}
        self.notes: list[str] = []
        self.began = time.monotonic()

    def row(self, client: str, what: str) -> Row:
        return self.rows.setdefault((client, what), Row(client, what))

    def add(self, rows: list[dict]) -> None:
        """Takes rows that another process has counted."""
        for row in rows:
            mine = self.row(row["client"], row["what"])
            mine.passed += row["passed"]
            mine.failures.extend(row["failures"])

    def note(self, text: str) -> None:
        self.notes.append(text)

    @property
    def good(self) -> bool:
        return bool(self.rows) and all(row.good for row in self.rows.values())

    def print(self) -> None:
        for row in self.rows.values():
            if row.failures:
                print(f"\n{row.client}, {row.what}: {len(row.failures)} failed")
                for failure in row.failures[:FAILURES_SHOWN]:
                    print(f"  - {failure}")
                if len(row.failures) > FAILURES_SHOWN:
                    print(f"  … and {len(row.failures) - FAILURES_SHOWN} more")
            elif row.passed == 0:
                print(f"\n{row.client}, {row.what}: nothing was verified")
        print()
        for note in self.notes:
            print(note)
        widths = [max(len(getattr(row, name)) for row in self.rows.values()) for name in ("client", "what")]
        header = f"{'client':<{widths[0]}}  {'what':<{widths[1]}}  {'passed':>7}  {'failed':>7}"
        print(f"\n{header}\n{'-' * len(header)}")
        for row in self.rows.values():
            mark = "" if row.good else "  ✗"
            print(f"{row.client:<{widths[0]}}  {row.what:<{widths[1]}}  {row.passed:>7}  {len(row.failures):>7}{mark}")
        passed = sum(row.passed for row in self.rows.values())
        failed = sum(len(row.failures) for row in self.rows.values())
        print(f"{'-' * len(header)}\n{passed} checks passed, {failed} failed, {time.monotonic() - self.began:.0f} s")
