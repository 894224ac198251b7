// What servers have asked the stores.

import { get } from "./api.js";
import { attempt, byId, fill, h } from "./dom.js";
import { moment, sentence, short } from "./format.js";

export async function refresh() {
  const panel = byId("calls");
  if (!panel.firstChild) {
    fill(panel,
      h("p", { id: "calls-error", class: "error", role: "alert", hidden: true }),
      h("div", { id: "calls-body" }));
  }
  await attempt(null, byId("calls-error"), async () => draw(await get("/calls")));
}

function draw(answer) {
  const counts = Object.entries(answer.counts).sort((a, b) => b[1] - a[1]);
  if (!counts.length) {
    fill(byId("calls-body"), h("p", { class: "empty" },
      "No server has asked the stores anything yet. Under Connect is what yours needs to know to ask here and not the real ones."));
    return;
  }
  fill(byId("calls-body"),
    answer.recent.length > 0 && [h("h3", {}, "Latest"), h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["When", "Call", "Answer"].map((title) => h("th", { scope: "col" }, title)))),
      h("tbody", {}, answer.recent.map((call) => h("tr", {},
        h("td", {}, moment(call.at)),
        h("td", { class: "mono call", title: call.path }, `${call.method} ${short(call.path.replace(/^\/(apple|google)\//, ""), 46)}`),
        h("td", { class: call.status < 400 ? "good" : "bad" }, `${call.status} · ${call.latency_millis} ms`))))))],
    h("h3", {}, "All, by endpoint"),
    h("table", {},
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Endpoint"), h("th", { scope: "col", class: "number" }, "Calls"))),
      h("tbody", {}, counts.map(([endpoint, count]) => h("tr", {}, h("td", {}, sentence(endpoint)), h("td", { class: "number" }, String(count)))))));
}
