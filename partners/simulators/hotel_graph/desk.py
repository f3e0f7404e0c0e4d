"""What the hotel group's service knows and keeps: houses, doors of stays, planted faults."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SDL = (HERE / "schema.graphql").read_text(encoding="utf-8")
BOOK: Mapping[str, Any] = json.loads((HERE / "houses.json").read_text(encoding="utf-8"))
FAULTS = frozenset({"latency", "error_5xx", "malformed_body", "connection_refused"})
SEEN = 100  # calls that are remembered


class Desk:
    """What is kept across restarts, in a file that the service on Node reads as well."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._kept: dict[str, Any] = {"doors": {}, "faults": []}
        if file.exists():
            self._kept = json.loads(file.read_text(encoding="utf-8"))
        self.seen: list[dict[str, Any]] = []

    def note(self, call: dict[str, Any]) -> None:
        """Remember a call."""
        self.seen = [*self.seen, call][-SEEN:]

    def door(self, redemption: str) -> str:
        """The door of a redemption's room; the next free one the first time."""
        doors: dict[str, str] = self._kept["doors"]
        if redemption not in doors:
            doors[redemption] = str(BOOK["stay"]["firstDoor"] + len(doors))
            self._save()
        return doors[redemption]

    def plant(self, row: Mapping[str, Any]) -> None:
        """Plant a fault, `count` times or for ever.

        Raises:
            ValueError: There is no such fault.
        """
        if row.get("fault") not in FAULTS:
            raise ValueError(f"no such fault: {row.get('fault')}")
        fault = {"fault": row["fault"], "value": row.get("value"), "left": row.get("count")}
        self._kept["faults"].append(fault)
        self._save()

    def clear(self) -> None:
        """Behave from now on."""
        self._kept["faults"] = []
        self._save()

    def take(self, name: str) -> Mapping[str, Any] | None:
        """A planted fault of that name, one of its times used up."""
        for one in self._kept["faults"]:
            if one["fault"] == name and one["left"] != 0:
                if one["left"] is not None:
                    one["left"] -= 1
                    self._save()
                found: Mapping[str, Any] = one
                return found
        return None

    def _save(self) -> None:
        made = self._file.with_name(f"{self._file.name}.new")
        made.touch(mode=0o600)
        made.write_text(json.dumps(self._kept), encoding="utf-8")
        made.replace(self._file)
