"""Apple's SignedDataVerifier over everything that is signed: strict, with OCSP."""

from __future__ import annotations

import base64
import datetime
import json
from collections import Counter
from typing import Any

import requests
from appstoreserverlibrary import signed_data_verifier
from appstoreserverlibrary.models.AppTransaction import AppTransaction
from appstoreserverlibrary.models.Environment import Environment
from appstoreserverlibrary.models.JWSRenewalInfoDecodedPayload import JWSRenewalInfoDecodedPayload
from appstoreserverlibrary.models.JWSTransactionDecodedPayload import JWSTransactionDecodedPayload
from appstoreserverlibrary.models.ResponseBodyV2DecodedPayload import ResponseBodyV2DecodedPayload
from appstoreserverlibrary.signed_data_verifier import SignedDataVerifier, VerificationException, VerificationStatus
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..control import Control
from ..report import Report
from . import strict

CLIENT = "Apple, Python"


def payload_of(jws: str) -> dict[str, Any]:
    """The payload of a JWS, unverified: for finding out what a verified one has to say."""
    return json.loads(_decode(jws.split(".")[1]))


class Verifier:
    """Verifies each signed document once and remembers it for the other languages."""

    def __init__(self, manifest: dict[str, Any], report: Report) -> None:
        self.manifest = manifest
        self.report = report
        self.environment = Environment(manifest["environment"])
        self.root = base64.b64decode(manifest["apple_root_cert_der"])
        self.online = self.verifier()
        self.offline = self.verifier(online=False)
        self.documents: dict[str, dict[str, Any]] = {"transaction": {}, "renewal": {}, "notification": {}, "app": {}}
        self.seen: Counter[str] = Counter()
        self.ocsp_calls = 0
        self._count_ocsp_calls()

    def verifier(self, *, online: bool = True, root: bytes | None = None, **other: Any) -> SignedDataVerifier:
        return SignedDataVerifier(
            [root or self.root],
            online,
            other.get("environment", self.environment),
            other.get("bundle_id", self.manifest["bundle_id"]),
            other.get("app_apple_id", self.manifest["app_apple_id"]),
        )

    def transaction(self, jws: str) -> JWSTransactionDecodedPayload:
        return self._document("transaction", jws, JWSTransactionDecodedPayload)

    def renewal(self, jws: str) -> JWSRenewalInfoDecodedPayload:
        return self._document("renewal", jws, JWSRenewalInfoDecodedPayload)

    def app_transaction(self, jws: str) -> AppTransaction:
        return self._document("app", jws, AppTransaction)

    def notification(self, jws: str) -> ResponseBodyV2DecodedPayload:
        """A notification with all that is signed inside."""
        decoded = self._document("notification", jws, ResponseBodyV2DecodedPayload)
        if decoded.data and decoded.data.signedTransactionInfo:
            transaction = self.transaction(decoded.data.signedTransactionInfo)
            if decoded.data.signedRenewalInfo:
                renewal = self.renewal(decoded.data.signedRenewalInfo)
                self.report.row(CLIENT, "renewal info belongs to its transaction").equal(
                    renewal.originalTransactionId, transaction.originalTransactionId, decoded.notificationUUID
                )
        elif decoded.data and decoded.data.signedRenewalInfo:
            self.renewal(decoded.data.signedRenewalInfo)
        if decoded.appData and decoded.appData.signedAppTransactionInfo:
            self.app_transaction(decoded.appData.signedAppTransactionInfo)
        return decoded

    def _document(self, kind: str, jws: str, model: type) -> Any:
        known = self.documents[kind].get(jws)
        if known is not None:
            return known
        row = self.report.row(CLIENT, f"{KINDS[kind]} verified, strict with OCSP")
        try:
            decoded = _verify(self.online, kind, jws)
        except VerificationException as error:
            # Counted as a failure; the checks of what it says go on.
            row.check(False, f"{error}, because of {error.__cause__!r}: {payload_of(jws)}"[:400])
            decoded = _verify(self.offline, kind, jws)
        else:
            with self.report.row(CLIENT, f"{KINDS[kind]} verified, strict, offline").case(kind):
                _verify(self.offline, kind, jws)
        wrong = strict.problems(model, payload_of(jws)) + strict.unknown_values(decoded)
        row.none(wrong, f"{payload_of(jws).get('notificationType', kind)}")
        self.documents[kind][jws] = decoded
        return decoded

    def _count_ocsp_calls(self) -> None:
        verifier = self

        class Counted:
            """What the library knows as `requests`."""

            @staticmethod
            def post(*arguments: Any, **named: Any) -> requests.Response:
                verifier.ocsp_calls += 1
                return requests.post(*arguments, **named)

        signed_data_verifier.requests = Counted

    def check_ocsp(self) -> None:
        """The responder was asked for both certificates, and without it nothing is verified."""
        row = self.report.row(CLIENT, "OCSP asked for leaf and intermediate")
        for jws in list(self.documents["transaction"])[:3]:
            before = self.ocsp_calls
            with row.case("transaction with an empty cache"):
                _verify(self.verifier(), "transaction", jws)
            row.equal(self.ocsp_calls - before, 2, "calls of the responder for one verification")

    def check_responders(self, control: Control) -> None:
        """A revoked leaf and a responder out of order are told apart from each other, and end by themselves."""
        row = self.report.row(CLIENT, "OCSP answers that are not good refused")
        jws = next(iter(self.documents["transaction"]))
        status = VerificationStatus
        for answer, expected in (
            ("revoked", status.VERIFICATION_FAILURE),
            ("unknown", status.VERIFICATION_FAILURE),
            ("try_later", status.VERIFICATION_FAILURE),
            ("down", status.RETRYABLE_VERIFICATION_FAILURE),
        ):
            control.post("ocsp", {"answer": answer})
            try:
                _verify(self.verifier(), "transaction", jws)
            except VerificationException as error:
                row.equal(error.status.name, expected.name, answer)
            else:
                row.check(False, f"{answer}: accepted")
            finally:
                control.post("ocsp", {"answer": "good"})
        with row.case("good again"):
            _verify(self.verifier(), "transaction", jws)

    def check_forgeries(self) -> None:
        """What was tampered with is refused, and for the reason that the library documents."""
        row = self.report.row(CLIENT, "tampered documents refused")
        status = VerificationStatus
        for kind, documents in self.documents.items():
            for jws in list(documents)[:8]:
                for what, forged in _forgeries(jws):
                    self._refused(self.verifier(), kind, forged, None, what)
                    self._refused(self.verifier(online=False), kind, forged, None, f"{what}, offline")
                strangers = self.verifier(root=self._another_root())
                self._refused(strangers, kind, jws, None, "another root")
                if kind != "renewal":
                    other = self.verifier(bundle_id="com.example.stranger")
                    self._refused(other, kind, jws, status.INVALID_APP_IDENTIFIER, "another app")
                elsewhere = (
                    Environment.SANDBOX if self.environment is Environment.PRODUCTION else Environment.PRODUCTION
                )
                # In the sandbox a test names no app, which production misses first.
                why = None if payload_of(jws).get("notificationType") == "TEST" else status.INVALID_ENVIRONMENT
                self._refused(self.verifier(environment=elsewhere), kind, jws, why, "another environment")
        row.check(row.passed > 0, "nothing was tampered with")

    def _refused(
        self, verifier: SignedDataVerifier, kind: str, jws: str, why: VerificationStatus | None, what: str
    ) -> None:
        row = self.report.row(CLIENT, "tampered documents refused")
        try:
            _verify(verifier, kind, jws)
        except VerificationException as error:
            row.check(why is None or error.status == why, f"{kind}, {what}: refused with {error.status.name}")
        except Exception as error:  # noqa: BLE001 - any other exception is a finding as well
            row.check(False, f"{kind}, {what}: {error!r}")
        else:
            row.check(False, f"{kind}, {what}: accepted")

    def _another_root(self) -> bytes:
        """A root of the same name that did not sign anything here."""
        name = x509.load_der_x509_certificate(self.root).subject
        key = ec.generate_private_key(ec.SECP384R1())
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=3650))
            .not_valid_after(now + datetime.timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA384())
        )
        return certificate.public_bytes(serialization.Encoding.DER)


