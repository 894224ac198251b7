// What can be done to a purchase, and when it makes sense.

import { moment, period, price } from "./format.js";

const LIVE = ["active", "canceled", "in_grace_period", "on_hold", "paused"];
const live = (p) => p.subscription && LIVE.includes(p.state);
const failing = (p) => p.billing === "fails";
const refundable = (p) => (p.state === "pending" ? [] : p.transactions.filter((one) => !one.refunded_at));
const refunded = (p) => p.transactions.filter((one) => one.refunded_at);
const waits = (p, what) => p.ahead.some((one) => one.what === what && one.answer_awaited !== false);
const requested = (p) => p.transactions.filter((one) => p.ahead.some((ahead) => ahead.transaction_id === one.id));
const named = (one) => [one.id, `${one.product_id} · ${moment(one.at)}${one.refunded_at ? " · refunded" : ""}`];

const which = (name, list) => ({ name, label: "Which", kind: "choice", options: [...list].reverse().map(named) });
const PERIODS = ["P3D", "P1W", "P2W", "P1M", "P3M"].map((text) => [text, period(text)]);
export const millis = (text) => Math.round(Number(text) * 1000);
export const micros = (text) => Math.round(Number(text) * 1000000);
const newPrice = { name: "price", label: "New price", kind: "number", min: 0, step: "0.01", value: "12.99", required: true };

/** Subscriptions that could come with this one. */
const items = (p, products) => [...new Set((products?.google_play ?? [])
  .filter((one) => one.kind.period && !p.lines.some((line) => line.product_id === one.product_id))
  .map((one) => one.product_id))];

const OFFER_KINDS = [["introductory", "Introductory"], ["promotional", "Promotional"], ["offer_code", "Offer code"], ["win_back", "Win-back"]];
const OFFER_PAYMENTS = [["free_trial", "Free trial"], ["pay_as_you_go", "Pay as you go"], ["pay_up_front", "Pay up front"]];

export const offerFields = (kinds = OFFER_KINDS) => [
  { name: "offer_kind", label: "Offer", kind: "choice", options: kinds, value: kinds[0][0] },
  { name: "offer_payment", label: "Paid", kind: "choice", options: OFFER_PAYMENTS, value: "pay_as_you_go" },
  { name: "offer_id", label: "Offer id", kind: "text", value: "spring" },
  { name: "offer_period", label: "Length of a period", kind: "choice", options: PERIODS, value: "P1M" },
  { name: "offer_periods", label: "Periods", kind: "number", min: 1, max: 12, value: 1 },
  { name: "offer_price", label: "Price", kind: "number", min: 0, step: "0.01", value: "4.99" },
];

/** An App Store offer out of the fields above. */
export const appStoreOffer = (f) => ({
  kind: f.offer_kind,
  payment: f.offer_payment,
  id: f.offer_kind === "introductory" ? undefined : f.offer_id,
  period: f.offer_period,
  periods: f.offer_periods ?? 1,
  price_milliunits: f.offer_payment === "free_trial" ? 0 : millis(f.offer_price ?? 0),
});

const chain = (p) => ({ original_transaction_id: p.id });
const token = (p) => ({ purchase_token: p.id });

/**
 * Every action: the verb, its name on the button, when it is offered, what it asks, the request.
 * `first` ones stand on the card, the others under More.
 */
