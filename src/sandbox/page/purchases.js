// A customer's purchases as cards, with everything that can be done to them.

import { get, part, post } from "./api.js";
import { attempt, byId, copy, drawUnpressed, fill, h, toast } from "./dom.js";
import { day, moment, price, relative, sentence, short, sourceName, words } from "./format.js";
import { actionsOf, pathOf } from "./actions.js";
import { openBuy as openBuyDialog } from "./buy.js";
import { now } from "./clock.js";
import { ask } from "./forms.js";

let name = null;
let customer = null;
let products = null;
let changed = () => {};

const ENDED = ["expired", "revoked"];

export const setProducts = (sold) => { products = sold; };

export async function select(next) {
  name = next;
  customer = null;
  await refresh();
}

export async function refresh() {
  if (!name) {
    draw();
    return;
  }
  const wanted = name;
  try {
    const found = await get(`/customers/${part(wanted)}`);
    if (wanted !== name) return;
    customer = { ...found, purchases: grouped(found.purchases) };
    drawUnpressed(draw);
  } catch (error) {
    fill(byId("cards"), h("p", { class: "error", role: "alert" }, error.message));
  }
}

/** One card per purchase: Google sells several items under one token. */
function grouped(list) {
  const found = new Map();
  for (const truth of list) {
    const key = `${truth.store}/${truth.id}`;
    const known = found.get(key);
    if (known) {
      known.lines.push(truth);
      known.entitled ||= truth.entitled;
    } else {
      // What was arranged for an ended purchase does not come any more; money may still go back.
      const ahead = truth.ahead.filter((one) => !ENDED.includes(truth.state) || ["refund_request", "charge_back"].includes(one.what));
      found.set(key, { ...truth, ahead, lines: [truth] });
    }
  }
  const order = (one) => (one.entitled ? (one.subscription ? 0 : 0.5) : ENDED.includes(one.state) ? 2 : 1);
  return [...found.values()].sort((a, b) => order(a) - order(b) || String(b.transactions.at(-1)?.at ?? "").localeCompare(String(a.transactions.at(-1)?.at ?? "")));
}

const STATE_TEXT = {
  active: "Active", canceled: "Canceled", in_grace_period: "Grace period", on_hold: "On hold",
  expired: "Expired", revoked: "Refunded", paused: "Paused", pending: "Pending",
};
const stateText = (purchase) => (!purchase.subscription && purchase.state === "active" ? "Bought" : purchase.state === "on_hold" && purchase.store === "app_store" ? "Billing retry" : STATE_TEXT[purchase.state] ?? sentence(purchase.state));

/** What happens next, in words. */
function outlook(purchase) {
  const at = now();
  const when = purchase.expires_at && `${day(purchase.expires_at)} (${relative(purchase.expires_at, at)})`;
  if (!purchase.subscription) return purchase.entitled ? `Bought ${day(purchase.transactions.at(-1)?.at)}, for good` : "No longer owned";
  switch (purchase.state) {
    case "active": return purchase.billing === "fails" ? `The card will fail on ${when}` : `Renews ${when}`;
    case "canceled": return `Ends ${when}`;
    case "in_grace_period": return `Unpaid; access until ${when}`;
    case "on_hold": return `Unpaid, without access since ${day(purchase.expires_at)}`;
    case "paused": return `Paused; no access`;
    case "pending": return "Waits for the money";
    case "revoked": return "Refunded; access has ended";
    default: return `Ended ${day(purchase.expires_at)}`;
  }
}

/** What has been arranged for later, or waits for somebody, in words. */
const AHEAD = {
  other_product: (one) => `Changes to ${one.product_id} at renewal`,
  removal: (one) => `${one.product_id} ends with its period`,
  new_price: (one) => (one.answer_awaited ? "A new price waits for the customer’s answer" : "A new price comes with the next renewal"),
  full_price: () => "The full price waits for the customer’s consent",
  pause: () => "A pause begins at the end of the period",
  prepaid: () => "Prepaid",
  commitment: (one) => `${one.payments} committed payments to come`,
  refund_request: (one) => `The customer asks for a refund of ${one.transaction_id}`,
  charge_back: (one) => `A charge-back of ${one.order_id} is under review`,
};

