// The control API.

/** A refusal: its message says why, `next` what to do. */
export class Refusal extends Error {
  constructor(problem, status) {
    super(problem?.detail ?? problem?.title ?? `the simulator answered ${status}`);
    this.next = problem?.next;
    this.status = status;
  }
}

async function call(method, path, body) {
  let answer;
  try {
    answer = await fetch(`/control${path}`, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch {
    throw new Refusal({ detail: "the simulator does not answer", next: "Is it still running?" }, 0);
  }
  const text = await answer.text();
  let value = null;
  try {
    value = text ? JSON.parse(text) : null;
  } catch {
    value = null;
  }
  if (!answer.ok) throw new Refusal(value, answer.status);
  return value;
}

export const get = (path) => call("GET", path);
export const post = (path, body = {}) => call("POST", path, body);
export const part = encodeURIComponent;
