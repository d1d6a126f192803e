/**
 * Returns `next`, with every part that says the same as in `prev` being that same object. What is shown compares by
 * identity, so that a message that changes one number of one server has one row drawn anew and not the page.
 */
export function share<T>(prev: T | null | undefined, next: T): T {
  return shared(prev, next) as T;
}

function shared(prev: unknown, next: unknown): unknown {
  if (Object.is(prev, next)) return prev;
  if (typeof prev !== "object" || typeof next !== "object" || prev === null || next === null) return next;
  if (Array.isArray(prev) && Array.isArray(next)) return sharedArray(prev, next);
  if (Array.isArray(prev) || Array.isArray(next)) return next;
  const before = prev as Record<string, unknown>;
  const after = next as Record<string, unknown>;
  const keys = Object.keys(after);
  let same = keys.length === Object.keys(before).length;
  // A key may be hostile, such as __proto__: entries make it a property like any other.
  const result = Object.fromEntries(
    keys.map((key) => {
      const value = Object.hasOwn(before, key) ? shared(before[key], after[key]) : after[key];
      same &&= Object.hasOwn(before, key) && Object.is(value, before[key]);
      return [key, value];
    }),
  );
  return same ? prev : result;
}

function sharedArray(prev: unknown[], next: unknown[]): unknown[] {
  const known = byIdentity(prev);
  let same = prev.length === next.length;
  const result = next.map((value, i) => {
    const key = identity(value);
    const before = key === undefined ? prev[i] : known.get(key);
    const kept = shared(before, value);
    same &&= Object.is(kept, prev[i]);
    return kept;
  });
  return same ? prev : result;
}

/** Rows are found again by what names them, so that one row more at the front does not make all others new. */
function identity(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const row = value as Record<string, unknown>;
  for (const key of ["id", "pid", "at", "key", "name"]) {
    const part = row[key];
    if (typeof part === "string" || typeof part === "number") return `${key} ${part} ${String(row.event ?? row.node ?? "")}`;
  }
  return undefined;
}

function byIdentity(rows: unknown[]): Map<string, unknown> {
  const known = new Map<string, unknown>();
  for (const row of rows) {
    const key = identity(row);
    if (key !== undefined) known.set(key, row);
  }
  return known;
}
