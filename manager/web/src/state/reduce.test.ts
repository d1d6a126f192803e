import { describe, expect, it } from "vitest";
import type { Herd, Order, Point } from "../api/types";
import { nothingKnown, reduce, withHistory, withOrder } from "./reduce";
import { share } from "./share";

const point = (at: string): Point => ({ at, transactions: 1, queries: 1, received: 0, sent: 0, p50_ms: null, p95_ms: null, p99_ms: null, wait_p99_ms: null, clients: 0, waiting: 0, active: 0, idle: 0, lag_bytes: {}, lag_seconds: {} });
const order = (id: number, state: Order["state"], lines: number): Order => ({ id, action: "switchover", node: 2, by: "alice", at: "2026-12-01T12:00:00.000Z", state, result: state === "running" ? null : "done", lines: Array.from({ length: lines }, (_, i) => ({ at: "2026-12-01T12:00:00.000Z", text: `line ${i}` })) });
const herd = (lag: number): Herd => ({ at: "x", nodes: [{ id: 1, name: "pg01", lag_bytes: null }, { id: 2, name: "pg02", lag_bytes: lag }], machine: { state: "Steady", guards: [] } }) as unknown as Herd;

describe("what stays the same", () => {
  it("stays the same object, down to the rows", () => {
    const first = reduce(nothingKnown, { herd: herd(1) }, 1);
    const second = reduce(first, { herd: herd(2) }, 2);
    expect(second.herd).not.toBe(first.herd);
    expect(second.herd?.nodes[0]).toBe(first.herd?.nodes[0]);
    expect(second.herd?.nodes[1]).not.toBe(first.herd?.nodes[1]);
    expect(second.herd?.machine).toBe(first.herd?.machine);
    expect(reduce(second, { herd: herd(2) }, 3).herd).toBe(second.herd);
  });

  it("is found again behind a new row at the front", () => {
    const old = [{ at: "2", event: "b", node: 1 }, { at: "1", event: "a", node: 1 }];
    const next = share(old, [{ at: "3", event: "c", node: 1 }, ...structuredClone(old)]);
    expect(next[1]).toBe(old[0]);
    expect(next[2]).toBe(old[1]);
  });

  it("is not taken from a row that has gone", () => {
    expect(share([{ id: 1 }, { id: 2 }], [{ id: 2 }])).toEqual([{ id: 2 }]);
    expect(share({ a: 1, b: 2 }, { a: 1 } as object)).toEqual({ a: 1 });
  });

  it("takes hostile keys for keys", () => {
    const next = share({}, JSON.parse(`{"__proto__": {"polluted": true}}`) as object);
    expect(Object.hasOwn(next, "__proto__")).toBe(true);
    expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
  });
});

describe("points", () => {
  it("older than an hour go, and none comes twice", () => {
    let known = reduce(nothingKnown, { point: point("2026-12-01T11:00:00.000Z") }, 1);
    known = reduce(known, { point: point("2026-12-01T11:30:00.000Z") }, 2);
    known = reduce(known, { point: point("2026-12-01T11:30:00.000Z") }, 3);
    known = reduce(known, { point: point("2026-12-01T12:00:05.000Z") }, 4);
    expect(known.points.map((p) => p.at)).toEqual(["2026-12-01T11:30:00.000Z", "2026-12-01T12:00:05.000Z"]);
  });

  it("that were pushed while the history was fetched stand behind it", () => {
    const pushed = [point("2026-12-01T11:59:55.000Z"), point("2026-12-01T12:00:00.000Z")];
    const history = [point("2026-12-01T11:59:50.000Z"), point("2026-12-01T11:59:55.000Z")];
    expect(withHistory(pushed, history).map((p) => p.at.slice(14, 19))).toEqual(["59:50", "59:55", "00:00"]);
  });
});

describe("orders", () => {
  it("stand with the newest first", () => {
    expect([order(1, "done", 1), order(3, "running", 0), order(2, "failed", 0)].reduce(withOrder, []).map((o) => o.id)).toEqual([3, 2, 1]);
  });

  it("do not lose lines or their outcome to an answer that was overtaken", () => {
    const done = withOrder([], order(1, "done", 3));
    expect(withOrder(done, order(1, "running", 2))).toBe(done);
    const running = withOrder([], order(1, "running", 2));
    expect(withOrder(running, order(1, "running", 1))).toBe(running);
    expect(withOrder(running, order(1, "running", 3))[0]?.lines).toHaveLength(3);
  });
});
