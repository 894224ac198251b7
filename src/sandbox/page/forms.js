// Small forms from lists of fields: the questions that an action has.

import { attempt, byId, dialogHead, fill, h } from "./dom.js";

/** A labelled control. Kinds: text, number, check, choice (`options`: [value, title]). */
export function control(field) {
  const id = `field-${field.name}`;
  const common = { id, name: field.name, required: field.required };
  if (field.kind === "check") {
    return h("label", { class: "check", "data-field": field.name }, h("input", { ...common, type: "checkbox", checked: field.value, onchange: field.onchange }), h("span", {}, field.label));
  }
  const input = field.kind === "choice"
    ? h("select", { ...common, onchange: field.onchange }, field.options.map(([value, title]) => h("option", { value, selected: value === field.value }, title)))
    : h("input", {
      ...common, type: field.kind === "number" ? "number" : "text", value: field.value ?? "", spellcheck: false,
      placeholder: field.hint ?? "", min: field.min, max: field.max, step: field.step ?? (field.kind === "number" ? 1 : undefined),
      oninput: field.onchange,
    });
  return h("div", { class: "row", "data-field": field.name }, h("label", { for: id }, field.label), input, field.about && h("p", { class: "dim" }, field.about));
}

/** What was filled in; empty texts are left out. */
export function values(form, fields) {
  const filled = {};
  for (const field of fields) {
    const input = form.elements[field.name];
    if (!input || input.closest("[hidden]")) continue;
    if (field.kind === "check") filled[field.name] = input.checked;
    else if (field.kind === "number") {
      if (input.value !== "") filled[field.name] = Number(input.value);
    } else if (input.value.trim() !== "") filled[field.name] = input.value.trim();
  }
  return filled;
}

/** Asks, and does; stays open with the reason when that is refused. */
export function ask({ title, about, fields, verb, run }) {
  const dialog = byId("ask");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  const form = h("form", { class: "form", onsubmit: async (event) => {
    event.preventDefault();
    const done = await attempt(event.submitter, error, async () => {
      await run(values(form, fields));
      return true;
    });
    if (done) dialog.close();
  } },
  about && h("p", { class: "dim" }, about),
  fields.map(control),
  error,
  h("div", { class: "actions end" },
    h("button", { type: "button", onclick: () => dialog.close() }, "Not now"),
    h("button", { type: "submit", class: "primary" }, verb)));
  fill(dialog, dialogHead(dialog, "ask-title", title), form);
  dialog.showModal();
}
