// What was verified, counted: rows as in interop/report.py.

const rows = new Map();

export function row(client, what) {
  const key = `${client}\n${what}`;
  if (!rows.has(key)) {
    rows.set(key, new Row(client, what));
  }
  return rows.get(key);
}

export function all() {
  return [...rows.values()];
}

class Row {
  constructor(client, what) {
    this.client = client;
    this.what = what;
    this.passed = 0;
    this.failures = [];
  }

  check(holds, otherwise) {
    if (holds) {
      this.passed += 1;
    } else {
      this.failures.push(String(otherwise).slice(0, 500));
    }
    return holds;
  }

  equal(found, expected, what) {
    const [one, other] = [JSON.stringify(found), JSON.stringify(expected)];
    return this.check(one === other, `${what}: expected ${other}, found ${one}`);
  }

  /// Counts a block that must not throw; gives its value.
  async case(what, block) {
    try {
      const value = await block();
      this.passed += 1;
      return value;
    } catch (error) {
      this.check(false, `${what}: ${describe(error)}`);
      return undefined;
    }
  }

  /// Counts a block that must throw something that `why` accepts.
  async refused(what, block, why = () => true) {
    try {
      await block();
    } catch (error) {
      return this.check(why(error), `${what}: refused for another reason: ${describe(error)}`);
    }
    return this.check(false, `${what}: accepted`);
  }
}

export function describe(error) {
  const cause = error.cause ? ` (${error.cause.message ?? error.cause})` : "";
  return `${error.constructor.name} ${error.message ?? ""} ${error.status ?? error.httpStatusCode ?? ""} ${error.apiError ?? ""}${cause}`;
}