const APP_STORE = [
  { verb: "set_billing", title: "Fail card", first: true, when: (p) => live(p) && !failing(p), body: (p) => ({ ...chain(p), billing: "fails" }) },
  { verb: "set_billing", title: "Fix card", first: true, when: (p) => p.subscription && failing(p), body: (p) => ({ ...chain(p), billing: "works" }) },
  { verb: "set_auto_renew", title: "Cancel", first: true, when: (p) => live(p) && p.auto_renew, body: (p) => ({ ...chain(p), enabled: false }) },
  { verb: "set_auto_renew", title: "Resume", first: true, when: (p) => live(p) && !p.auto_renew, body: (p) => ({ ...chain(p), enabled: true }) },
  {
    verb: "refund", title: "Refund…", first: true, when: (p) => refundable(p).length > 0,
    about: "Apple gives the money back. The latest transaction refunded ends access.",
    fields: (p) => [which("transaction_id", refundable(p)), { name: "percent", label: "Share in percent (below 100 is prorated)", kind: "number", min: 1, max: 100, value: 100, required: true }],
    body: (p, f) => f,
  },
  {
    verb: "reverse_refund", title: "Reverse refund…", first: true, when: (p) => refunded(p).length > 0,
    about: "Apple takes a refund back, and what it ended is given again.",
    fields: (p) => [which("transaction_id", refunded(p))], body: (p, f) => f,
  },
  {
    verb: "request_refund", title: "Ask for a refund…", when: (p) => refundable(p).length > 0,
    about: "The customer asks Apple, and Apple asks the developer about the consumption.",
    fields: (p) => [which("transaction_id", refundable(p)), {
      name: "reason", label: "Because", kind: "choice", value: "other",
      options: [["unintended_purchase", "Bought by mistake"], ["fulfillment_issue", "Did not work"], ["unsatisfied_with_purchase", "Not as hoped for"], ["legal", "Law"], ["other", "Other"]],
    }],
    body: (p, f) => f,
  },
  { verb: "decline_refund", title: "Decline refund…", first: true, when: (p) => requested(p).length > 0, fields: (p) => [which("transaction_id", requested(p))], body: (p, f) => f },
  {
    verb: "redeem_offer", title: "Redeem an offer…", when: (p) => p.subscription,
    fields: () => offerFields(OFFER_KINDS.slice(1)), body: (p, f) => ({ ...chain(p), offer: appStoreOffer(f) }),
  },
  {
    verb: "share", title: "Share with family…", when: (p) => p.entitled && p.ownership !== "family_shared",
    fields: () => [{ name: "member", label: "Family member", kind: "text", required: true, hint: "another customer’s name" }],
    body: (p, f) => ({ ...chain(p), ...f }),
  },
  {
    verb: "unshare", title: "Stop sharing…", when: (p) => p.members.length > 0,
    fields: (p) => [{ name: "member", label: "Family member", kind: "choice", options: p.members.map((name) => [name, name]) }],
    body: (p, f) => ({ ...chain(p), ...f }),
  },
  {
    verb: "extend", title: "Extend the period…", when: live,
    fields: () => [
      { name: "days", label: "Days", kind: "number", min: 1, max: 90, value: 7, required: true },
      { name: "reason", label: "Because", kind: "choice", value: "customer_satisfaction", options: [["undeclared", "Not said"], ["customer_satisfaction", "To please the customer"], ["service_issue_or_outage", "Service was down"], ["other", "Other"]] },
    ],
    body: (p, f) => ({ ...chain(p), ...f }),
  },
  {
    verb: "raise_price", title: "Raise the price…", when: (p) => p.subscription,
    about: "For everybody who subscribes to this product.",
    fields: () => [newPrice, { name: "consent", label: "Customers have to agree", kind: "check", value: true }],
    body: (p, f) => ({ product_id: p.product_id, price_milliunits: millis(f.price), consent: f.consent }),
  },
  { verb: "answer_price", title: "Accept the new price", first: true, when: (p) => waits(p, "new_price"), body: (p) => ({ ...chain(p), accept: true }) },
  { verb: "answer_price", title: "Refuse the new price", first: true, when: (p) => waits(p, "new_price"), body: (p) => ({ ...chain(p), accept: false }) },
  {
    verb: "withdraw_product", title: "Take the product off sale…", when: (p) => p.subscription,
    about: "Everybody who subscribes to it loses it at the next renewal.", fields: () => [], body: (p) => ({ product_id: p.product_id }),
  },
  {
    verb: "rescind_consent", title: "A parent withdraws consent…", when: () => true,
    about: "Apple tells that this customer, a minor, may no longer use the app.", fields: () => [], body: (p) => ({ customer: p.customer }),
  },
];

