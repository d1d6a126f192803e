import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, login, open, operator, picture, start, stop } from "./page.js";

interface Failover {
  kind: string;
  outcome: string;
  steps: { state: string; seconds: number; what: string }[];
}

before(start);
after(stop);

test("each failover has a time line with all of its steps", { skip: process.env.PGHERD_FAILOVER ? false : "PGHERD_FAILOVER is not set" }, async () => {
  const failovers = await api<Failover[]>("failovers");
  const at = failovers.findIndex((it) => it.kind === "failover" && it.outcome === "done");
  const failover = failovers[at];
  assert(failover, "a primary was replaced before this is run");
  for (const state of ["Suspect", "Confirm", "Freeze", "Elect", "Promote", "Verify"]) {
    assert(failover.steps.some((step) => step.state === state), `${state} is among ${JSON.stringify(failover.steps)}`);
  }
  const { page, context, complaints } = await open();
  await login(page, operator, "/events");
  const shown = page.locator(".failover").nth(at);
  await shown.waitFor();
  if ((await shown.getAttribute("open")) === null) await shown.locator("summary").click();
  const steps = shown.locator(".step-list li");
  assert.equal(await steps.count(), failover.steps.length);
  for (const [i, step] of failover.steps.entries()) {
    assert.equal(await steps.nth(i).locator("b").innerText(), step.state);
    assert.equal(await steps.nth(i).locator(".step-seconds").getAttribute("title"), `${step.seconds} s`);
  }
  assert.equal(await shown.locator(".segment").count(), failover.steps.length);
  await picture(page, "events-failover");
  assert.deepEqual(complaints, []);
  await context.close();
});

test("the list of events is that of the API, and can be filtered", async () => {
  const events = await api<{ event: string; successful: boolean }[]>("events");
  const { page, context, complaints } = await open();
  await login(page, operator, "/events");
  for (const event of new Set(events.slice(0, 20).map((it) => it.event))) {
    await page.getByRole("table", { name: "Events" }).getByText(event, { exact: true }).first().waitFor();
  }
  await page.getByRole("searchbox", { name: "Search events" }).fill("there is no such event");
  await page.getByText(events.length ? "No event matches." : "Nothing has happened yet.").waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});
