import { expect, it } from "vitest";
import type { HerdNode } from "../../api/types";
import { layout, ordered } from "./layout";

const node = (id: number, role: HerdNode["role"], upstream: number | null = null) => ({ id, role, upstream }) as HerdNode;
const herd = [node(3, "standby", 2), node(2, "standby", 1), node(1, "primary")];

it("has the primary first, and the others by number", () => {
  expect(ordered(herd).map((n) => n.id)).toEqual([1, 2, 3]);
});

it.each([320, 358, 720, 899, 900, 960, 1400])("lets nothing lie on anything else at %s px", (width) => {
  const picture = layout(width, herd);
  const boxes = [picture.apps, picture.endpoint, ...picture.servers.values()];
  for (const [i, a] of boxes.entries()) {
    expect(a.x).toBeGreaterThanOrEqual(0);
    expect(a.x + a.w).toBeLessThanOrEqual(width);
    expect(a.y).toBeGreaterThanOrEqual(0);
    expect(a.y + a.h).toBeLessThanOrEqual(picture.height);
    for (const b of boxes.slice(i + 1)) {
      expect(a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y).toBe(true);
    }
  }
});

it("has an arrow to each server, and from whom each standby follows", () => {
  const picture = layout(1000, herd);
  expect(picture.routes.map((r) => r.node)).toEqual([1, 2, 3]);
  expect(picture.replication.map((r) => [r.from, r.node])).toEqual([[1, 2], [2, 3]]);
});

it("draws a herd without a primary, and none", () => {
  expect(layout(1000, [node(2, "standby"), node(3, "unknown")]).replication).toEqual([]);
  expect(layout(1000, []).servers.size).toBe(0);
});
