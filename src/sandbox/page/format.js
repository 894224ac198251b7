// How times, prices and names are written.

const clockFormat = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", weekday: "short", day: "numeric", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit",
});
const dayFormat = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short", year: "numeric" });
const momentFormat = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

const longMomentFormat = new Intl.DateTimeFormat("en-GB", {
  timeZone: "UTC", day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
});

const valid = (at) => Math.abs(+new Date(at)) < 8e15;
export const clockTime = (at) => (valid(at) ? clockFormat.format(new Date(at)) : "the end of time");
export const day = (at) => (valid(at) ? dayFormat.format(new Date(at)) : "never");
/** With the year only where it is not that of `now`. */
export function moment(at, now = at) {
  if (!valid(at)) return "never";
  const other = new Date(at).getUTCFullYear() !== new Date(now).getUTCFullYear();
  return (other ? longMomentFormat : momentFormat).format(new Date(at));
}

const UNITS = [
  ["year", 365.25 * 86400], ["month", 30.44 * 86400], ["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1],
];

/** "in 3 days", "2 hours ago". */
export function relative(at, now) {
  const seconds = (new Date(at) - new Date(now)) / 1000;
  const size = Math.abs(seconds);
  if (size < 1) return "now";
  // Two months read better in days than as "1 month".
  const [unit, length] = UNITS.find(([name, length]) => size >= length * (name === "month" ? 3 : name === "year" ? 1.5 : 1)) ?? UNITS.at(-1);
  const count = Math.round(size / length);
  const text = `${count} ${unit}${count === 1 ? "" : "s"}`;
  return seconds > 0 ? `in ${text}` : `${text} ago`;
}

export const words = (text) => text.replaceAll("_", " ");
export const sentence = (text) => {
  const plain = words(String(text));
  return plain.charAt(0).toUpperCase() + plain.slice(1);
};

const PERIOD_UNITS = { D: "day", W: "week", M: "month", Y: "year" };

/** "P1M" → "month", "P3M" → "3 months". */
export function period(text) {
  const [, count, unit] = /^P(\d+)([DWMY])$/.exec(text ?? "") ?? [];
  if (!unit) return text ?? "";
  return count === "1" ? PERIOD_UNITS[unit] : `${count} ${PERIOD_UNITS[unit]}s`;
}

/** A price kept as an integer of so many parts of the major unit. */
export function price(amount, parts, currency) {
  try {
    return new Intl.NumberFormat("en-US", { style: "currency", currency }).format(amount / parts);
  } catch {
    return `${amount / parts} ${currency}`;
  }
}

export const short = (id, length = 18) => (id.length > length + 3 ? `${id.slice(0, length)}…` : id);

export const SOURCES = {
  app_store: "App Store",
  google_play: "Google Play",
  superwall: "Superwall",
};
export const sourceName = (source) => SOURCES[source] ?? sentence(source);
