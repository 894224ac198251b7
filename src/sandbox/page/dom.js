// Elements without markup: data only ever becomes text.

/** An element; `on…` are listeners, `class`, `data-…`, `aria-…` attributes, the rest properties. */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name in element && !name.includes("-") && name !== "list") element[name] = value;
    else element.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
  if (props.class) element.className = props.class;
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Replaces what is in a container; focus and open disclosures stay where they were. */
export function fill(container, ...children) {
  const focused = container.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = [...container.querySelectorAll("details[open][data-key]")].map((element) => element.dataset.key);
  container.replaceChildren(...children.flat(Infinity).filter(Boolean));
  for (const key of open) {
    const details = find(container, key);
    if (details) details.open = true;
  }
  if (focused) find(container, focused)?.focus({ preventScroll: true });
}

function find(container, key) {
  return [...container.querySelectorAll("[data-key]")].find((element) => element.dataset.key === key);
}

let pressed = false;
let drawings = new Set();
function released() {
  pressed = false;
  const waiting = drawings;
  drawings = new Set();
  for (const draw of waiting) draw();
}
document.addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel"]) {
  // The click of a press comes after its end, to what is under it then.
  document.addEventListener(end, () => setTimeout(released), true);
}
// A press that ended outside the window.
document.addEventListener("pointermove", (event) => { if (pressed && !event.buttons) released(); }, true);

/** Draws, but never under a finger: what is drawn anew between press and release is not clicked. */
export function drawUnpressed(draw) {
  if (pressed) drawings.add(draw);
  else draw();
}

/** Shows an error beside what caused it, or takes it away. */
export function say(element, error) {
  element.hidden = !error;
  element.replaceChildren();
  if (!error) return;
  element.append(error.message ?? String(error));
  if (error.next) element.append(h("span", { class: "next" }, error.next));
}

/** A short message that goes away by itself. */
export function toast(text) {
  const message = h("p", { class: "toast" }, text);
  const toasts = byId("toasts");
  toasts.append(message);
  // Shown anew, it lies above a dialog that has been opened since.
  if (toasts.matches(":popover-open")) toasts.hidePopover();
  toasts.showPopover();
  setTimeout(() => {
    message.remove();
    if (!toasts.childElementCount) toasts.hidePopover();
  }, 3500);
}

export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Not a secure context, or not allowed: the old way.
    const area = h("textarea", { value: text, class: "hidden" });
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  toast(`${what} copied`);
}

/** Runs a task with its button disabled; an error is shown in `where`. */
export async function attempt(button, where, task) {
  if (button) {
    if (button.disabled) return;
    button.disabled = true;
    button.setAttribute("aria-busy", "true");
  }
  try {
    const value = await task();
    if (where) say(where, null);
    return value;
  } catch (error) {
    if (where) say(where, error);
    else toast(error.message);
    return undefined;
  } finally {
    if (button) {
      button.disabled = false;
      button.removeAttribute("aria-busy");
    }
  }
}

/** A dialog's head with its title and a button that closes it. */
export function dialogHead(dialog, id, title, ...more) {
  return h("div", { class: "dialog-head" },
    h("h2", { id }, title), ...more,
    h("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: () => dialog.close() }, "✕"));
}
