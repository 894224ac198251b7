// Apple's Node library: verifies every signed document and drives every endpoint.

import { createPrivateKey, generateKeyPairSync, randomUUID } from "node:crypto";

import { row } from "./report.mjs";

const CLIENT = "Apple, Node";
const PAGE = 20;
const UNKNOWN = "990000000000001";
const DAY = 86_400_000;

// Fields of payloads and the enum that names their values.
const ENUMS = {
  environment: "Environment",
  receiptType: "Environment",
  type: "Type",
  inAppOwnershipType: "InAppOwnershipType",
  revocationReason: "RevocationReason",
  revocationType: "RevocationType",
  offerType: "OfferType",
  offerDiscountType: "OfferDiscountType",
  transactionReason: "TransactionReason",
  billingPlanType: "BillingPlanType",
  renewalBillingPlanType: "RenewalBillingPlanType",
  commitmentRenewalBillingPlanType: "RenewalBillingPlanType",
  autoRenewStatus: "AutoRenewStatus",
  commitmentAutoRenewStatus: "AutoRenewStatus",
  expirationIntent: "ExpirationIntent",
  priceIncreaseStatus: "PriceIncreaseStatus",
  notificationType: "NotificationTypeV2",
  subtype: "Subtype",
  status: "Status",
  originalPlatform: "PurchasePlatform",
  sendAttemptResult: "SendAttemptResult",
};
// Named in a type of the library, without an enum that could be asked.
const REASONS = ["UNINTENDED_PURCHASE", "FULFILLMENT_ISSUE", "UNSATISFIED_WITH_PURCHASE", "LEGAL", "OTHER"];
// Documented by Apple, not in the pinned library yet.
const NEWER = new Set(["CREATED", "ACTIVE_TOKEN_REMINDER"]);

export async function check(library, input) {
  const { manifest } = input;
  const production = manifest.environment === library.Environment.PRODUCTION;
  const verifier = (changes = {}) =>
    new library.SignedDataVerifier(
      [Buffer.from(manifest.apple_root_cert_der, "base64")],
      changes.online ?? true,
      changes.environment ?? manifest.environment,
      changes.bundleId ?? manifest.bundle_id,
      manifest.app_apple_id,
    );
  const signed = new Signed(library, verifier);
  for (const [kind, documents] of Object.entries(input.signed)) {
    for (const jws of documents) {
      await signed.verify(kind, jws);
    }
    for (const jws of documents.slice(0, 5)) {
      await signed.forgeries(kind, jws, production);
    }
  }
  if (input.drive) {
    await drive(library, input, signed);
  }
}

class Signed {
  static METHODS = {
    transaction: "verifyAndDecodeTransaction",
    renewal: "verifyAndDecodeRenewalInfo",
    notification: "verifyAndDecodeNotification",
    app: "verifyAndDecodeAppTransaction",
  };

  static NAMES = {
    transaction: "transactions",
    renewal: "renewal infos",
    notification: "notifications",
    app: "app transactions",
  };

  constructor(library, verifier) {
    this.library = library;
    this.verifier = verifier;
    this.online = verifier();
    this.offline = verifier({ online: false });
    this.seen = new Map();
  }

  /// Verifies a document once, with OCSP and without; gives its payload.
  async verify(kind, jws) {
    if (this.seen.has(jws)) {
      return this.seen.get(jws);
    }
    const method = Signed.METHODS[kind];
    const counted = row(CLIENT, `${Signed.NAMES[kind]} verified, strict with OCSP`);
    const payload = await counted.case(kind, () => this.online[method](jws));
    await counted.case(`${kind}, offline`, () => this.offline[method](jws));
    if (payload !== undefined) {
      counted.equal(this.unknownValues(payload), [], kind);
    }
    this.seen.set(jws, payload);
    return payload;
  }

  unknownValues(document, path = "") {
    const found = [];
    for (const [name, value] of Object.entries(document)) {
      if (value !== null && typeof value === "object") {
        found.push(...this.unknownValues(value, `${path}${name}.`));
      } else if (ENUMS[name] !== undefined || name === "consumptionRequestReason") {
        const values = name === "consumptionRequestReason" ? REASONS : Object.values(this.library[ENUMS[name]]);
        if (!values.includes(value) && !NEWER.has(value)) {
          found.push(`${path}${name} has the unknown value ${value}`);
        }
      }
    }
    return found;
  }

