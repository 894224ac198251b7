// The dialog in which a customer buys.

import { post } from "./api.js";
import { attempt, byId, dialogHead, fill, h, toast } from "./dom.js";
import { period, sentence } from "./format.js";
import { appStoreOffer, micros, offerFields, pathOf, productPrice } from "./actions.js";
import { control, values } from "./forms.js";

const TRIALS = [["", "None"], ...["P3D", "P1W", "P2W", "P1M"].map((text) => [text, period(text)])];
const MODES = [
  ["with_time_proration", "With time proration"], ["charge_prorated_price", "Charge prorated price"],
  ["without_proration", "Without proration"], ["charge_full_price", "Charge full price"], ["deferred", "Deferred"],
];

const renews = (product) => Boolean(product.kind.period);
const consumable = (product) => product.kind.type === "consumable";
const planOf = (product) => product.kind.base_plan_id;
const kindOf = (product) => (product.kind.period
  ? `${productPrice(product)} a ${period(product.kind.period)}`
  : `${productPrice(product)} · ${sentence(product.kind.type).toLowerCase()}`);

function fieldsOf(store, product, customer) {
  const apple = store === "app_store";
  const held = customer.purchases.filter((one) => one.store === store && one.subscription && !["expired", "revoked"].includes(one.state));
  const fields = [];
  if (renews(product)) fields.push({ name: "trial", label: "Free trial", kind: "choice", options: TRIALS, value: "" });
  if (consumable(product)) fields.push({ name: "quantity", label: "Quantity", kind: "number", min: 1, max: 10, value: 1 });
  if (!apple && renews(product) && held.length) {
    fields.push(
      { name: "replaces", label: "Replaces", kind: "choice", value: customer.replaces ?? "", options: [["", "Nothing"], ...held.map((one) => [one.id, `${one.product_id}${one.base_plan_id ? ` · ${one.base_plan_id}` : ""}`])] },
      { name: "replacement_mode", label: "How", kind: "choice", value: "with_time_proration", options: MODES },
    );
  }
  fields.push({
    name: "account", kind: "text", value: customer.account,
    label: apple ? "App account token (a UUID)" : "Obfuscated account id",
    about: "What your app hands to the store to name its account. Empty: the purchase carries none.",
  });
  return fields;
}

function rareFields(store, product) {
  const apple = store === "app_store";
  const fields = [];
  if (renews(product)) fields.push({ name: "with_offer", label: "With an offer", kind: "check" });
  if (apple && renews(product)) {
    fields.push(...offerFields(),
      { name: "billing_plan", label: "Billing plan", kind: "choice", options: [["", "Each period at its start"], ["monthly", "Monthly, twelve of them"]], value: "" },
      { name: "outside_app", label: "In the App Store, outside the app", kind: "check" });
  }
  if (!apple && renews(product)) {
    fields.push(...offerFields().slice(2).map((field) => (field.name === "offer_id" ? { ...field, value: "intro" } : field)),
      { name: "out_of_app", label: "In the Play store, outside the app", kind: "check" });
  }
  if (!apple) {
    fields.push(
      { name: "pending", label: "Paid later, in cash for instance", kind: "check" },
      { name: "obfuscated_profile_id", label: "Obfuscated profile id", kind: "text" });
  }
  return fields;
}

function request(store, product, customer, f) {
  const body = { customer: customer.name, product_id: product.product_id };
  const set = (name, value) => { if (value !== undefined && value !== "" && value !== false) body[name] = value; };
  set("trial", f.trial);
  if (f.quantity > 1) set("quantity", f.quantity);
  if (store === "app_store") {
    set("app_account_token", f.account);
    set("billing_plan", f.billing_plan);
    set("outside_app", f.outside_app);
    if (f.with_offer) body.offer = appStoreOffer(f);
    if (f.outside_app) delete body.app_account_token;
    return body;
  }
  set("base_plan_id", planOf(product));
  set("obfuscated_account_id", f.account);
  set("obfuscated_profile_id", f.obfuscated_profile_id);
  set("replaces", f.replaces);
  if (f.replaces) set("replacement_mode", f.replacement_mode);
  set("pending", f.pending);
  set("out_of_app", f.out_of_app);
  if (f.with_offer) body.offer = { id: f.offer_id, price_micros: micros(f.offer_price ?? 0), period: f.offer_period, periods: f.offer_periods ?? 1 };
  return body;
}

/** `start`: the store to begin with, and the purchase that is to be replaced. */
export function openBuy(products, customer, start, onbought) {
  const dialog = byId("buy");
  const error = h("p", { class: "error", role: "alert", hidden: true });
  let store = start.store ?? "app_store";
  let product = null;
  const form = h("form", { class: "form" });

  const key = (one) => `${one.product_id}/${planOf(one) ?? ""}`;
  function draw() {
    const sold = products[store];
    if (!sold.includes(product)) product = sold.find((one) => renews(one) && key(one) !== `${start.product_id}/${start.base_plan_id ?? ""}`) ?? sold[0];
    const segments = h("div", { class: "segments wide", role: "radiogroup", "aria-label": "Store" }, [["app_store", "App Store"], ["google_play", "Google Play"]].map(([id, title]) => h("button", {
      type: "button", role: "radio", "aria-checked": String(store === id), "data-key": id,
      onclick: () => { store = id; draw(); },
    }, title)));
    if (!product) {
      fill(form, segments, h("p", { class: "empty" }, "This store sells nothing: give the simulator products when it starts."));
      return;
    }
    const list = h("fieldset", { class: "products" }, h("legend", {}, "Product"), sold.map((one) => h("label", { class: "product" },
      h("input", { type: "radio", name: "product", value: key(one), checked: one === product, "data-key": key(one), onchange: () => { product = one; draw(); } }),
      h("span", {}, h("b", {}, one.product_id), planOf(one) && h("span", { class: "dim" }, ` ${planOf(one)}`)),
      h("span", { class: "dim" }, kindOf(one)))));
    const fields = fieldsOf(store, product, { ...customer, replaces: start.id });
    const rare = rareFields(store, product);
    const rareForm = rare.length > 0 && h("details", { class: "group", "data-key": "rare" }, h("summary", {}, "Offers and rarer ways to buy"), rare.map(control));
    const toggle = () => {
      for (const element of form.querySelectorAll('[data-field^="offer_"]')) element.hidden = !form.elements.with_offer?.checked;
      const mode = form.querySelector('[data-field="replacement_mode"]');
      if (mode) mode.hidden = !form.elements.replaces.value;
    };
    form.onsubmit = async (event) => {
      event.preventDefault();
      await attempt(event.submitter, error, async () => {
        const filled = values(form, [...fields, ...rare]);
        const bought = await post(`${pathOf(store)}/buy`, request(store, product, customer, filled));
        dialog.close();
        toast(`${customer.name} bought ${product.product_id}`);
        onbought(bought);
      });
    };
    fill(form, segments, list, fields.map(control), rareForm, error, h("div", { class: "actions end" },
      h("button", { type: "button", onclick: () => dialog.close() }, "Not now"),
      h("button", { type: "submit", class: "primary", "data-key": "buy" }, "Buy")));
    form.onchange = toggle;
    toggle();
  }

  draw();
  fill(dialog, dialogHead(dialog, "buy-title", start.id ? `Another plan for ${customer.name}` : `${customer.name} buys`), form);
  dialog.showModal();
}
