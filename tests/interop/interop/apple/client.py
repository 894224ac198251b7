"""Apple's AppStoreServerAPIClient against the simulator, every answer read strictly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import requests
from appstoreserverlibrary.api_client import APIException, AppStoreServerAPIClient, GetTransactionHistoryVersion
from appstoreserverlibrary.models.HistoryResponse import HistoryResponse
from appstoreserverlibrary.models.NotificationHistoryRequest import NotificationHistoryRequest
from appstoreserverlibrary.models.NotificationHistoryResponse import NotificationHistoryResponse
from appstoreserverlibrary.models.RefundHistoryResponse import RefundHistoryResponse
from appstoreserverlibrary.models.StatusResponse import StatusResponse
from appstoreserverlibrary.models.TransactionHistoryRequest import TransactionHistoryRequest

from ..report import Report
from . import strict
from .verifier import CLIENT, Verifier

PAGE = 20


class StrictClient(AppStoreServerAPIClient):
    """Apple's client with the simulator's address; keeps the last answer as it came in."""

    def __init__(self, manifest: dict[str, Any], verifier: Verifier, report: Report, **other: Any) -> None:
        super().__init__(
            other.get("key", manifest["apple_private_key_pem"].encode()),
            other.get("key_id", manifest["apple_key_id"]),
            other.get("issuer_id", manifest["apple_issuer_id"]),
            other.get("bundle_id", manifest["bundle_id"]),
            verifier.environment,
        )
        # The one way that the library leaves to reach another host.
        self._base_url = manifest["app_store_api_url"]
        self.session = requests.Session()
        self.report = report
        self.endpoints: Counter[str] = Counter()
        self.last: requests.Response | None = None

    def _execute_request(self, method, url, params, headers, json, data):  # noqa: ANN001, ANN202 - the library's
        self.last = self.session.request(method, url, params=params, headers=headers, json=json, data=data, timeout=30)
        return self.last

    def _parse_response(self, status_code, headers, json_supplier, destination_class):  # noqa: ANN001, ANN202
        row = self.report.row(CLIENT, "API answers have Apple's fields and types")
        if 200 <= status_code < 300 and destination_class is not None:
            row.none(strict.problems(destination_class, json_supplier()), destination_class.__name__)
            row.equal(headers.get("content-type"), "application/json", f"content type of {destination_class.__name__}")
        elif 200 <= status_code < 300:
            row.equal(self.last.content, b"", f"body of an answer without one ({status_code})")
        decoded = super()._parse_response(status_code, headers, json_supplier, destination_class)
        if decoded is not None:
            row.none(strict.unknown_values(decoded), destination_class.__name__)
        return decoded


class Api:
    """Calls through that client, with every signed document in the answers verified."""

    def __init__(self, manifest: dict[str, Any], verifier: Verifier, report: Report) -> None:
        self.manifest = manifest
        self.verifier = verifier
        self.report = report
        self.client = StrictClient(manifest, verifier, report)

    def other(self, **credentials: Any) -> StrictClient:
        """The client with something wrong about its credentials."""
        return StrictClient(self.manifest, self.verifier, self.report, **credentials)

    def statuses(self, any_id: str, wanted: list | None = None) -> StatusResponse:
        answer = self.client.get_all_subscription_statuses(any_id, wanted)
        row = self.report.row(CLIENT, "statuses belong together")
        row.equal(answer.bundleId, self.manifest["bundle_id"], "bundle id of a status answer")
        row.equal(answer.appAppleId, self.manifest["app_apple_id"], "app id of a status answer")
        row.equal(answer.environment, self.verifier.environment, "environment of a status answer")
        for group in answer.data:
            for last in group.lastTransactions:
                transaction = self.verifier.transaction(last.signedTransactionInfo)
                renewal = self.verifier.renewal(last.signedRenewalInfo)
                same = {transaction.originalTransactionId, renewal.originalTransactionId, last.originalTransactionId}
                row.equal(len(same), 1, f"original transaction ids of one item: {same}")
                row.equal(
                    transaction.subscriptionGroupIdentifier, group.subscriptionGroupIdentifier, "group of an item"
                )
        return answer

    def transaction(self, transaction_id: str) -> Any:
        answer = self.client.get_transaction_info(transaction_id)
        transaction = self.verifier.transaction(answer.signedTransactionInfo)
        self.report.row(CLIENT, "transaction info").equal(transaction.transactionId, transaction_id, "transaction id")
        return transaction

    def history(self, any_id: str, request: TransactionHistoryRequest | None = None) -> list[Any]:
        """All pages of the transaction history (version 2)."""

        def page(revision: str | None) -> HistoryResponse:
            return self.client.get_transaction_history(
                any_id, revision, request or TransactionHistoryRequest(), GetTransactionHistoryVersion.V2
            )

        return self._pages("history", page)

    def refunds(self, any_id: str) -> list[Any]:
        """All pages of the refund history."""

        def page(revision: str | None) -> RefundHistoryResponse:
            return self.client.get_refund_history(any_id, revision)

        return self._pages("refund history", page)

    def _pages(self, what: str, page: Callable[[str | None], Any]) -> list[Any]:
        row = self.report.row(CLIENT, f"{what}, page by page")
        revision, found, more = None, [], True
        while more:
            answer = page(revision)
            row.check(answer.revision not in (None, revision), f"{what}: revision {answer.revision} again")
            row.check(len(answer.signedTransactions) <= PAGE, f"{what}: {len(answer.signedTransactions)} on a page")
            row.check(
                not answer.hasMore or len(answer.signedTransactions) == PAGE, f"{what}: more after a page not full"
            )
            found.extend(self.verifier.transaction(jws) for jws in answer.signedTransactions)
            revision, more = answer.revision, answer.hasMore
        again = page(revision)
        row.equal((again.signedTransactions or [], again.hasMore), ([], False), f"{what} after its end")
        return found

    def notifications(self, request: NotificationHistoryRequest) -> list[Any]:
        """All pages of the notification history."""
        row = self.report.row(CLIENT, "notification history, page by page")
        token, found, more = None, [], True
        while more:
            answer: NotificationHistoryResponse = self.client.get_notification_history(token, request)
            items = answer.notificationHistory or []
            row.check(len(items) <= PAGE, f"{len(items)} notifications on a page")
            row.check(bool(answer.hasMore) == (answer.paginationToken is not None), "a token when there is more")
            found.extend(items)
            token, more = answer.paginationToken, answer.hasMore
        return found

    def error(
        self, row_name: str, what: str, call: Callable[[], Any], code: int | None, status: int | None = None
    ) -> None:
        """The call must fail with this code; `None` for an answer without one."""
        row = self.report.row(CLIENT, row_name)
        expected = status or (code // 10_000 if code else None)
        try:
            call()
        except APIException as error:
            row.equal((error.http_status_code, error.raw_api_error), (expected, code), what)
            row.check(
                code is None or (error.api_error is not None and bool(error.error_message)),
                f"{what}: {code} is unknown to the library or has no message",
            )
        else:
            row.check(False, f"{what}: no error, expected {code or status}")
