// Drives the simulator's page in a real browser, as a person would, and looks at what it shows.
//
//   npm ci && SANDBOX_URL=http://127.0.0.1:8090 node check.mjs
//   CHROMIUM     the browser; /usr/bin/chromium if absent
//   SCREENSHOTS  a directory for screenshots; none are taken if absent
//
// The simulator must stand at a stopped clock or be free to be stopped, and sell a monthly
// subscription at the App Store. Its App Store webhook is pointed at a receiver of this script.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import puppeteer from "puppeteer-core";

const base = process.env.SANDBOX_URL;
assert(base, "set SANDBOX_URL to the simulator's address");
const screenshots = process.env.SCREENSHOTS;
const customer = `page-${Date.now()} <b>&amp;`;
const problems = [];

/** Plays the server under test: refuses while `answer` says so. */
let answer = 200;
const receiver = createServer((request, response) => {
  request.resume().on("end", () => response.writeHead(answer).end());
});
await new Promise((ready) => receiver.listen(0, "127.0.0.1", ready));

async function control(path, body) {
  const reply = await fetch(`${base}/control${path}`, body && {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  });
  assert(reply.ok, `${path}: ${reply.status} ${await reply.clone().text()}`);
  return reply.status === 204 ? null : reply.json();
}

const webhooks = await control("/webhooks");
const clock = await control("/clock");
await control("/clock", { mode: "stopped" });
await control("/webhooks", { ...webhooks, app_store: `http://127.0.0.1:${receiver.address().port}/apple` });
const sold = (await control("/products")).app_store.find((one) => one.kind.period === "P1M");
assert(sold, "the simulator sells no monthly subscription at the App Store");

const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  defaultViewport: { width: 1440, height: 900 },
  // Nothing but the simulator's own page is opened; a container's root user has no sandbox.
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
});
const page = await browser.newPage();
page.setDefaultTimeout(60_000);
page.on("console", (message) => {
  if (["error", "warn"].includes(message.type())) problems.push(`console: ${message.text()}`);
});
page.on("pageerror", (error) => problems.push(`page: ${error.message}`));
page.on("request", (request) => {
  if (!request.url().startsWith(base)) problems.push(`foreign request: ${request.url()}`);
});
await page.evaluateOnNewDocument(() => {
  window.violations = [];
  document.addEventListener("securitypolicyviolation", (event) => {
    window.violations.push(`${event.violatedDirective}: ${event.blockedURI}`);
  });
});

async function picture(name) {
  if (!screenshots) return;
  mkdirSync(screenshots, { recursive: true });
  await page.screenshot({ path: join(screenshots, `${name}.png`) });
}

/** Waits until something visible has these words in it. */
async function seen(selector, ...words) {
  try {
    await page.waitForFunction((selector, words) => [...document.querySelectorAll(selector)].some(
      (element) => element.checkVisibility() && words.every((word) => element.innerText.includes(word)),
    ), {}, selector, words);
  } catch {
    const shown = await page.$$eval(selector, (all) => all.map((element) => element.innerText));
    assert.fail(`${selector} never showed ${words.join(", ")}; it shows ${JSON.stringify(shown)}`);
  }
}

/** A page that draws an element anew between a look and a click leaves nothing to be clicked. */
const GONE = /detached|not clickable|not an Element|does not belong|Protocol error/;

/** Clicks what is found, found anew when the page has drawn it anew meanwhile. */
async function clickOn(what, find, ...given) {
  for (let tries = 1; ; tries += 1) {
    const handle = await page.waitForFunction(find, {}, ...given)
      .catch((error) => assert.fail(`no ${what}: ${error.message}`));
    try {
      return await handle.click();
    } catch (error) {
      if (tries === 5 || !GONE.test(error.message)) throw error;
    }
  }
}

/** Presses the button with these words, in the part of the page that is named. */
const press = (within, words) => clickOn(`button “${words}” in ${within}`, (within, words) => [...document.querySelectorAll(`${within} button`)].find(
  (button) => button.checkVisibility() && !button.disabled && button.innerText.trim() === words,
), within, words);

/** Clicks the first visible element that a selector finds. */
const click = (selector) => clickOn(selector, (selector) => [...document.querySelectorAll(selector)].find(
  (element) => element.checkVisibility(),
), selector);

async function step(name, run) {
  const started = Date.now();
  await run();
  console.log(`ok  ${name} (${Date.now() - started} ms)`);
}

