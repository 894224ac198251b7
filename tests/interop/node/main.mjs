// The Node libraries over what the Python side received. Usage: main.mjs DIRECTORY_OF_PACKAGES,
// with the documents as JSON on standard input; prints rows as JSON.

import { createRequire } from "node:module";
import { join } from "node:path";

import * as apple from "./apple.mjs";
import { all } from "./report.mjs";
import * as superwall from "./superwall.mjs";

const require = createRequire(join(process.argv[2], "package.json"));
const chunks = [];
for await (const chunk of process.stdin) {
  chunks.push(chunk);
}
const input = JSON.parse(Buffer.concat(chunks).toString());

await apple.check(require("@apple/app-store-server-library"), input);
if (input.superwall.length > 0) {
  await superwall.check(require("svix"), require("standardwebhooks"), input);
}
process.stdout.write(JSON.stringify(all()));
