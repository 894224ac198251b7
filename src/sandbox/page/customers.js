// The list of customers.

import { get, part, post } from "./api.js";
import { attempt, byId, fill, h, say } from "./dom.js";

let selected = null;
let entries = [];
let total = 0;
let choose = () => {};

export async function refresh() {
  const search = byId("customer-search").value.trim();
  try {
    const page = await get(`/customers?limit=200${search ? `&search=${part(search)}` : ""}`);
    entries = page.customers;
    total = page.total;
    draw();
  } catch (error) {
    say(byId("new-customer-error"), error);
  }
}

export function select(name) {
  selected = name;
  draw();
  choose(name);
}

/** Begins with somebody, unless somebody is chosen. */
export function selectFirst() {
  if (!selected) select(entries[0]?.name ?? null);
}

function draw() {
  byId("customer-count").textContent = total || "";
  if (!entries.length) {
    const searching = byId("customer-search").value.trim();
    fill(byId("customer-list"), h("li", { class: "empty" }, searching
      ? "Nobody has that name."
      : "Nobody yet. A customer is just a name: write one above and press Create."));
    return;
  }
  const hidden = total - entries.length;
  fill(byId("customer-list"), entries.map((entry) => h("li", {}, h("button", {
    type: "button", class: "customer", "data-key": entry.name, "aria-current": String(entry.name === selected),
    onclick: () => select(entry.name),
  },
  h("span", { class: `dot ${entry.entitled.length ? "on" : "off"}`, "aria-hidden": "true" }),
  h("span", { class: "customer-name" }, entry.name),
  h("span", { class: "dim" }, entry.entitled.length
    ? entry.entitled.join(", ")
    : entry.purchases ? "no access" : "no purchases")))),
  hidden > 0 && h("li", { class: "empty" }, `and ${hidden} more: search for a name`));
}

export function build(onselect) {
  choose = onselect;
  byId("customer-search").addEventListener("input", refresh);
  byId("new-customer").addEventListener("submit", async (event) => {
    event.preventDefault();
    const input = byId("new-customer-name");
    await attempt(event.submitter, byId("new-customer-error"), async () => {
      const customer = await post("/customers", { name: input.value });
      input.value = "";
      byId("customer-search").value = "";
      await refresh();
      select(customer.name);
    });
  });
}