function ahead(purchase) {
  if (!purchase.ahead.length) return null;
  return h("ul", { class: "ahead" }, purchase.ahead.map((one) => h("li", {}, AHEAD[one.what]?.(one) ?? sentence(one.what))));
}

function bar(purchase) {
  if (!purchase.subscription || !purchase.period_start) return null;
  const fillElement = h("div", { class: "bar-fill" });
  const element = h("div", {
    class: `bar ${purchase.state}`, role: "img", "data-start": purchase.period_start, "data-end": purchase.expires_at,
    "aria-label": `Period from ${day(purchase.period_start)} to ${day(purchase.expires_at)}`,
  }, fillElement);
  return h("div", { class: "period" }, element, h("div", { class: "period-ends" }, h("span", {}, day(purchase.period_start)), h("span", {}, day(purchase.expires_at))));
}

/** Moves the bars to the clock. */
export function tick() {
  for (const element of document.querySelectorAll(".bar")) {
    const [start, end] = [+new Date(element.dataset.start), +new Date(element.dataset.end)];
    const share = Math.min(1, Math.max(0, (now() - start) / (end - start || 1)));
    element.firstElementChild.style.inlineSize = `${share * 100}%`;
  }
}

function actionButton(purchase, action, error, menu) {
  const run = async (fields) => {
    await post(`${pathOf(purchase.store)}/${action.verb.replaceAll("_", "-")}`, action.body(purchase, fields));
    toast(`${action.title.replace("…", "")}: done`);
    await refresh();
    changed();
  };
  const key = `${purchase.id}/${action.title}`;
  return h("button", {
    type: "button", "data-key": key, "data-verb": action.verb,
    onclick: (event) => {
      if (menu) event.currentTarget.closest("details").open = false;
      if (!action.fields) return attempt(event.currentTarget, error, () => run({}));
      return ask({ title: action.title.replace("…", ""), about: action.about, verb: action.title.replace("…", ""), fields: action.fields(purchase, products), run });
    },
  }, action.title);
}

function transactions(purchase) {
  if (!purchase.transactions.length) return null;
  const what = purchase.store === "app_store" ? "Transactions" : "Orders";
  return h("details", { class: "group", "data-key": `${purchase.id}/transactions` },
    h("summary", {}, `${what} `, h("span", { class: "count" }, purchase.transactions.length)),
    h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Id", "Product", "From", "To", "Price", ""].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, [...purchase.transactions].reverse().map((one) => h("tr", {},
        h("td", { class: "mono" }, one.id),
        h("td", {}, one.product_id),
        h("td", {}, moment(one.at, now())),
        h("td", {}, one.until ? moment(one.until, now()) : "—"),
        h("td", { class: "number" }, price(one.price_micros, 1000000, one.currency)),
        h("td", {}, one.refunded_at ? h("span", { class: "bad" }, "refunded") : one.note ?? "")))))));
}

function copyButtons(purchase) {
  if (purchase.store === "google_play") {
    return h("button", { type: "button", class: "small", title: "What the app sends to your server", onclick: () => copy(purchase.id, "Purchase token") }, "Copy purchase token");
  }
  return [
    h("button", {
      type: "button", class: "small", title: "What the app sends to your server, freshly signed",
      onclick: (event) => attempt(event.currentTarget, null, async () => {
        const signed = await get(`/app-store/transactions/${part(purchase.latest_transaction)}`);
        await copy(signed.signed_transaction, "Signed transaction");
      }),
    }, "Copy signed transaction"),
    h("button", { type: "button", class: "small", onclick: () => copy(purchase.id, "Original transaction id") }, "Copy id"),
  ];
}

