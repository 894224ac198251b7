// Brings the parts of the page together: one state, one stream of events.

import { get } from "./api.js";
import { byId, dialogHead, fill, h, say } from "./dom.js";
import * as clock from "./clock.js";
import * as customers from "./customers.js";
import * as purchases from "./purchases.js";
import * as feed from "./feed.js";
import * as network from "./network.js";
import * as calls from "./calls.js";
import * as connect from "./connect.js";

/** Calls a task at most once in so many milliseconds, the last call included. */
function calm(milliseconds, task) {
  let timer = null;
  let last = 0;
  return () => {
    if (timer) return;
    const wait = Math.max(0, last + milliseconds - Date.now());
    timer = setTimeout(() => {
      timer = null;
      last = Date.now();
      task();
    }, wait);
  };
}

const TABS = [
  ["notifications", "Notifications"],
  ["network", "Network"],
  ["calls", "API calls"],
  ["connect", "Connect"],
];
let tab = "notifications";

function showTab(name) {
  tab = name;
  for (const [id] of TABS) {
    byId(id).hidden = id !== name;
    const button = byId(`tab-${id}`);
    button.setAttribute("aria-selected", String(id === name));
    button.tabIndex = id === name ? 0 : -1;
  }
  if (name === "network") network.refresh();
  if (name === "calls") calls.refresh();
  if (name === "connect") connect.refresh();
}

function buildTabs() {
  const list = byId("tabs");
  list.append(...TABS.map(([id, title]) => h("button", {
    type: "button", role: "tab", id: `tab-${id}`, "aria-controls": id,
    onclick: () => showTab(id),
  }, title)));
  list.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = TABS.findIndex(([id]) => id === tab);
    const [next] = TABS[(at + step + TABS.length) % TABS.length];
    showTab(next);
    byId(`tab-${next}`).focus();
  });
}

/** On a narrow screen one part is shown at a time. */
function showView(view, name) {
  document.body.dataset.view = view;
  if (name) showTab(name);
  for (const button of byId("views").children) {
    button.setAttribute("aria-current", String(button.dataset.view === (name ?? view)));
  }
}

function buildViews() {
  const view = (id, title, panel, name) => h("button", {
    type: "button", "data-view": id, onclick: () => showView(panel, name),
  }, title);
  byId("views").append(
    view("customers", "Customers", "customers"),
    view("purchases", "Purchases", "purchases"),
    view("notifications", "Messages", "side", "notifications"),
    view("network", "Network", "side", "network"),
    view("connect", "Connect", "side", "connect"),
  );
  showView("purchases");
}

function buildTheme() {
  const button = byId("theme");
  const order = ["auto", "light", "dark"];
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    const next = order[(order.indexOf(theme) + 1) % order.length];
    button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
    button.title = `Colours: ${theme}`;
    button.setAttribute("aria-label", `Colours: ${theme}; change to ${next}`);
    button.onclick = () => {
      localStorage.setItem("theme", next);
      apply(next);
    };
  };
  const kept = localStorage.getItem("theme");
  apply(order.includes(kept) ? kept : "auto");
}

const SHORTCUTS = [
  ["n", "Until the next event", () => clock.step({ until: "next_event" })],
  ["d", "Let a day pass", () => clock.step({ by: "P1D" })],
  ["w", "Let a week pass", () => clock.step({ by: "P1W" })],
  ["m", "Let a month pass", () => clock.step({ by: "P1M" })],
  ["y", "Let a year pass", () => clock.step({ by: "P1Y" })],
  ["c", "Create a customer", () => { showView("customers"); byId("new-customer-name").focus(); }],
  ["/", "Search customers", () => { showView("customers"); byId("customer-search").focus(); }],
  ["b", "Buy something for this customer", () => purchases.openBuy()],
  ["h", "Hold deliveries, or release them", () => feed.toggleHold()],
  ["?", "This list", () => byId("help").showModal()],
];

function buildShortcuts() {
  const dialog = byId("help");
  dialog.append(
    dialogHead(dialog, "help-title", "Keyboard shortcuts"),
    h("dl", { class: "shortcuts" }, SHORTCUTS.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("p", { class: "dim" }, "Everything here is also an HTTP call below /control, for scripts."),
  );
  byId("help-open").onclick = () => dialog.showModal();
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, select, textarea, [contenteditable]");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const found = SHORTCUTS.find(([key]) => key === event.key);
    if (!found) return;
    event.preventDefault();
    found[2]();
  });
}

function listen() {
  const status = byId("connection");
  const refreshCustomer = calm(250, purchases.refresh);
  const refreshList = calm(1000, customers.refresh);
  const refreshCalls = calm(1000, () => tab === "calls" && calls.refresh());
  const stream = new EventSource("/control/events");
  let lost = false;
  stream.addEventListener("open", () => {
    fill(status);
    if (lost) {
      lost = false;
      feed.reload();
    }
  });
  stream.addEventListener("error", () => {
    lost = true;
    fill(status, "Not connected: is the simulator running?");
  });
  stream.addEventListener("changed", (event) => {
    const changed = JSON.parse(event.data);
    clock.show(changed.clock);
    if (changed.incomplete) feed.reload();
    else feed.merge(changed.notifications);
    refreshCustomer();
    refreshList();
    refreshCalls();
  });
}

async function start() {
  buildTabs();
  buildViews();
  buildTheme();
  buildShortcuts();
  clock.build();
  feed.build();
  customers.build((name) => {
    purchases.select(name);
    feed.select(name);
    showView("purchases");
  });
  purchases.build({ onchange: customers.refresh });
  showTab("notifications");
  try {
    const products = await get("/products");
    fill(byId("app"), `${products.bundle_id} · `, h("span", { class: "environment" }, products.environment));
    purchases.setProducts(products);
    clock.show(await get("/clock"));
    await customers.refresh();
    customers.selectFirst();
    await feed.reload();
  } catch (error) {
    say(byId("clock-error"), error);
  }
  listen();
}

start();
