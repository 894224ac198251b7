"""Google's discovery documents as schemas that a JSON document is checked against, strictly."""

from __future__ import annotations

import base64
import datetime
import json
import re
from importlib import resources
from typing import Any

# Removed from discovery, still sent by Google until 2027-08-31.
EXTRA_FIELDS = {"SubscriptionPurchaseV2": {"latestOrderId"}}

_DATETIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_DURATION = re.compile(r"-?\d+(\.\d{1,9})?s")
_INTEGERS = {
    "int32": range(-(2**31), 2**31),
    "uint32": range(2**32),
    "int64": range(-(2**63), 2**63),
    "uint64": range(2**64),
}


class Discovery:
    """One API as `google-api-python-client` brings it along."""

    def __init__(self, name: str) -> None:
        documents = resources.files("googleapiclient.discovery_cache") / "documents"
        self.document: dict[str, Any] = json.loads((documents / f"{name}.json").read_text())
        self.schemas: dict[str, Any] = self.document["schemas"]

    def methods(self, *resource_names: str) -> dict[str, dict[str, Any]]:
        """Every method below these resources, by its id without the API's name."""
        found: dict[str, dict[str, Any]] = {}

        def walk(resource: dict[str, Any]) -> None:
            for method in resource.get("methods", {}).values():
                found[method["id"].split(".", 1)[1]] = method
            for inner in resource.get("resources", {}).values():
                walk(inner)

        for name in resource_names:
            walk(self.document["resources"][name])
        return found

    def problems(self, schema: str, document: Any) -> list[str]:
        """Everything that the schema does not allow."""
        return self._check(self.schemas[schema], document, schema)

    def _check(self, schema: dict[str, Any], value: Any, at: str) -> list[str]:
        if "$ref" in schema:
            return self._check(self.schemas[schema["$ref"]], value, at)
        kind = schema.get("type")
        if kind == "any":
            return []
        if value is None:
            return [f"{at} is null"]
        if kind == "object":
            return self._object(schema, value, at)
        if kind == "array":
            if not isinstance(value, list):
                return [f"{at} is no list"]
            return [
                problem
                for number, item in enumerate(value)
                for problem in self._check(schema["items"], item, f"{at}[{number}]")
            ]
        return _scalar(schema, value, at)

    def _object(self, schema: dict[str, Any], value: Any, at: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at} is no object"]
        fields = schema.get("properties", {})
        others = schema.get("additionalProperties")
        found = []
        for name, inner in value.items():
            if name in fields:
                found.extend(self._check(fields[name], inner, f"{at}.{name}"))
            elif others is not None:
                found.extend(self._check(others, inner, f"{at}.{name}"))
            elif name not in EXTRA_FIELDS.get(schema.get("id", ""), ()):
                found.append(f"{at}.{name} is unknown")
        return found


def _scalar(schema: dict[str, Any], value: Any, at: str) -> list[str]:
    kind, form = schema.get("type"), schema.get("format")
    wrong = [f"{at} is {value!r}, no {form or kind}"]
    if kind == "boolean":
        return [] if isinstance(value, bool) else wrong
    if kind == "integer":
        whole = isinstance(value, int) and not isinstance(value, bool)
        return [] if whole and value in _INTEGERS.get(form, (value,)) else wrong
    if kind == "number":
        return [] if isinstance(value, (int, float)) and not isinstance(value, bool) else wrong
    if kind != "string":
        return [f"{at} has the unknown type {kind}"]
    if not isinstance(value, str):
        return wrong
    if "enum" in schema and value not in schema["enum"]:
        return [f"{at} has the unknown value {value!r}"]
    if "enum" in schema and value.endswith("_UNSPECIFIED"):
        return [f"{at} is {value}, which is never sent"]
    if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
        return [f"{at} is {value!r}, which does not match {schema['pattern']}"]
    return [] if _formatted(form, value) else wrong


def _formatted(form: str | None, value: str) -> bool:
    if form in ("int64", "uint64"):
        return re.fullmatch(r"-?\d+", value) is not None and int(value) in _INTEGERS[form]
    if form == "google-datetime":
        if not _DATETIME.fullmatch(value):
            return False
        datetime.datetime.strptime(value[:19], "%Y-%m-%dT%H:%M:%S")
        return True
    if form == "google-duration":
        return _DURATION.fullmatch(value) is not None
    if form == "byte":
        base64.b64decode(value, validate=True)
        return True
    return form in (None, "google-fieldmask")