  async forgeries(kind, jws, production) {
    const method = Signed.METHODS[kind];
    const counted = row(CLIENT, "tampered documents refused");
    const { VerificationException } = this.library;
    const refused = (error) => error instanceof VerificationException;
    const [header, payload, signature] = jws.split(".");
    const head = JSON.parse(Buffer.from(header, "base64url").toString());
    const body = JSON.parse(Buffer.from(payload, "base64url").toString());
    const encode = (document) => Buffer.from(JSON.stringify(document)).toString("base64url");
    const flipped = Buffer.from(signature, "base64url");
    flipped[10] ^= 1;
    const changed = { ...body, signedDate: 7, receiptCreationDate: 7 };
    const forged = {
      "payload changed": `${header}.${encode(changed)}.${signature}`,
      "signature changed": `${header}.${payload}.${flipped.toString("base64url")}`,
      "no signature": `${encode({ ...head, alg: "none" })}.${payload}.`,
      "two certificates": `${encode({ ...head, x5c: head.x5c.slice(0, 2) })}.${payload}.${signature}`,
      "leaf is the intermediate": `${encode({ ...head, x5c: [head.x5c[1], head.x5c[1], head.x5c[2]] })}.${payload}.${signature}`,
    };
    for (const [what, document] of Object.entries(forged)) {
      await counted.refused(`${kind}, ${what}`, () => this.verifier()[method](document), refused);
    }
    const elsewhere = production ? "Sandbox" : "Production";
    await counted.refused(`${kind}, another environment`, () => this.verifier({ environment: elsewhere })[method](jws), refused);
    if (kind !== "renewal") {
      await counted.refused(`${kind}, another app`, () => this.verifier({ bundleId: "com.example.stranger" })[method](jws), refused);
    }
  }
}

/// Every endpoint once, by a customer that the Python side has left behind.
async function drive(library, input, signed) {
  const { manifest } = input;
  const client = new library.AppStoreServerAPIClient(
    manifest.apple_private_key_pem,
    manifest.apple_key_id,
    manifest.apple_issuer_id,
    manifest.bundle_id,
    manifest.environment,
  );
  // The one way that the library leaves to reach another host.
  client.urlBase = manifest.app_store_api_url;

  const transactions = [...signed.seen.values()].filter((payload) => payload?.transactionId && payload.purchaseDate);
  const newest = (product) =>
    transactions.filter((payload) => payload.productId === product && payload.inAppOwnershipType === "PURCHASED").at(-1);
  const subscription = newest("premium.monthly");
  const item = newest("coins");
  const reader = newest("news.weekly");
  const answers = row(CLIENT, "API answers accepted by the library");
  const call = (what, block) => answers.case(what, block);

  const info = await call("transaction info", () => client.getTransactionInfo(subscription.transactionId));
  await verifyAll(signed, "transaction", [info?.signedTransactionInfo]);
  const app = await call("app transaction info", () => client.getAppTransactionInfo(subscription.transactionId));
  await verifyAll(signed, "app", [app?.signedAppTransactionInfo]);
  const statuses = await call("statuses", () => client.getAllSubscriptionStatuses(subscription.originalTransactionId));
  const filter = [library.Status.ACTIVE, library.Status.EXPIRED];
  await call("statuses with a filter", () => client.getAllSubscriptionStatuses(subscription.originalTransactionId, filter));
  for (const last of statuses?.data?.flatMap((group) => group.lastTransactions) ?? []) {
    await verifyAll(signed, "transaction", [last.signedTransactionInfo]);
    await verifyAll(signed, "renewal", [last.signedRenewalInfo]);
  }
  await history(library, client, signed, reader.originalTransactionId, call);
  await refunds(client, signed, item.transactionId, call);
  await notifications(client, signed, input, call);

  await call("finish", () => client.finishTransaction(item.transactionId));
  await call("app account token", () =>
    client.setAppAccountToken(subscription.originalTransactionId, { appAccountToken: randomUUID() }),
  );
  const consumption = {
    customerConsented: true,
    sampleContentProvided: false,
    deliveryStatus: library.DeliveryStatus.DELIVERED,
    refundPreference: library.RefundPreference.DECLINE,
  };
  await call("consumption", () => client.sendConsumptionInformation(item.transactionId, consumption));
  const lookup = await call("order lookup", () => client.lookUpOrderId("STRANGER00"));
  answers.equal(lookup?.status, library.OrderLookupStatus.INVALID, "status of an unknown order");
  await extensions(library, client, call);
  await refusals(library, client, manifest, subscription, input.now);
}

async function verifyAll(signed, kind, documents) {
  for (const jws of documents) {
    if (row(CLIENT, "API answers accepted by the library").check(jws !== undefined, `no ${kind} in an answer`)) {
      await signed.verify(kind, jws);
    }
  }
}