const GOOGLE_PLAY = [
  { verb: "settle_pending", title: "Pay", first: true, when: (p) => p.state === "pending", body: (p) => ({ ...token(p), paid: true }) },
  { verb: "settle_pending", title: "Never pay", first: true, when: (p) => p.state === "pending", body: (p) => ({ ...token(p), paid: false }) },
  { verb: "set_billing", title: "Fail card", first: true, when: (p) => live(p) && !failing(p), body: (p) => ({ ...token(p), billing: "fails" }) },
  { verb: "set_billing", title: "Fix card", first: true, when: (p) => p.subscription && failing(p), body: (p) => ({ ...token(p), billing: "works" }) },
  { verb: "cancel", title: "Cancel", first: true, when: (p) => live(p) && p.auto_renew, body: token },
  { verb: "restore", title: "Restore", first: true, when: (p) => p.state === "canceled", body: token },
  { verb: "top_up", title: "Top up", first: true, when: (p) => waits(p, "prepaid"), body: token },
  {
    verb: "pause", title: "Pause…", first: true, when: (p) => p.state === "active" && p.auto_renew && !waits(p, "pause"),
    about: "From the end of the paid period on.",
    fields: () => [{ name: "period", label: "For", kind: "choice", value: "P1M", options: PERIODS.slice(1) }],
    body: (p, f) => ({ ...token(p), ...f }),
  },
  { verb: "resume", title: "Resume", first: true, when: (p) => p.state === "paused" || waits(p, "pause"), body: token },
  {
    verb: "refund", title: "Refund…", first: true, when: (p) => refundable(p).length > 0,
    fields: (p) => [which("order_id", refundable(p)), { name: "revoke", label: "Access ends with it", kind: "check", value: true },
      ...(p.subscription ? [] : [{ name: "quantity", label: "How many (all if empty)", kind: "number", min: 1 }])],
    body: (p, f) => ({ ...token(p), ...f }),
  },
  {
    verb: "charge_back", title: "Charge back…", when: (p) => refundable(p).length > 0,
    about: "The bank takes the money back: Google asks the developer for a review, and decides after it or after 24 hours.",
    fields: (p) => [which("order_id", refundable(p))], body: (p, f) => ({ ...token(p), ...f }),
  },
  {
    verb: "change_price", title: "Change the price…", when: (p) => p.subscription,
    about: "For everybody who subscribes to this plan.",
    fields: () => [newPrice, { name: "mode", label: "How", kind: "choice", value: "increase", options: [["decrease", "Down"], ["increase", "Up, with consent"], ["opt_out_increase", "Up, without asking"]] }],
    body: (p, f) => ({ product_id: p.product_id, base_plan_id: p.base_plan_id ?? undefined, price_micros: micros(f.price), mode: f.mode }),
  },
  { verb: "answer_price", title: "Accept the new price", first: true, when: (p) => waits(p, "new_price"), body: (p) => ({ ...token(p), accept: true }) },
  { verb: "answer_price", title: "Refuse the new price", first: true, when: (p) => waits(p, "new_price"), body: (p) => ({ ...token(p), accept: false }) },
  { verb: "step_up_consent", title: "Agree to the full price", first: true, when: (p) => waits(p, "full_price"), body: (p) => ({ ...token(p), accept: true }) },
  { verb: "step_up_consent", title: "Refuse the full price", first: true, when: (p) => waits(p, "full_price"), body: (p) => ({ ...token(p), accept: false }) },
  {
    verb: "add_items", title: "Add an item…", when: (p, products) => live(p) && items(p, products).length > 0,
    fields: (p, products) => [{ name: "product_id", label: "Item", kind: "choice", options: items(p, products).map((id) => [id, id]) }],
    body: (p, f) => ({ ...token(p), items: [f] }),
  },
  {
    verb: "remove_item", title: "Remove an item…", when: (p) => live(p) && p.lines.length > 1,
    fields: (p) => [{ name: "product_id", label: "Item", kind: "choice", options: p.lines.map((one) => [one.product_id, one.product_id]) }],
    body: (p, f) => ({ ...token(p), ...f }),
  },
];

export const actionsOf = (purchase, products) => (purchase.store === "app_store" ? APP_STORE : GOOGLE_PLAY).filter((action) => action.when(purchase, products));
export const pathOf = (store) => (store === "app_store" ? "/app-store" : "/google-play");
export const productPrice = (product) => (product.price_micros === undefined
  ? price(product.price_milliunits, 1000, product.currency)
  : price(product.price_micros, 1000000, product.currency));
