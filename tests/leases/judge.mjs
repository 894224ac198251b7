// Reads what is to be judged, one JSON a line, and prints what the example of docs/leases.md says.
import { createInterface } from "node:readline";

import { entitlements } from "./lease.mjs";

for await (const line of createInterface({ input: process.stdin })) {
  const { lease, ...how } = JSON.parse(line);
  let said;
  try {
    const on = entitlements(lease, how);
    said = { on, kept: how.kept };
  } catch (refused) {
    said = { refused: refused.message };
  }
  process.stdout.write(JSON.stringify(said) + "\n");
}