try {
  await step("the page opens", async () => {
    const response = await page.goto(base, { waitUntil: "load" });
    assert.match(response.headers()["content-security-policy"], /default-src 'none'/);
    await seen("#now", "UTC");
  });

  await step("a customer is created", async () => {
    await page.type("#new-customer-name", customer);
    await press("#new-customer", "Create");
    await seen("#customer-head h2", customer);
    await seen("#cards", "has bought nothing yet");
    await picture("1-customer");
  });

  await step("the customer buys", async () => {
    await press("#customer-head", "Buy…");
    await click(`#buy input[value="${sold.product_id}/"]`);
    await picture("2-buy");
    await press("#buy", "Buy");
    await seen(".card", sold.product_id, "Active", "Has access", "Renews");
    await seen(".message", "SUBSCRIBED", customer, "delivered", "200");
  });

  await step("a refusal is shown beside what caused it", async () => {
    await press("#customer-head", "Buy…");
    await click(`#buy input[value="${sold.product_id}/"]`);
    await press("#buy", "Buy");
    await seen("#buy .error", "refuses");
    await page.keyboard.press("Escape");
  });

  await step("the card fails and a month passes", async () => {
    await press(".card", "Fail card");
    await seen(".card", "card fails", "Fix card");
    answer = 500;
    await press("#steps", "+1 month");
    await seen(".message", "DID_FAIL_TO_RENEW", customer, "500");
    await seen(".card", "Unpaid");
    await picture("3-failed");
  });

  await step("the notification shows its attempts and its content", async () => {
    await click(".message[data-type='DID_FAIL_TO_RENEW']");
    await seen("#detail .attempts", "500", "UNSUCCESSFUL_HTTP_RESPONSE_CODE");
    await seen("#detail .json", `"notificationType": "DID_FAIL_TO_RENEW"`, `"productId": "${sold.product_id}"`);
    await picture("4-notification");
  });

  await step("it is sent again", async () => {
    answer = 200;
    await press("#detail", "Send again");
    await seen("#detail .attempts", "200", "SUCCESS");
    await seen("#detail .state", "delivered");
    await page.keyboard.press("Escape");
    await seen(".message", "DID_FAIL_TO_RENEW", "delivered", "2 attempts");
  });

  await step("the purchase is refunded", async () => {
    await press(".card", "Refund…");
    await press("#ask", "Refund");
    await seen(".card", "Refunded", "No access");
    await seen(".message", "REFUND", customer, "delivered");
    await picture("5-refunded");
  });

  await step("a store's API goes down and comes back", async () => {
    await press("#tabs", "Network");
    await press("#network [aria-label='Google Play']", "503");
    await page.waitForSelector("#network [data-key='Google Play-down503'][aria-checked='true']");
    assert.deepEqual(await control("/outage"), { google_play: "down503" });
    await press("#network [aria-label='Google Play']", "Works");
    await page.waitForSelector("#network [data-key='Google Play-null'][aria-checked='true']");
    assert.deepEqual(await control("/outage"), {});
  });

  await step("secrets are hidden until asked for", async () => {
    await press("#tabs", "Connect");
    await seen("#connect", "apple_private_key_pem");
    assert(!(await page.$eval("body", (body) => body.innerText)).includes("PRIVATE KEY"));
  });

  await step("a phone shows it without scrolling sideways", async () => {
    await page.setViewport({ width: 360, height: 740, isMobile: true, hasTouch: true });
    for (const view of ["Customers", "Purchases", "Messages", "Network", "Connect"]) {
      await press("#views", view);
      const width = await page.evaluate(() => document.documentElement.scrollWidth);
      assert(width <= 360, `${view} is ${width} wide`);
      await picture(`6-phone-${view}`);
    }
  });

  problems.push(...await page.evaluate(() => window.violations));
  // A refused purchase is an answer with an error status, which browsers note on the console.
  const unexpected = problems.filter((one) => !/status of 409/.test(one));
  assert.deepEqual(unexpected, []);
  console.log("the page does what it shows");
} catch (error) {
  await picture("failed");
  console.error(problems.join("\n"));
  throw error;
} finally {
  await browser.close();
  receiver.close();
  await control("/webhooks", webhooks);
  if (clock.mode !== "stopped") await control("/clock", { mode: clock.mode, ...(clock.mode === "scaled" && { rate: clock.rate }) });
}
