// The Node libraries' verdicts on the corpus of `entitled inspect corpus`, which comes in on
// standard input: per document null if it is accepted, else why not.

import { createRequire } from "node:module";
import { join } from "node:path";

import { describe } from "./report.mjs";

const require = createRequire(join(process.argv[2], "package.json"));
const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const { apple, superwall } = JSON.parse(Buffer.concat(chunks).toString());

async function verdict(block) {
  try {
    await block();
    return null;
  } catch (error) {
    return `${describe(error)}` || "refused";
  }
}

const library = require("@apple/app-store-server-library");
const verifier = new library.SignedDataVerifier(
  [Buffer.from(apple.root, "base64")],
  false,
  apple.environment,
  apple.bundle_id,
  apple.app_apple_id,
);
const METHODS = { transaction: "verifyAndDecodeTransaction", notification: "verifyAndDecodeNotification" };

const svix = new (require("svix").Webhook)(superwall.secret);
const standard = new (require("standardwebhooks").Webhook)(superwall.secret);
const bodyOf = ({ headers, body }) => {
  if ("content-encoding" in headers) {
    throw new Error("a receiver of Svix webhooks takes bodies as they are signed");
  }
  return Buffer.from(body, "base64");
};
const renamed = (headers) =>
  Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.replace("svix-", "webhook-"), value]));

const verdicts = { apple: [], svix: [], standard: [] };
for (const { kind, document } of apple.cases) {
  verdicts.apple.push(await verdict(() => verifier[METHODS[kind]](document)));
}
for (const delivery of superwall.cases) {
  verdicts.svix.push(await verdict(() => svix.verify(bodyOf(delivery), delivery.headers)));
  verdicts.standard.push(await verdict(() => standard.verify(bodyOf(delivery), renamed(delivery.headers))));
}
process.stdout.write(JSON.stringify(verdicts));
