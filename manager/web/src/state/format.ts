const nothing = "–";

export function count(value: number | null | undefined): string {
  if (value == null) return nothing;
  return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) < 10 && !Number.isInteger(value) ? 1 : 0 });
}

/** A rate or a count in at most four figures: 950, 1.2 k, 34 k, 1.2 M. */
export function short(value: number | null | undefined): string {
  if (value == null) return nothing;
  for (const [unit, size] of [["G", 1e9], ["M", 1e6], ["k", 1e3]] as const) {
    if (Math.abs(value) >= size * 0.9995) return `${figures(value / size)} ${unit}`;
  }
  return figures(value);
}

/** PostgreSQL's units: kB is 1024 bytes. */
export function bytes(value: number | null | undefined): string {
  if (value == null) return nothing;
  let size = Math.abs(value);
  let unit = 0;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  while (size >= 1023.5 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${value < 0 ? "-" : ""}${unit === 0 ? Math.round(size) : figures(size)} ${units[unit]}`;
}

export function millis(value: number | null | undefined): string {
  if (value == null) return nothing;
  if (value > 0 && value < 1) return `${figures(value * 1000)} µs`;
  if (value < 999.5) return `${figures(value)} ms`;
  return duration(value / 1000);
}

/** Two units at most: 0.34 s, 12 s, 3 min 5 s, 2 h 10 min, 5 d 3 h. */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null) return nothing;
  const s = Math.max(0, seconds);
  if (s === 0) return "0 s";
  if (s < 0.0995) return `${figures(s * 1000)} ms`;
  if (s < 60 && Number.isInteger(s)) return `${s} s`;
  if (s < 9.95) return `${s.toFixed(s < 0.995 ? 2 : 1)} s`;
  if (s < 59.5) return `${Math.round(s)} s`;
  if (s < 3599.5) return pair(Math.round(s), 60, "min", "s");
  if (s < 86_370) return pair(Math.round(s / 60), 60, "h", "min");
  return pair(Math.round(s / 3600), 24, "d", "h");
}

export function ago(at: string | null | undefined, now: number): string {
  const seconds = age(at, now);
  if (seconds === null) return nothing;
  if (seconds < 1) return "just now";
  return `${duration(Math.floor(seconds))} ago`;
}

export function age(at: string | null | undefined, now: number): number | null {
  const then = at ? Date.parse(at) : Number.NaN;
  return Number.isNaN(then) ? null : Math.max(0, (now - then) / 1000);
}

export function clock(at: string | null | undefined): string {
  const time = at ? new Date(at) : null;
  if (!time || Number.isNaN(time.getTime())) return nothing;
  return time.toLocaleTimeString("en-GB", { hour12: false });
}

/** Time of the day for today, else with the day before it, and with the year where that is another. */
export function moment(at: string | null | undefined, now: number): string {
  const time = at ? new Date(at) : null;
  if (!time || Number.isNaN(time.getTime())) return nothing;
  const today = new Date(now);
  if (today.toDateString() === time.toDateString()) return clock(at);
  const month = time.toLocaleDateString("en", { month: "short" });
  const year = today.getFullYear() === time.getFullYear() ? "" : ` ${time.getFullYear()}`;
  return `${time.getDate()} ${month}${year}, ${clock(at)}`;
}

export function percent(value: number | null | undefined): string {
  return value == null ? nothing : `${figures(value)} %`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

function figures(value: number): string {
  const size = Math.abs(value);
  const digits = size >= 99.95 || Number.isInteger(value) ? 0 : size >= 9.995 ? 1 : size >= 0.9995 ? 1 : 2;
  return value.toFixed(digits);
}

function pair(value: number, base: number, large: string, small: string): string {
  const rest = value % base;
  return `${Math.floor(value / base)} ${large}${rest ? ` ${rest} ${small}` : ""}`;
}