async function history(library, client, signed, id, call) {
  let [revision, more, pages] = [null, true, 0];
  while (more) {
    const page = await call("history", () =>
      client.getTransactionHistory(id, revision, { sort: library.Order.ASCENDING }, library.GetTransactionHistoryVersion.V2),
    );
    if (page === undefined) {
      return;
    }
    await verifyAll(signed, "transaction", page.signedTransactions);
    [revision, more, pages] = [page.revision, page.hasMore, pages + 1];
  }
  row(CLIENT, "pages of the history").check(pages > 1, `${pages} page`);
}

async function refunds(client, signed, id, call) {
  let [revision, more] = [null, true];
  while (more) {
    const page = await call("refund history", () => client.getRefundHistory(id, revision));
    await verifyAll(signed, "transaction", page?.signedTransactions ?? []);
    [revision, more] = [page?.revision, page?.hasMore ?? false];
  }
}

async function notifications(client, signed, input, call) {
  const reach = input.manifest.environment === "Production" ? 179 : 29;
  const request = { startDate: input.now - reach * DAY, endDate: input.now + DAY };
  let [token, more, found] = [null, true, 0];
  while (more) {
    const page = await call("notification history", () => client.getNotificationHistory(token, request));
    for (const item of page?.notificationHistory ?? []) {
      await verifyAll(signed, "notification", [item.signedPayload]);
      row(CLIENT, "API answers accepted by the library").equal(signed.unknownValues({ attempts: item.sendAttempts }), [], "attempts");
      found += 1;
    }
    [token, more] = [page?.paginationToken, page?.hasMore ?? false];
  }
  row(CLIENT, "pages of the notification history").check(found > PAGE, `${found} notifications`);
  const test = await call("test notification", () => client.requestTestNotification());
  const status = await call("test notification status", () => patiently(() => client.getTestNotificationStatus(test.testNotificationToken)));
  await verifyAll(signed, "notification", [status?.signedPayload]);
}

/// Asks again for a while: the notification may be on its way.
async function patiently(ask) {
  for (let tries = 0; ; tries += 1) {
    try {
      return await ask();
    } catch (error) {
      if (tries === 30) {
        throw error;
      }
      await new Promise((done) => setTimeout(done, 100));
    }
  }
}

async function extensions(library, client, call) {
  const request = {
    extendByDays: 3,
    extendReasonCode: library.ExtendReasonCode.OTHER,
    requestIdentifier: randomUUID(),
    productId: "extended.monthly",
  };
  const accepted = await call("mass extension", () => client.extendRenewalDateForAllActiveSubscribers(request));
  await call("mass extension status", () =>
    client.getStatusOfSubscriptionRenewalDateExtensions(accepted.requestIdentifier, request.productId),
  );
}

async function refusals(library, client, manifest, subscription, now) {
  const errors = row(CLIENT, "errors with Apple's codes");
  const coded = (code) => (error) =>
    error instanceof library.APIException &&
    error.apiError === code &&
    error.httpStatusCode === Math.floor(code / 10_000) &&
    Object.values(library.APIError).includes(code);
  const { APIError } = library;
  const day = { extendByDays: 91, extendReasonCode: 0, requestIdentifier: "one" };
  const cases = [
    ["id in letters", APIError.INVALID_TRANSACTION_ID, () => client.getTransactionInfo("one")],
    ["unknown transaction", APIError.TRANSACTION_ID_NOT_FOUND, () => client.getTransactionInfo(UNKNOWN)],
    ["test token", APIError.INVALID_TEST_NOTIFICATION_TOKEN, () => client.getTestNotificationStatus("stranger")],
    [
      "start after end",
      APIError.START_DATE_AFTER_END_DATE,
      () => client.getNotificationHistory(null, { startDate: now, endDate: now - DAY }),
    ],
    [
      "extension by 91 days",
      APIError.INVALID_EXTEND_BY_DAYS,
      () => client.extendSubscriptionRenewalDate(subscription.originalTransactionId, day),
    ],
    [
      "unknown request",
      APIError.STATUS_REQUEST_NOT_FOUND,
      () => client.getStatusOfSubscriptionRenewalDateExtensions(randomUUID(), "extended.monthly"),
    ],
  ];
  for (const [what, code, block] of cases) {
    await errors.refused(what, block, coded(code));
  }
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const stranger = new library.AppStoreServerAPIClient(
    createPrivateKey(privateKey.export({ type: "pkcs8", format: "pem" })).export({ type: "pkcs8", format: "pem" }),
    manifest.apple_key_id,
    manifest.apple_issuer_id,
    manifest.bundle_id,
    manifest.environment,
  );
  stranger.urlBase = manifest.app_store_api_url;
  await errors.refused(
    "another key",
    () => stranger.getTransactionInfo(subscription.transactionId),
    (error) => error.httpStatusCode === 401 && error.apiError == null,
  );
}
