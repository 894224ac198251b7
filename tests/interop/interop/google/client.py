"""google-api-python-client against the simulator, every answer held against Google's own schemas."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import google_auth_httplib2
import httplib2
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError
from googleapiclient.http import HttpRequest

from ..report import Report
from .discovery import Discovery

CLIENT = "Google, Python"
SCOPE = "https://www.googleapis.com/auth/androidpublisher"


class Play:
    """The Android Publisher API as built from the client's bundled discovery document."""

    def __init__(self, manifest: dict[str, Any], report: Report) -> None:
        self.manifest = manifest
        self.report = report
        self.package = manifest["package_name"]
        self.discovery = Discovery("androidpublisher.v3")
        self.called: Counter[str] = Counter()
        # How often each field and each enum value has been answered.
        self.seen: Counter[str] = Counter()
        self.account = json.loads(manifest["google_service_account_json"])
        self.api = self.build(self.credentials())
        self.subscriptions = self.api.purchases().subscriptions()
        self.subscriptions_v2 = self.api.purchases().subscriptionsv2()
        self.products = self.api.purchases().products()
        self.products_v2 = self.api.purchases().productsv2()
        self.voided = self.api.purchases().voidedpurchases()
        self.orders = self.api.orders()

    def credentials(self, **changes: str) -> service_account.Credentials:
        return service_account.Credentials.from_service_account_info({**self.account, **changes}, scopes=[SCOPE])

    def build(self, credentials: Any) -> Any:
        return build(
            "androidpublisher",
            "v3",
            http=google_auth_httplib2.AuthorizedHttp(credentials, http=httplib2.Http(timeout=60)),
            static_discovery=True,
            client_options={"api_endpoint": self.manifest["google_api_url"]},
        )

    def call(self, request: HttpRequest) -> Any:
        """Executes a request and checks what comes back against the method's schema."""
        method = self.discovery.methods("purchases", "orders")[request.methodId.split(".", 1)[1]]
        self.called[request.methodId.split(".", 1)[1]] += 1
        answer = request.execute()
        row = self.report.row(CLIENT, "answers valid by the discovery document")
        if "response" in method:
            schema = method["response"]["$ref"]
            row.none(self.discovery.problems(schema, answer), request.methodId)
            self._note(schema, answer)
        else:
            row.check(not answer, f"{request.methodId}: a body where there is none: {answer!r}")
        return answer

    def _note(self, schema: str, answer: Any) -> None:
        if isinstance(answer, dict):
            for name, value in answer.items():
                self._note(f"{schema}.{name}", value)
        elif isinstance(answer, list):
            for value in answer:
                self._note(schema, value)
        elif isinstance(answer, str) and answer.isupper():
            self.seen[f"{schema}={answer}"] += 1
        self.seen[schema] += 1

    def subscription(self, token: str) -> dict[str, Any]:
        return self.call(self.subscriptions_v2.get(packageName=self.package, token=token))

    def product(self, token: str) -> dict[str, Any]:
        return self.call(self.products_v2.getproductpurchasev2(packageName=self.package, token=token))

    def product_v1(self, product_id: str, token: str) -> dict[str, Any]:
        return self.call(self.products.get(packageName=self.package, productId=product_id, token=token))

    def order(self, order_id: str) -> dict[str, Any]:
        return self.call(self.orders.get(packageName=self.package, orderId=order_id))

    def acknowledge(self, token: str, **body: Any) -> None:
        self.call(self.subscriptions.acknowledge(packageName=self.package, subscriptionId="-", token=token, body=body))

    def error(self, what: str, request: HttpRequest, status: int, *reasons: str) -> None:
        """The request must fail with this status and one of these reasons."""
        row = self.report.row(CLIENT, "errors with Google's reasons")
        self.called[request.methodId.split(".", 1)[1]] += 1
        try:
            answer = request.execute()
        except HttpError as error:
            row.equal(error.status_code, status, f"{what}: status ({error.reason})")
            row.none(error_problems(error, status), what)
            reason = error_reason(error)
            row.check(not reasons or reason in reasons, f"{what}: reason {reason!r}, expected one of {reasons}")
        else:
            row.check(False, f"{what}: no error but {answer!r}")


# The canonical code of each HTTP status, as google.rpc.Code maps them.
CANONICAL = {
    400: {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"},
    401: {"UNAUTHENTICATED"},
    403: {"PERMISSION_DENIED"},
    404: {"NOT_FOUND"},
    409: {"ABORTED", "ALREADY_EXISTS"},
    410: {"NOT_FOUND", "FAILED_PRECONDITION", None},
    429: {"RESOURCE_EXHAUSTED"},
    500: {"INTERNAL", "UNKNOWN"},
    503: {"UNAVAILABLE"},
}


def error_reason(error: HttpError) -> str | None:
    errors = json.loads(error.content).get("error", {}).get("errors") or [{}]
    return errors[0].get("reason")


def error_problems(error: HttpError, status: int) -> list[str]:
    """What is wrong with the body of an error."""
    found = []
    kind = error.resp.get("content-type", "")
    if not kind.startswith("application/json"):
        found.append(f"content type {kind!r}")
    try:
        body = json.loads(error.content)["error"]
    except (ValueError, KeyError, TypeError):
        return [*found, f"no error object in {error.content[:200]!r}"]
    if body.get("code") != status:
        found.append(f"code {body.get('code')!r}")
    if not isinstance(body.get("message"), str) or not body["message"]:
        found.append("no message")
    if body.get("status") not in CANONICAL.get(status, {body.get("status")}):
        found.append(f"status {body.get('status')!r}")
    for item in body.get("errors") or [{}]:
        found.extend(f"errors[] without {name}" for name in ("domain", "reason", "message") if not item.get(name))
    return found
