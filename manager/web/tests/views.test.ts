import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Opened, api, fits, login, open, operator, picture, shown, start, stop, until, url, view } from "./page.js";

interface Node {
  id: number;
  name: string;
  role: string;
}

const views = ["Herd", "Replication", "Pools and clients", "Statements", "Activity", "Events", "Nodes", "Backups", "Swarm", "Settings"];
const windows = [
  { name: "wide-light", width: 1280, height: 800, dark: false },
  { name: "wide-dark", width: 1280, height: 800, dark: true },
  { name: "phone-light", width: 390, height: 844, dark: false },
  { name: "phone-dark", width: 390, height: 844, dark: true },
];

before(start);
after(stop);

for (const window of windows) {
  test(`every view opens without a complaint of the browser, ${window.name}`, async () => {
    const { page, context, complaints } = await open(window);
    await login(page, operator);
    for (const name of views) {
      // On a phone the views are behind a button.
      if (window.width < 900) await page.getByRole("button", { name: "Views" }).click();
      await view(page, name);
      await settled(page);
      await fits(page);
      await picture(page, `${name.toLowerCase().replaceAll(" ", "-")}-${window.name}`);
    }
    assert.deepEqual(complaints, []);
    await context.close();
  });
}

test("the herd shows each server with the role that the API says", async () => {
  const opened = await open();
  const { page } = opened;
  await login(page, operator);
  const { nodes } = await api<{ nodes: Node[] }>("herd");
  for (const node of nodes) {
    const card = page.locator(`.server-card[data-node="${node.id}"]`);
    await until(`${node.name} is a ${node.role}`, async () => (await card.innerText()).includes(node.role));
    assert.equal(await card.locator("h3").innerText(), shown(node.name));
  }
  await done(opened);
});

test("the replication view shows each sender and each of repmgr's nodes", async () => {
  const opened = await open();
  const { page } = opened;
  await login(page, operator, "/replication");
  const said = await api<{ nodes: { senders: { application_name: string }[] }[] }>("replication");
  const senders = page.getByRole("table", { name: "Senders" });
  for (const sender of said.nodes.flatMap((n) => n.senders)) await senders.getByText(shown(sender.application_name), { exact: true }).first().waitFor();
  const repmgr = await api<{ nodes: { node_name: string }[] }>("repmgr");
  const nodes = page.getByRole("table", { name: "repmgr's nodes" });
  for (const node of repmgr.nodes) await nodes.getByText(shown(node.node_name), { exact: true }).first().waitFor();
  await done(opened);
});

test("the settings are those of the API, and can be searched", async () => {
  const opened = await open();
  const { page } = opened;
  await login(page, operator, "/settings");
  const settings = await api<{ key: string }[]>("settings");
  const search = page.getByRole("searchbox", { name: "Search settings" });
  for (const { key } of settings.slice(0, 8)) {
    await search.fill(key);
    await page.getByRole("cell", { name: key, exact: true }).waitFor();
  }
  await search.fill("there is no such setting");
  await page.getByText("No setting matches.").waitFor();
  await done(opened);
});

test("a path that is nobody's opens the herd, and one of a view that view", async () => {
  const opened = await open();
  const { page } = opened;
  await login(page, operator, "/pools/clients");
  await page.getByRole("table", { name: "Clients" }).or(page.getByText("No client is connected.")).waitFor();
  await page.goto(`${url}/nothing/here`);
  await page.getByRole("main", { name: "Herd" }).waitFor();
  await done(opened);
});

test("the theme that was chosen is kept", async () => {
  const opened = await open();
  const { page } = opened;
  await login(page, operator);
  await page.getByRole("button", { name: "Use the dark theme" }).click();
  await page.reload();
  await until("it is dark", () => page.evaluate(() => document.documentElement.dataset.theme === "dark"));
  await done(opened);
});

async function settled(page: Opened["page"]): Promise<void> {
  await until("nothing is being loaded", async () => (await page.locator("main .skeleton").count()) === 0, 15);
}

async function done({ context, complaints }: Opened): Promise<void> {
  assert.deepEqual(complaints, []);
  await context.close();
}
