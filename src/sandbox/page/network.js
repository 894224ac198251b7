// What goes wrong between the stores and the server under test.

import { get, post } from "./api.js";
import { attempt, byId, fill, h } from "./dom.js";

const OUTAGES = [
  [null, "Works"],
  ["down503", "503"],
  ["timeout", "Times out"],
  ["rate_limited", "429"],
];

function outage(store, title, current) {
  const error = h("p", { class: "error", role: "alert", hidden: true });
  return h("fieldset", { class: "outage" },
    h("legend", {}, `${title}’s API`),
    h("div", { class: "segments", role: "radiogroup", "aria-label": `${title}’s API` }, OUTAGES.map(([value, name]) => h("button", {
      type: "button", role: "radio", "aria-checked": String((current ?? null) === value), "data-key": `${store}-${value}`,
      onclick: (event) => attempt(event.currentTarget, error, async () => {
        await post("/outage", { store, outage: value });
        await refresh();
      }),
    }, name))),
    error);
}

export async function refresh() {
  const panel = byId("network");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  if (!panel.firstChild) fill(panel, error);
  await attempt(null, error, async () => {
    const outages = await get("/outage");
    fill(panel,
      h("h3", {}, "Outages of the stores’ APIs"),
      h("p", { class: "dim" }, "What your server meets when it asks a store. Notifications go on."),
      outage("app_store", "App Store", outages.app_store),
      outage("google_play", "Google Play", outages.google_play));
  });
}
