import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { login, open, operator, start, stop, until, url, viewer } from "./page.js";

before(start);
after(stop);

test("nothing is shown without a login, and a wrong password says so", async () => {
  const { page, context } = await open();
  await page.goto(`${url}/nodes`);
  await page.getByRole("heading", { name: "Log in to pgherd" }).waitFor();
  await page.getByLabel("User", { exact: true }).fill(operator.user);
  await page.getByLabel("Password", { exact: true }).fill("wrong, and known to be");
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.getByRole("alert").waitFor();
  assert.equal(await page.getByRole("navigation", { name: "Views" }).count(), 0);
  await context.close();
});

test("who logs in is named, and who logs out sees nothing any more", async () => {
  const { page, context, complaints } = await open();
  await login(page, operator);
  await page.locator(".who").getByText(operator.user, { exact: true }).waitFor();
  await page.getByRole("button", { name: "Log out" }).click();
  await page.getByRole("heading", { name: "Log in to pgherd" }).waitFor();
  await page.reload();
  await page.getByRole("heading", { name: "Log in to pgherd" }).waitFor();
  assert.deepEqual(complaints, []);
  await context.close();
});

test("a session that has ended elsewhere leads to the login", async () => {
  const { page, context } = await open();
  await login(page, operator);
  await context.clearCookies();
  // The view itself may never be seen: what it asks for is refused.
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name: "Settings" }).click();
  await page.getByRole("heading", { name: "Log in to pgherd" }).waitFor();
  await context.close();
});

test("a viewer sees all and can do nothing", { skip: viewer ? false : "PGHERD_VIEWER is not set" }, async () => {
  assert(viewer);
  const { page, context } = await open();
  await login(page, viewer);
  await page.locator(".server-card").first().getByRole("button", { name: /^Actions on/ }).click();
  const items = page.getByRole("menuitem");
  await items.first().waitFor();
  for (const item of await items.all()) {
    assert.equal(await item.getAttribute("aria-disabled"), "true");
    assert.notEqual(await item.getAttribute("title"), null);
  }
  await items.first().click({ force: true });
  assert.equal(await page.getByRole("dialog").count(), 0);
  await page.keyboard.press("Escape");
  // The page is not what keeps a viewer from it.
  const status = await page.evaluate(async () => {
    const session = (await (await fetch("/api/v1/session")).json()) as { csrf: string };
    const order = { action: "pause_failover", dry_run: false };
    const answer = await fetch("/api/v1/orders", { method: "POST", headers: { "Content-Type": "application/json", "X-CSRF-Token": session.csrf }, body: JSON.stringify(order) });
    return answer.status;
  });
  assert.equal(status, 403);
  await context.close();
});

test("an order without the session's token is refused", async () => {
  const { page, context } = await open();
  await login(page, operator);
  const status = await page.evaluate(async () => {
    const answer = await fetch("/api/v1/orders", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ action: "pause_failover", dry_run: false }) });
    return answer.status;
  });
  assert.equal(status, 403);
  await context.close();
});

test("a connection that is lost is said to be, and comes back", async () => {
  const { page, context } = await open();
  const lines: { close(options?: { code?: number }): Promise<void> }[] = [];
  let cut = false;
  await page.routeWebSocket(/\/api\/v1\/live$/, (line) => {
    if (cut) void line.close();
    else {
      line.connectToServer();
      lines.push(line);
    }
  });
  await login(page, operator);
  cut = true;
  await lines.at(-1)?.close();
  await page.getByText("The connection to pgherd is lost.").waitFor();
  assert(await page.locator("main.stale").count());
  cut = false;
  await page.getByRole("button", { name: "Try now" }).click();
  await until("it is live again", async () => (await page.locator("main.stale").count()) === 0);
  await context.close();
});
