// What goes wrong between the stores and the server under test.

import { get, post } from "./api.js";
import { attempt, byId, fill, h, toast } from "./dom.js";
import { SOURCES } from "./format.js";

const OUTAGES = [
  [null, "Works"],
  ["down503", "503"],
  ["timeout", "Times out"],
  ["rate_limited", "429"],
];
const OCSP = [["good", "Good"], ["revoked", "Revoked"], ["unknown", "Unknown"], ["try_later", "Try later"], ["down", "Down"]];

/** Chances: group, name, title, what it does, and the number that says how grave it is. */
const CHANCES = {
  deliveries: [
    ["duplicate", "Duplicate", "Delivered again after it was acknowledged"],
    ["reorder", "Reorder", "Overtaken by the next one"],
    ["delay", "Delay", "Sent late", ["delay_seconds_max", "at most, in seconds"]],
    ["drop", "Drop", "Lost for good"],
    ["truncate", "Truncate", "The connection ends in the middle of the body"],
    ["slow", "Slow", "The body takes its time", ["slow_millis", "milliseconds"]],
  ],
  calls: [
    ["slow", "Slow", "Answered late", ["slow_millis", "milliseconds"]],
    ["rate_limited", "Rate limited", "Answered 429"],
    ["unavailable", "Unavailable", "Answered 5xx"],
    ["timeout", "Time out", "Not answered until the caller gives up"],
    ["not_found", "Not found", "Reads find nothing for the moment"],
    ["stale", "Stale", "Reads see what was before the last change", ["stale_seconds", "for so many seconds"]],
  ],
};
const CLOCKS = [
  ["app_store_seconds", "App Store"], ["google_play_seconds", "Google Play"], ["superwall_seconds", "Superwall"], ["jitter_seconds", "Jitter, either way"],
];
const NEXT_DELIVERY = [
  [{ sin: "drop" }, "is lost"], [{ sin: "duplicate" }, "comes twice"], [{ sin: "reorder" }, "is overtaken"],
  [{ sin: "delay", seconds: 3600 }, "is an hour late"], [{ sin: "truncate" }, "breaks off"], [{ sin: "slow", millis: 5000 }, "takes 5 seconds"],
];
const NEXT_CALL = [
  [{ sin: "rate_limited" }, "is answered 429"], [{ sin: "unavailable" }, "is answered 5xx"], [{ sin: "slow", millis: 5000 }, "takes 5 seconds"],
  [{ sin: "timeout" }, "times out"], [{ sin: "not_found" }, "finds nothing"], [{ sin: "stale" }, "sees the past"],
];

let sins = null;
let error = null;

const percent = (chance) => `${Math.round(chance * 1000) / 10} %`;

function segments(title, options, current, choose) {
  return h("fieldset", { class: "outage" }, h("legend", {}, title),
    h("div", { class: "segments", role: "radiogroup", "aria-label": title }, options.map(([value, name]) => h("button", {
      type: "button", role: "radio", "aria-checked": String(current === value), "data-key": `${title}-${value}`,
      onclick: (event) => attempt(event.currentTarget, error, async () => {
        await choose(value);
        await refresh();
      }),
    }, name))));
}

const save = () => attempt(null, error, () => post("/sins", sins));

function chance(group, [name, title, about, measure]) {
  const id = `sin-${group}-${name}`;
  const output = h("output", { for: id }, percent(sins[group][name]));
  // Small chances matter most: the slider is finer near zero.
  const slider = h("input", {
    type: "range", id, min: 0, max: 100, step: 1, value: Math.round(Math.sqrt(sins[group][name]) * 100), "data-key": id,
    oninput: () => {
      sins[group][name] = Math.round((slider.value / 100) ** 2 * 1000) / 1000;
      output.textContent = percent(sins[group][name]);
      slider.setAttribute("aria-valuetext", output.textContent);
    },
    onchange: save,
  });
  slider.setAttribute("aria-valuetext", output.textContent);
  return h("div", { class: "sin" }, h("label", { for: id }, title, h("span", { class: "dim" }, ` ${about}`)), slider, output,
    measure && number(group, measure[0], measure[1]));
}

