// The virtual clock in the head of the page.

import { get, post } from "./api.js";
import { attempt, byId, dialogHead, fill, h, say } from "./dom.js";
import { clockTime, relative } from "./format.js";

const STEPS = [
  ["Next event", { until: "next_event" }, "Until the next thing that is due (n)"],
  ["+1 day", { by: "P1D" }, "d"],
  ["+1 week", { by: "P1W" }, "w"],
  ["+1 month", { by: "P1M" }, "m"],
  ["+1 year", { by: "P1Y" }, "y"],
];
const RATES = [[60, "×60: a minute a second"], [3600, "×3600: an hour a second"], [86400, "×86400: a day a second"], [604800, "×604800: a week a second"]];

let view = null;
/** Machine time at which the view was got, to let a running clock run on the page. */
let gotAt = 0;

/** What the clock shows at this moment. */
export function now() {
  if (!view) return new Date();
  const rate = view.advancing || view.mode === "stopped" ? 0 : view.rate ?? 0;
  return new Date(+new Date(view.now) + (performance.now() - gotAt) * rate);
}

export function show(next) {
  view = next;
  gotAt = performance.now();
  draw();
}

function draw() {
  if (!view) return;
  const at = now();
  const face = byId("now");
  face.textContent = `${clockTime(at)} UTC`;
  face.dateTime = at.toISOString();
  const next = view.next_event_at;
  byId("next-event").textContent = next ? `next event ${relative(next, at)}` : "nothing is due";
  byId("next-event").title = next ? `${clockTime(next)} UTC` : "";
  const travelling = Boolean(view.advancing);
  byId("journey").hidden = !travelling;
  if (travelling) {
    byId("journey-bar").value = view.progress ?? 0;
    byId("journey-text").textContent = `${Math.round((view.progress ?? 0) * 100)} % of the way to ${clockTime(view.advancing.to)}`;
  }
  for (const button of byId("steps").querySelectorAll("button")) button.disabled = travelling;
  drawMode();
}

let drawnMode = null;
function drawMode() {
  const key = `${view.mode}/${view.rate}`;
  if (drawnMode === key) return;
  drawnMode = key;
  const mode = (name, title, body, about) => h("button", {
    type: "button", role: "radio", "aria-checked": String(view.mode === name), title: about, "data-key": name,
    onclick: (event) => setMode(event.currentTarget, body),
  }, title);
  const scaled = view.mode === "scaled";
  const rates = RATES.some(([rate]) => rate === view.rate) || !scaled ? RATES : [...RATES, [view.rate, `×${view.rate}`]];
  fill(byId("clock-mode"),
    mode("stopped", "Stopped", { mode: "stopped" }, "Time stands still until you let it pass"),
    mode("real", "Real time", { mode: "real" }, "Time passes at the machine’s pace"),
    mode("scaled", scaled ? `×${view.rate}` : "Fast", { mode: "scaled", rate: 86400 }, "Time passes faster"),
    scaled && h("select", {
      "aria-label": "How much faster", "data-key": "rate",
      onchange: (event) => setMode(null, { mode: "scaled", rate: Number(event.target.value) }),
    }, rates.map(([rate, title]) => h("option", { value: rate, selected: rate === view.rate }, title))));
}

function setMode(button, body) {
  return attempt(button, byId("clock-error"), async () => show(await post("/clock", body)));
}

/** Lets time pass; the progress comes with the events. */
export function step(target) {
  return attempt(null, byId("clock-error"), async () => show(await post("/advance", { ...target, wait: false })));
}

function openCustom() {
  const dialog = byId("ask");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const count = h("input", { type: "number", min: 1, max: 10000, value: 10, id: "custom-count", required: true });
  const unit = h("select", { id: "custom-unit", "aria-label": "Unit" },
    [["D", "days"], ["W", "weeks"], ["M", "months"], ["Y", "years"]].map(([value, title]) => h("option", { value }, title)));
  const until = h("input", { type: "datetime-local", id: "custom-until", step: 1 });
  const go = async (button, target) => {
    const gone = await attempt(button, error, async () => {
      show(await post("/advance", { ...target, wait: false }));
      return true;
    });
    if (gone) dialog.close();
  };
  fill(dialog,
    dialogHead(dialog, "ask-title", "Let time pass"),
    h("form", { class: "form", onsubmit: (event) => {
      event.preventDefault();
      go(event.submitter, { by: `P${count.value}${unit.value}` });
    } }, h("label", { for: "custom-count" }, "By"), h("div", { class: "inline" }, count, unit, h("button", { type: "submit", class: "primary" }, "Advance"))),
    h("form", { class: "form", onsubmit: (event) => {
      event.preventDefault();
      if (!until.value) return say(error, "choose a date first");
      go(event.submitter, { to: new Date(`${until.value}Z`).toISOString() });
    } }, h("label", { for: "custom-until" }, "Until (UTC)"), h("div", { class: "inline" }, until, h("button", { type: "submit" }, "Advance"))),
    error);
  until.value = new Date(+now() + 86400000).toISOString().slice(0, 19);
  dialog.showModal();
  count.select();
}

export function build() {
  fill(byId("steps"), STEPS.map(([title, target, about], index) => h("button", {
    type: "button", class: index === 0 ? "primary" : "", title: about.length === 1 ? `Shortcut: ${about}` : about,
    onclick: () => step(target),
  }, title)), h("button", { type: "button", onclick: openCustom, title: "By any length, or until a date" }, "Custom…"));
  byId("journey-stop").onclick = (event) => attempt(event.currentTarget, byId("clock-error"), async () => show(await post("/advance/stop")));
  setInterval(() => {
    if (view && !view.advancing && view.mode && view.mode !== "stopped") draw();
  }, 250);
  // A running clock is corrected now and then.
  setInterval(async () => {
    if (!view || document.hidden || view.mode === "stopped") return;
    try {
      show(await get("/clock"));
    } catch {
      // The stream of events says that the connection is lost.
    }
  }, 15000);
}