KINDS = {
    "transaction": "transactions",
    "renewal": "renewal infos",
    "notification": "notifications",
    "app": "app transactions",
}


def _verify(verifier: SignedDataVerifier, kind: str, jws: str) -> Any:
    return {
        "transaction": verifier.verify_and_decode_signed_transaction,
        "renewal": verifier.verify_and_decode_renewal_info,
        "notification": verifier.verify_and_decode_notification,
        "app": verifier.verify_and_decode_app_transaction,
    }[kind](jws)


def _forgeries(jws: str) -> list[tuple[str, str]]:
    header, payload, signature = jws.split(".")
    fields = json.loads(_decode(payload))
    fields["quantity" if "quantity" in fields else "signedDate"] = 7
    changed_header = json.loads(_decode(header))
    chain = changed_header["x5c"]
    flipped = bytearray(_decode(signature))
    flipped[10] ^= 1
    return [
        ("payload changed", f"{header}.{_encode(fields)}.{signature}"),
        ("signature changed", f"{header}.{payload}.{_encode_bytes(bytes(flipped))}"),
        ("no signature", f"{_encode({**changed_header, 'alg': 'none'})}.{payload}."),
        ("another algorithm", f"{_encode({**changed_header, 'alg': 'ES384'})}.{payload}.{signature}"),
        ("two certificates", f"{_encode({**changed_header, 'x5c': chain[:2]})}.{payload}.{signature}"),
        (
            "leaf is the intermediate",
            f"{_encode({**changed_header, 'x5c': [chain[1], chain[1], chain[2]]})}.{payload}.{signature}",
        ),
        (
            "leaf signed by the root",
            f"{_encode({**changed_header, 'x5c': [chain[0], chain[2], chain[2]]})}.{payload}.{signature}",
        ),
    ]


def _decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _encode(document: Any) -> str:
    return _encode_bytes(json.dumps(document, separators=(",", ":")).encode())


def _encode_bytes(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
