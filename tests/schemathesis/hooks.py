"""Names a living account in half of what services and operators send, and checks two things more."""

import os

import schemathesis

PROBLEM = "application/problem+json"


def named(values):
    """Every other request is about somebody who is there."""
    if os.environ["CALLER"] != "user" and isinstance(values, dict):
        account = values.get("account")
        if isinstance(account, str) and len(account) % 2 == 0:
            return {**values, "account": "dev:alice"}
    return values


@schemathesis.hook
def map_body(context, body):
    return named(body)


@schemathesis.hook
def map_query(context, query):
    return named(query)


@schemathesis.check
def refused_as_described(ctx, response, case):
    """Whatever is no success is a problem, with the status that it was sent with."""
    if response.status_code < 400:
        return
    kind = response.headers.get("content-type", [""])[0]
    assert kind == PROBLEM, f"refused with {kind}"
    problem = response.json()
    assert problem["status"] == response.status_code, "another status than its own"
    assert problem["type"] == f"/v1/errors/{problem['reason']}", "a type that is not its reason's"


@schemathesis.check
def understood(ctx, response, case):
    """What the description allows is read; whether it makes sense is another question."""
    if response.status_code != 400 or not case.meta.generation.mode.is_positive:
        return
    detail = response.json()["detail"]
    for words in ("there is no such field", "must be", "no query can say"):
        assert words not in detail, f"described, and not understood: {detail}"
