import { describe, expect, it } from "vitest";
import { age, ago, bytes, count, duration, millis, moment, percent, short } from "./format";

describe("figures for people", () => {
  it.each([
    [null, "–"], [0, "0 B"], [999, "999 B"], [1023, "1023 B"], [1024, "1 kB"], [16_777_216, "16 MB"], [1.5 * 1024 ** 3, "1.5 GB"], [1024 ** 2 - 1, "1.0 MB"],
  ])("bytes %s are %s", (value, text) => expect(bytes(value)).toBe(text));

  it.each([
    [0, "0 s"], [0.0004, "0.40 ms"], [0.061, "61 ms"], [0.391, "0.39 s"], [2, "2 s"], [4.56, "4.6 s"], [59.6, "1 min"], [95, "1 min 35 s"], [3599.6, "1 h"], [3661, "1 h 1 min"],
    [86_399, "1 d"], [5 * 86_400 + 3 * 3600, "5 d 3 h"], [-1, "0 s"],
  ])("%s seconds are %s", (value, text) => expect(duration(value)).toBe(text));

  it.each([[0.062, "62 µs"], [0.62, "620 µs"], [3.14, "3.1 ms"], [142, "142 ms"], [1500, "1.5 s"], [null, "–"]])("%s ms are %s", (value, text) => expect(millis(value)).toBe(text));

  it.each([[0, "0"], [0.5, "0.50"], [950, "950"], [1200, "1.2 k"], [999_950, "1.0 M"], [2_400_000, "2.4 M"]])("%s is %s in short", (value, text) => expect(short(value)).toBe(text));

  it("groups thousands and leaves no figure behind the point of a large number", () => {
    expect(count(1234567.8)).toBe("1,234,568");
    expect(count(3.46)).toBe("3.5");
    expect(percent(61)).toBe("61 %");
  });
});

describe("ages", () => {
  const now = Date.parse("2026-12-01T12:00:00.000Z");

  it("are said in words, and never in the future", () => {
    expect(ago("2026-12-01T11:59:48.400Z", now)).toBe("11 s ago");
    expect(ago("2026-12-01T12:00:07.000Z", now)).toBe("just now");
    expect(ago(null, now)).toBe("–");
  });

  it("of what is no time are unknown", () => {
    expect(age("yesterday", now)).toBeNull();
    expect(moment("yesterday", now)).toBe("–");
  });

  it("have the day where it is another, and the year where that is", () => {
    const local = (text: string) => new Date(text).toISOString();
    const today = Date.parse(local("2026-12-01T12:00:00"));
    expect(moment(local("2026-12-01T02:03:04"), today)).toBe("02:03:04");
    expect(moment(local("2026-11-30T02:03:04"), today)).toBe("30 Nov, 02:03:04");
    expect(moment(local("2025-11-30T02:03:04"), today)).toBe("30 Nov 2025, 02:03:04");
  });
});