function number(group, name, title) {
  const id = `sin-${group}-${name}`;
  return h("div", { class: "measure" }, h("label", { for: id, class: "dim" }, title), h("input", {
    type: "number", id, step: 1, value: sins[group][name], "data-key": id,
    onchange: (event) => {
      sins[group][name] = Math.round(Number(event.target.value));
      save();
    },
  }));
}

function next(id, title, path, whose, list) {
  const who = h("select", { "aria-label": `${title}: whose`, id: `${id}-who`, "data-key": `${id}-who` }, h("option", { value: "" }, "any"), Object.entries(SOURCES)
    .filter(([value]) => whose === "source" || value !== "superwall")
    .map(([value, name]) => h("option", { value }, name)));
  const what = h("select", { "aria-label": `${title}: what`, id: `${id}-what`, "data-key": `${id}-what` }, list.map(([, name], at) => h("option", { value: at }, name)));
  return h("form", { class: "inline next", onsubmit: async (event) => {
    event.preventDefault();
    await attempt(event.submitter, error, async () => {
      await post(path, { [whose]: who.value || undefined, suffer: list[what.value][0] });
      toast(`${title} ${list[what.value][1]}`);
    });
  } }, h("span", {}, title), who, what, h("button", { type: "submit" }, "Do"));
}

export async function refresh() {
  const panel = byId("network");
  error ??= h("p", { id: "network-error", class: "error", role: "alert", hidden: true });
  if (!panel.firstChild) fill(panel, error);
  await attempt(null, error, async () => {
    const [outages, now, ocsp, limits] = await Promise.all([get("/outage"), get("/sins"), get("/ocsp"), get("/rate-limits")]);
    sins = now;
    draw(panel, outages, ocsp.answer, limits.enforced);
  });
}

function draw(panel, outages, ocsp, enforced) {
  const outage = (store) => (value) => post("/outage", { store, outage: value });
  fill(panel,
    error,
    h("h3", {}, "The stores’ APIs"),
    segments("App Store", OUTAGES, outages.app_store ?? null, outage("app_store")),
    segments("Google Play", OUTAGES, outages.google_play ?? null, outage("google_play")),
    segments("Apple’s certificates, says OCSP", OCSP, ocsp, (answer) => post("/ocsp", { answer })),
    h("label", { class: "check" }, h("input", {
      type: "checkbox", checked: enforced, "data-key": "limits",
      onchange: (event) => attempt(null, error, () => post("/rate-limits", { enforced: event.target.checked })),
    }), h("span", {}, "Refuse calls above the stores’ rate limits")),
    h("h3", {}, "The next one"),
    next("next-delivery", "The next notification", "/sins/deliveries", "source", NEXT_DELIVERY),
    next("next-call", "The next call", "/sins/calls", "store", NEXT_CALL),
    h("div", { class: "section-head" }, h("h3", {}, "By chance"), h("button", {
      type: "button", class: "small", onclick: (event) => attempt(event.currentTarget, error, async () => {
        await post("/sins", {});
        await refresh();
        toast("Nothing goes wrong any more");
      }),
    }, "All off"), h("button", {
      type: "button", class: "small", title: "Sends now what is late, repeated or to be tried again",
      onclick: (event) => attempt(event.currentTarget, error, async () => {
        await post("/notifications/flush");
        toast("Everything has been sent");
      }),
    }, "Send all now")),
    h("p", { class: "dim" }, "Drawn from the seed: the same story meets the same fate again."),
    h("details", { class: "group", open: true, "data-key": "sins-deliveries" }, h("summary", {}, "Notifications on their way"), CHANCES.deliveries.map((one) => chance("deliveries", one))),
    h("details", { class: "group", "data-key": "sins-calls" }, h("summary", {}, "Calls to the stores"), CHANCES.calls.map((one) => chance("calls", one))),
    h("details", { class: "group", "data-key": "sins-clock" }, h("summary", {}, "Clocks that stamp notifications"),
      h("p", { class: "dim" }, "Seconds ahead of the clock; with a minus, behind it."), CLOCKS.map(([name, title]) => number("clock", name, title))));
}
