import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Opened, api, login, open, operator, picture, shown, start, stop, until } from "./page.js";

interface Herd {
  nodes: { id: number; name: string; role: string; up: boolean; detached: boolean }[];
}

interface Order {
  id: number;
  action: string;
  state: string;
  by: string;
}

before(start);
after(stop);

test("an order shows what it would do, is confirmed, and says in the console what it does", async () => {
  const opened = await open();
  const { page } = opened;
  const standby = (await api<Herd>("herd")).nodes.find((n) => n.role === "standby" && n.up);
  assert(standby, "there is a standby");
  await login(page, operator);

  await ask(page, standby.id, "Detach");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("heading", { name: "What it would do" }).waitFor();
  await picture(page, "dialog");
  assert.equal((await node(standby.id)).detached, false, "nothing is done before it is confirmed");
  await page.keyboard.press("Escape");
  await until("Esc closes the dialog", async () => (await dialog.count()) === 0);
  assert.equal((await node(standby.id)).detached, false);

  for (const [item, then] of [["Detach", true], ["Attach", false]] as const) {
    await ask(page, standby.id, item);
    await dialog.getByRole("button", { name: `${item} ${shown(standby.name)}` }).click();
    const console = page.getByRole("region", { name: "Console" });
    await console.getByRole("status").getByText("Done").waitFor();
    await until(`the server says ${item}`, async () => (await node(standby.id)).detached === then);
    await picture(page, "console");
    await console.getByRole("button", { name: "Close the console" }).click();
    await until("the picture shows it", async () => (await page.locator(`.server-card[data-node="${standby.id}"]`).count()) === 1);
  }
  const [order] = await api<Order[]>("orders");
  assert.equal(order?.by, operator.user);
  const events = await api<{ by: string | null }[]>("events");
  assert(events.some((e) => e.by === operator.user), "what was ordered is among the events");
  await done(opened);
});

test("what may lose data wants the server's name", async () => {
  const opened = await open();
  const { page } = opened;
  const standby = (await api<Herd>("herd")).nodes.find((n) => n.role === "standby" && n.up);
  assert(standby, "there is a standby");
  await login(page, operator);
  await ask(page, standby.id, "Clone anew");
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("heading", { name: "What it would do" }).waitFor();
  const confirm = dialog.getByRole("button", { name: `Clone ${shown(standby.name)} anew` });
  assert(await confirm.isDisabled());
  const box = dialog.getByRole("textbox", { name: /^Type / });
  await box.fill(`${standby.name} or so`);
  assert(await confirm.isDisabled());
  await box.fill(standby.name);
  assert(await confirm.isEnabled());
  await dialog.getByRole("button", { name: "Leave it" }).click();
  await done(opened);
});

test("a switchover from the page makes the standby the primary", { skip: process.env.PGHERD_SWITCHOVER ? false : "PGHERD_SWITCHOVER is not set" }, async () => {
  const opened = await open();
  const { page } = opened;
  const standby = (await api<Herd>("herd")).nodes.find((n) => n.role === "standby" && n.up);
  assert(standby, "there is a standby");
  await login(page, operator);
  await ask(page, standby.id, "Switch over to it");
  await page.getByRole("dialog").getByRole("button", { name: `Switch over to ${shown(standby.name)}` }).click();
  await page.getByRole("region", { name: "Console" }).getByRole("status").getByText("Done").waitFor({ timeout: 60_000 });
  await page.locator(`.server-card.primary[data-node="${standby.id}"]`).waitFor();
  assert.equal((await node(standby.id)).role, "primary");
  await done(opened);
});

async function ask(page: Opened["page"], id: number, item: string): Promise<void> {
  await page.locator(`.server-card[data-node="${id}"]`).getByRole("button", { name: /^Actions on/ }).click();
  await page.getByRole("menuitem", { name: `${item}…` }).click();
  await page.getByRole("dialog").waitFor();
}

async function node(id: number): Promise<Herd["nodes"][number]> {
  const found = (await api<Herd>("herd")).nodes.find((n) => n.id === id);
  assert(found);
  return found;
}

async function done({ context, complaints }: Opened): Promise<void> {
  assert.deepEqual(complaints, []);
  await context.close();
}
