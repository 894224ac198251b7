// What a server under test has to be told, and where the stores send what they say.

import { get, post } from "./api.js";
import { attempt, byId, copy, fill, h, toast } from "./dom.js";
import { sourceName } from "./format.js";

const SECRET = /private_key|service_account|secret/;
const GROUPS = [
  ["Apple", (path) => /^(apple|app_store|bundle|app_apple|ocsp)/.test(path)],
  ["Google", (path) => /^(google|package|push)/.test(path)],
  ["Superwall", (path) => /^superwall/.test(path)],
  ["Identity provider", (path) => path.startsWith("identity")],
  ["The simulator", () => true],
];

const flat = (value, path = "") => Object.entries(value).flatMap(([name, inner]) => {
  const here = path ? `${path}.${name}` : name;
  return inner && typeof inner === "object" && !Array.isArray(inner) ? flat(inner, here) : [[here, inner]];
});

function field(path, raw) {
  const value = typeof raw === "string" ? raw : JSON.stringify(raw);
  const secret = SECRET.test(path);
  const long = value.length > 90;
  const shown = h("span", { class: "mono value" }, secret ? "••••••••" : long ? `${value.slice(0, 60)}…` : value);
  const reveal = (secret || long) && h("button", {
    type: "button", class: "small", "aria-pressed": "false", onclick: (event) => {
      const open = event.currentTarget.getAttribute("aria-pressed") !== "true";
      event.currentTarget.setAttribute("aria-pressed", String(open));
      event.currentTarget.textContent = open ? "Hide" : "Show";
      shown.textContent = open ? value : secret ? "••••••••" : `${value.slice(0, 60)}…`;
    },
  }, "Show");
  return h("div", { class: "field" },
    h("span", { class: "field-name" }, path),
    shown,
    h("span", { class: "field-end" }, reveal, h("button", {
      type: "button", class: "small", "aria-label": `Copy ${path}`, onclick: () => copy(value, path),
    }, "Copy")));
}

function webhookForm(webhooks) {
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const names = Object.keys(webhooks);
  const inputs = names.map((name) => h("input", {
    type: "url", id: `webhook-${name}`, value: typeof webhooks[name] === "string" ? webhooks[name] : "",
    placeholder: "http://localhost:3000/…", spellcheck: false,
  }));
  return h("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault();
    await attempt(event.submitter, error, async () => {
      const wish = Object.fromEntries(names.map((name, at) => [name, inputs[at].value.trim() || null]));
      await post("/webhooks", wish);
      toast("Webhooks saved");
    });
  } },
  names.map((name, at) => [h("label", { for: `webhook-${name}` }, sourceName(name)), inputs[at]]),
  h("div", { class: "actions" }, h("button", { type: "submit", class: "primary" }, "Save")), error);
}

export async function refresh() {
  const panel = byId("connect");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  if (!panel.firstChild) fill(panel, error);
  await attempt(null, error, async () => {
    const [manifest, webhooks] = await Promise.all([get("/manifest"), get("/webhooks")]);
    const fields = flat(manifest);
    const taken = new Set();
    const groups = GROUPS.map(([title, takes]) => {
      const mine = fields.filter(([path]) => !taken.has(path) && takes(path));
      for (const [path] of mine) taken.add(path);
      return mine.length > 0 && h("details", { class: "group", open: title === "Apple" || title === "Google", "data-key": title },
        h("summary", {}, title), mine.map(([path, value]) => field(path, value)));
    });
    fill(panel,
      h("h3", {}, "Where the stores send their notifications"),
      h("p", { class: "dim" }, "URLs of your server’s webhooks. An empty one: the store knows none, and what it says stays unsent."),
      webhookForm(webhooks),
      h("h3", {}, "What your server has to be told"),
      h("p", { class: "dim" }, "Set these in place of the real stores’ addresses, trust roots and credentials."),
      groups,
      h("div", { class: "actions" }, h("button", {
        type: "button", onclick: () => copy(JSON.stringify(manifest, null, 2), "Manifest"),
      }, "Copy all as JSON")));
  });
}

