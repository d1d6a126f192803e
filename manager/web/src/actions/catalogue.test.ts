import { expect, it } from "vitest";
import { catalogue, complete, target } from "./catalogue";

const name = (id: number) => `pg0${id}`;
const says = (order: { action: string }) => catalogue[order.action]?.does(target(order, name));

it("names what is done, and to what", () => {
  expect(says({ action: "switchover", node: 2 } as never)).toBe("Switch over to pg02");
  expect(says({ action: "switchover" })).toBe("Switch over to the best standby");
  expect(says({ action: "terminate", node: 1, pid: 42 } as never)).toBe("Terminate process 42 on pg01");
  expect(says({ action: "pause" })).toBe("Pause all databases");
  expect(says({ action: "disable", database: "a\u202Eb" } as never)).toBe("Disable aU+202Eb");
});

it("knows what is missing", () => {
  expect(complete({ action: "backup", node: 1, kind: "base" })).toBe(true);
  expect(complete({ action: "backup", node: 1, kind: "dump" })).toBe(false);
  expect(complete({ action: "backup_restore", node: 1, name: "x" })).toBe(false);
  expect(complete({ action: "set", key: "pool.size", value: "30" })).toBe(true);
  expect(complete({ action: "switchover" })).toBe(true);
});