function card(purchase) {
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const actions = actionsOf(purchase, products);
  const over = ENDED.includes(purchase.state);
  const change = purchase.subscription && h("button", {
    type: "button", onclick: () => openBuy(over ? { store: purchase.store } : { store: purchase.store, id: purchase.id, product_id: purchase.product_id, base_plan_id: purchase.base_plan_id }),
  }, over ? "Buy again…" : "Change plan…");
  const rest = actions.filter((action) => !action.first);
  const facts = [
    purchase.account && `account ${short(purchase.account, 13)}`,
    purchase.acknowledged === false && "not acknowledged",
    purchase.ownership === "family_shared" && "shared by family",
    purchase.members.length > 0 && `shared with ${purchase.members.join(", ")}`,
    purchase.offer && `offer ${words(purchase.offer)}`,
    purchase.quantity > 1 && `quantity ${purchase.quantity}`,
    purchase.billing === "fails" && "card fails",
  ].filter(Boolean);
  return h("article", { class: `card ${over ? "over" : ""}`, "data-id": purchase.id, "data-state": purchase.state, "aria-label": `${purchase.product_id} at ${sourceName(purchase.store)}` },
    h("div", { class: "card-head" },
      h("div", {},
        h("span", { class: `badge ${purchase.store}` }, sourceName(purchase.store)),
        h("h3", {}, purchase.lines.map((line) => line.product_id).join(" + "), purchase.base_plan_id && h("span", { class: "dim" }, ` ${purchase.base_plan_id}`))),
      h("div", { class: "pills" },
        h("span", { class: `pill ${purchase.state}` }, stateText(purchase)),
        h("span", { class: `pill ${purchase.entitled ? "yes" : "no"}` }, purchase.entitled ? "Has access" : "No access"))),
    h("p", { class: "outlook" }, outlook(purchase)),
    bar(purchase),
    ahead(purchase),
    h("div", { class: "actions" },
      actions.filter((action) => action.first).map((action) => actionButton(purchase, action, error)),
      change,
      rest.length > 0 && h("details", { class: "menu", "data-key": `${purchase.id}/more` }, h("summary", {}, "More"), h("div", { class: "menu-list" }, rest.map((action) => actionButton(purchase, action, error, true))))),
    error,
    transactions(purchase),
    h("div", { class: "card-foot" }, h("span", { class: "mono dim", title: purchase.id }, short(purchase.id)), facts.map((fact) => h("span", { class: "dim" }, fact)), h("span", { class: "foot-end" }, copyButtons(purchase))));
}

export function openBuy(start = {}) {
  if (!customer || !products) return;
  openBuyDialog(products, customer, start, async () => {
    await refresh();
    changed();
  });
}

function draw() {
  if (!customer) {
    fill(byId("customer-head"));
    fill(byId("cards"), h("div", { class: "welcome" },
      h("h2", {}, "Billing, without waiting for it"),
      h("p", {}, "This plays the App Store and Google Play for your server: what they sign, answer and tell, on a clock that you move."),
      h("ol", {},
        h("li", {}, "Create a customer: a name is enough."),
        h("li", {}, "Let them buy. Your server is told at once, as the stores tell it."),
        h("li", {}, "Fail the card, refund, cancel; let a month pass. Every notification appears with your server’s answer."))));
    return;
  }
  fill(byId("customer-head"),
    h("div", {},
      h("h2", {}, customer.name),
      h("p", { class: "dim" }, "Account ", h("span", { class: "mono" }, customer.account), " ",
        h("button", { type: "button", class: "small", "aria-label": "Copy the account id", onclick: () => copy(customer.account, "Account id") }, "Copy"))),
    h("button", { type: "button", class: "primary", id: "open-buy", onclick: () => openBuy(), title: "Buy something (b)" }, "Buy…"));
  fill(byId("cards"), customer.purchases.length
    ? customer.purchases.map(card)
    : h("p", { class: "empty" }, `${customer.name} has bought nothing yet. Press Buy: your server hears of it at once.`));
  tick();
}

export function build({ onchange }) {
  changed = onchange;
  setInterval(tick, 1000);
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  });
}
