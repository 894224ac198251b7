// What the stores have said, as they say it.

import { get, part, post } from "./api.js";
import { attempt, byId, drawUnpressed, fill, h, say, toast } from "./dom.js";
import { now } from "./clock.js";
import { clockTime, moment, sentence, sourceName, SOURCES } from "./format.js";
import { openNotification } from "./notification.js";

const SHOWN_MAX = 300;
const PAGE = 100;

let byNumber = new Map();
let customer = null;
let onlyCustomer = false;
let source = "";
let holding = false;
let more = false;

function query(extra = "") {
  const filters = [`limit=${PAGE}`];
  if (source) filters.push(`source=${source}`);
  if (onlyCustomer && customer) filters.push(`customer=${part(customer)}`);
  return `/notifications?${filters.join("&")}${extra}`;
}

export async function reload() {
  await attempt(null, byId("feed-error"), async () => {
    const [page, hold] = await Promise.all([get(query()), get("/notifications/hold")]);
    byNumber = new Map(page.map((one) => [one.number, one]));
    more = page.length === PAGE;
    holding = hold.hold;
    draw();
  });
}

async function older() {
  const first = Math.min(...byNumber.keys());
  const page = await get(query(`&before=${first}`));
  for (const one of page) byNumber.set(one.number, one);
  more = page.length === PAGE;
  draw();
}

const wanted = (one) => (!source || one.source === source) && (!onlyCustomer || !customer || one.customer === customer);

/** Takes in new and changed notifications. */
export function merge(changed) {
  const first = Math.min(...byNumber.keys());
  let touched = false;
  for (const one of changed) {
    // An old one that is not shown stays so: it would stand alone in a gap.
    if (!wanted(one) || (one.number < first && more)) continue;
    byNumber.set(one.number, one);
    touched = true;
  }
  if (!touched) return;
  const numbers = [...byNumber.keys()].sort((a, b) => b - a);
  if (numbers.length > SHOWN_MAX) {
    for (const number of numbers.slice(SHOWN_MAX)) byNumber.delete(number);
    more = true;
  }
  drawUnpressed(draw);
}

export function select(name) {
  customer = name;
  if (onlyCustomer) reload();
  else drawHead();
}

export async function toggleHold() {
  await attempt(byId("hold"), byId("feed-error"), async () => {
    await post("/notifications/hold", { hold: !holding });
    holding = !holding;
    toast(holding ? "Deliveries are held back" : "Deliveries go out again");
    draw();
  });
}

/** How the last attempt went, in few words. */
export function outcome(attempt) {
  const took = `${attempt.latency_millis} ms`;
  if (attempt.status) return `${attempt.status} · ${took}`;
  return `${sentence(attempt.result.toLowerCase())} · ${took}`;
}

const STATES = {
  pending: "waiting",
  delivered: "delivered",
  held: "held back",
  dropped: "dropped",
  failed: "given up",
  no_webhook: "no webhook",
};
export const stateName = (state) => STATES[state] ?? sentence(state);

function row(one) {
  const last = one.last_attempt;
  const count = one.attempt_count;
  return h("li", {}, h("button", {
    type: "button", class: "message", "data-key": one.id, "data-type": one.notification_type,
    onclick: () => openNotification(one.id),
  },
  h("span", { class: "message-top" },
    h("span", { class: `badge ${one.source}` }, sourceName(one.source)),
    h("span", { class: "dim" }, one.customer ?? ""),
    h("time", { class: "dim", datetime: one.created_at, title: `${clockTime(one.created_at)} UTC` }, moment(one.created_at, now()))),
  h("span", { class: "message-type" }, one.notification_type, one.subtype && h("span", { class: "subtype" }, ` ${one.subtype}`)),
  h("span", { class: "message-end" },
    h("span", { class: `state ${one.state}` }, stateName(one.state)),
    last && h("span", { class: "attempt" }, outcome(last)),
    count > 1 && h("span", { class: "dim" }, `${count} attempts`),
    one.sins?.length > 0 && h("span", { class: "sinned" }, one.sins.map((sin) => sentence(sin.sin).toLowerCase()).join(", ")),
    one.state === "pending" && one.next_attempt_at && count > 0 && h("span", { class: "dim" }, `again ${moment(one.next_attempt_at, now())}`))));
}

function drawHead() {
  const box = byId("feed-customer");
  box.disabled = !customer;
  box.checked = onlyCustomer;
  byId("feed-customer-name").textContent = customer ? `Only ${customer}` : "Only this customer";
  const hold = byId("hold");
  hold.setAttribute("aria-checked", String(holding));
}

function draw() {
  drawHead();
  const all = [...byNumber.values()].sort((a, b) => b.number - a.number);
  byId("hold-note").hidden = !holding;
  if (!all.length) {
    fill(byId("feed"), h("li", { class: "empty" },
      "The stores have said nothing yet. Buy something or let time pass, and every notification appears here with what your server answered. Under Connect you say where they are sent."));
    return;
  }
  fill(byId("feed"), all.map(row), more && h("li", {}, h("button", {
    type: "button", class: "wide", onclick: (event) => attempt(event.currentTarget, byId("feed-error"), older),
  }, "Older ones")));
}

async function sendTest(event) {
  const [button, select] = [event.submitter, byId("test-store")];
  event.preventDefault();
  await attempt(button, byId("feed-error"), () => post("/notifications/test", { store: select.value }));
}

export function build() {
  fill(byId("notifications"),
    h("div", { class: "feed-head" },
      h("label", { class: "check" },
        h("input", { type: "checkbox", id: "feed-customer", onchange: (event) => { onlyCustomer = event.target.checked; reload(); } }),
        h("span", { id: "feed-customer-name" }, "Only this customer")),
      h("label", { class: "hidden", for: "feed-source" }, "From"),
      h("select", { id: "feed-source", onchange: (event) => { source = event.target.value; reload(); } },
        h("option", { value: "" }, "All sources"),
        Object.entries(SOURCES).map(([value, title]) => h("option", { value }, title))),
      h("button", {
        type: "button", id: "hold", role: "switch", class: "switch", "aria-checked": "false", onclick: toggleHold,
        title: "Keep notifications back until you release them (h)", "aria-label": "Hold deliveries",
      }, "Hold")),
    h("p", { id: "hold-note", class: "note", hidden: true }, "Notifications are kept back. Send single ones by hand, in any order, or release them all."),
    h("p", { id: "feed-error", class: "error", role: "alert", hidden: true }),
    h("ul", { id: "feed", class: "feed", "aria-label": "Notifications, newest first" }),
    h("form", { class: "inline feed-foot", onsubmit: sendTest },
      h("label", { for: "test-store", class: "dim" }, "Test notification from"),
      h("select", { id: "test-store" },
        h("option", { value: "app_store" }, "App Store"),
        h("option", { value: "google_play" }, "Google Play")),
      h("button", { type: "submit" }, "Send")));
  say(byId("feed-error"), null);
}
