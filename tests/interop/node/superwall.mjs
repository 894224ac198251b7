// Svix and Standard Webhooks for Node over Superwall's deliveries.

import { row } from "./report.mjs";

const SVIX = "svix, Node";
const STANDARD = "standardwebhooks, Node";

export async function check(svix, standardwebhooks, { manifest, superwall }) {
  const webhook = new svix.Webhook(manifest.superwall.secret);
  const standard = new standardwebhooks.Webhook(manifest.superwall.secret);
  const stranger = new svix.Webhook(`whsec_${Buffer.from("stranger-stranger-stranger").toString("base64")}`);
  for (const { headers, body } of superwall) {
    await row(SVIX, "deliveries verified").case("delivery", () => webhook.verify(body, headers));
    await row(STANDARD, "deliveries verified").case("delivery", () => standard.verify(body, renamed(headers)));
  }
  for (const { headers, body } of superwall.slice(0, 10)) {
    const forged = {
      "changed body": [`${body} `, headers],
      "another id": [body, { ...headers, "svix-id": "msg_stranger" }],
      "another time": [body, { ...headers, "svix-timestamp": String(Number(headers["svix-timestamp"]) + 1) }],
    };
    for (const [what, [text, heads]] of Object.entries(forged)) {
      await row(SVIX, "tampered and foreign ones refused").refused(what, () => webhook.verify(text, heads));
      await row(STANDARD, "tampered and foreign ones refused").refused(what, () => standard.verify(text, renamed(heads)));
    }
    await row(SVIX, "tampered and foreign ones refused").refused("another secret", () => stranger.verify(body, headers));
  }
}

function renamed(headers) {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.replace("svix-", "webhook-"), value]));
}
