import { expect, it } from "vitest";
import { pieces, visible } from "./visible";

it("leaves what can be seen as it is", () => {
  for (const text of ["pg01", `"><img src=x onerror=alert(1)>`, "'; DROP TABLE t;--", "größe", "日本", "a b", "🐘"]) {
    expect(visible(text)).toBe(text);
    expect(pieces(text)).toHaveLength(1);
  }
});

it("names line breaks, controls and what turns the text around", () => {
  expect(visible("a\nb")).toBe("a\\nb");
  expect(visible("a\u0007\u0000")).toBe("aU+0007U+0000");
  expect(visible("\u202Etxt.exe")).toBe("U+202Etxt.exe");
  expect(visible("\u2066x\u2069\u200B\uFEFF")).toBe("U+2066xU+2069U+200BU+FEFF");
  expect(visible("\uD800")).toBe("U+D800");
  expect(pieces("a\nb").map((p) => p.hidden)).toEqual([false, true, false]);
});

it("leaves the layout of a statement, and nothing else that is hidden", () => {
  expect(pieces("SELECT 1\n\tFROM t", true)).toEqual([{ text: "SELECT 1\n\tFROM t", hidden: false }]);
  expect(pieces("a\nb\u202Ec\r", true).map((p) => p.text)).toEqual(["a\nb", "U+202E", "c", "\\r"]);
});
