"""Apple's models, read strictly: the library tolerates what it does not know, a check must not."""

from __future__ import annotations

import enum
import typing
from typing import Any

import attr

# Documented by Apple, not in the pinned libraries yet.
EXTRA_FIELDS = {
    "JWSTransactionDecodedPayload": {"previousOriginalTransactionId"},
    "ExternalPurchaseToken": {"tokenType", "tokenExpirationDate"},
    # Deprecated, and no longer in the libraries.
    "CheckTestNotificationResponse": {"firstSendAttemptResult"},
}
EXTRA_VALUES = {
    ("ResponseBodyV2DecodedPayload", "subtype"): {"CREATED", "ACTIVE_TOKEN_REMINDER"},
}


def problems(model: type, document: Any, path: str = "") -> list[str]:
    """Everything in a JSON document that Apple's model does not have, or has as another type."""
    where = path or model.__name__
    if not isinstance(document, dict):
        return [f"{where} is no object"]
    fields = {field.name: field for field in attr.fields(model)}
    hints = typing.get_type_hints(model)
    known = {name for name in fields if not _is_raw(fields[name])}
    found = []
    for name, value in document.items():
        at = f"{where}.{name}"
        if name not in known:
            if name not in EXTRA_FIELDS.get(model.__name__, ()):
                found.append(f"{at} is unknown")
        elif value is None:
            found.append(f"{at} is null")
        else:
            extra = EXTRA_VALUES.get((model.__name__, name), ())
            found.extend(_mismatches(hints[name], value, at, extra))
    return found


def unknown_values(decoded: Any, path: str = "") -> list[str]:
    """Raw values of a decoded model for which the library has no name."""
    found = []
    model = type(decoded)
    where = path or model.__name__
    for field in attr.fields(model):
        value = getattr(decoded, field.name)
        if _is_raw(field):
            typed = field.metadata["correspondingFieldName"]
            extra = EXTRA_VALUES.get((model.__name__, typed), ())
            if value is not None and getattr(decoded, typed) is None and value not in extra:
                found.append(f"{where}.{typed} has the unknown value {value!r}")
        elif attr.has(type(value)):
            found.extend(unknown_values(value, f"{where}.{field.name}"))
        elif isinstance(value, list):
            for number, item in enumerate(value):
                if attr.has(type(item)):
                    found.extend(unknown_values(item, f"{where}.{field.name}[{number}]"))
    return found


def _is_raw(field: attr.Attribute) -> bool:
    return field.metadata.get("typeOfField") == "raw"


def _mismatches(hint: Any, value: Any, at: str, extra: typing.Collection[str]) -> list[str]:
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Union:
        (hint,) = (argument for argument in arguments if argument is not type(None))
        arguments = typing.get_args(hint)
    if typing.get_origin(hint) is list:
        if not isinstance(value, list):
            return [f"{at} is no list"]
        return [
            problem
            for number, item in enumerate(value)
            for problem in _mismatches(arguments[0], item, f"{at}[{number}]", extra)
        ]
    if attr.has(hint):
        return problems(hint, value, at)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        named = value in {member.value for member in hint} or value in extra
        # true == 1 in Python, not in JSON.
        return [] if named and not isinstance(value, bool) else [f"{at} has the unknown value {value!r}"]
    if hint in (int, str, bool, float):
        fits = isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
        return [] if fits else [f"{at} is {value!r}, no {hint.__name__}"]
    return [f"{at} has a type that this check does not know: {hint}"]
