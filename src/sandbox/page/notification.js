// One notification: its attempts and what is in it.

import { get, part, post } from "./api.js";
import { attempt, byId, copy, dialogHead, fill, h } from "./dom.js";
import { clockTime, sourceName } from "./format.js";
import { outcome, stateName } from "./feed.js";

/** Pub/Sub goes on for a week. */
const ATTEMPTS_MAX = 30;

/** JSON as text with its parts marked; long values stay whole. */
export function json(value, indent = 0) {
  const pad = "  ".repeat(indent + 1);
  const end = "  ".repeat(indent);
  if (Array.isArray(value)) {
    if (!value.length) return ["[]"];
    return ["[\n", value.map((item, at) => [pad, json(item, indent + 1), at < value.length - 1 ? ",\n" : "\n"]), end, "]"];
  }
  if (value && typeof value === "object") {
    const fields = Object.entries(value);
    if (!fields.length) return ["{}"];
    return ["{\n", fields.map(([name, inner], at) => [
      pad, h("span", { class: "json-name" }, JSON.stringify(name)), ": ", json(inner, indent + 1), at < fields.length - 1 ? ",\n" : "\n",
    ]), end, "}"];
  }
  const kind = typeof value === "string" ? "json-text" : "json-value";
  const date = typeof value === "number" && value > 1e12 && value < 1e13;
  return [h("span", { class: kind, title: date ? `${clockTime(value)} UTC` : "" }, JSON.stringify(value))];
}

function draw(dialog, one) {
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const act = (verb, path) => async (event) => {
    await attempt(event.currentTarget, error, async () => {
      await post(`/notifications/${part(one.id)}/${path}`);
      draw(dialog, await get(`/notifications/${part(one.id)}`));
      dialog.querySelector(`[data-key="${verb}"]`)?.focus();
    });
  };
  const first = one.attempts.length === 0;
  fill(dialog,
    dialogHead(dialog, "detail-title", [one.notification_type, one.subtype && h("span", { class: "subtype" }, ` ${one.subtype}`)]),
    h("p", { class: "chips" },
      h("span", { class: `badge ${one.source}` }, sourceName(one.source)),
      h("span", { class: `state ${one.state}` }, stateName(one.state)),
      one.customer && h("span", {}, one.customer)),
    h("dl", { class: "facts" },
      h("dt", {}, "Happened"), h("dd", {}, `${clockTime(one.created_at)} UTC`),
      h("dt", {}, "Id"), h("dd", { class: "mono" }, one.id),
      one.purchase && [h("dt", {}, "Purchase"), h("dd", { class: "mono" }, one.purchase)],
      one.next_attempt_at && [h("dt", {}, "Next attempt"), h("dd", {}, `${clockTime(one.next_attempt_at)} UTC`)]),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "primary", "data-key": "deliver", onclick: act("deliver", "deliver") }, first ? "Send now" : "Send again"),
      h("button", { type: "button", "data-key": "drop", onclick: act("drop", "drop"), title: "No further attempt is made by schedule" }, "Drop"),
      h("button", { type: "button", onclick: () => copy(one.body, "Body") }, "Copy body")),
    error,
    h("h3", {}, "Attempts ", h("span", { class: "count" }, one.attempts.length > ATTEMPTS_MAX ? `the latest ${ATTEMPTS_MAX} of ${one.attempts.length}` : one.attempts.length || "")),
    first
      ? h("p", { class: "empty" }, "None yet.")
      : h("div", { class: "scroll" }, h("table", { class: "attempts" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Sent"), h("th", { scope: "col" }, "Answer"), h("th", { scope: "col" }, "Taken as"))),
        h("tbody", {}, one.attempts.slice(-ATTEMPTS_MAX).reverse().map((made) => h("tr", {},
          h("td", {}, `${clockTime(made.at)} UTC`),
          h("td", {}, outcome(made)),
          h("td", { class: made.result === "SUCCESS" ? "good" : "bad" }, made.result)))))),
    h("h3", {}, "Content"),
    h("p", { class: "dim" }, "Signed documents and base64 are opened for reading; what was sent is under Copy body."),
    h("pre", { class: "json", tabIndex: 0, "aria-label": "Decoded content" }, json(one.decoded).flat(Infinity)));
}

export async function openNotification(id) {
  const dialog = byId("detail");
  await attempt(null, byId("feed-error"), async () => {
    draw(dialog, await get(`/notifications/${part(id)}`));
    dialog.showModal();
    dialog.scrollTop = 0;
  });
}
