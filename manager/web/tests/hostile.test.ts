import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { api, login, open, operator, shown, start, stop } from "./page.js";

// A client that is connected while this runs has it as its application_name.
const name = process.env.PGHERD_HOSTILE;

interface Named {
  application_name: string | null;
}

before(start);
after(stop);

// PostgreSQL itself cuts such names and leaves out what is not ASCII: what is expected is what the API says.
const places: { path: string; says(): Promise<Named[]> }[] = [
  { path: "/pools/clients", says: () => api<Named[]>("show/clients") },
  {
    path: "/activity",
    says: async () => (await api<{ nodes: { sessions: Named[] }[] }>("activity")).nodes.flatMap((node) => node.sessions),
  },
];

for (const { path, says } of places) {
  test(`a hostile name is shown literally at ${path}`, { skip: name ? false : "PGHERD_HOSTILE is not set" }, async () => {
    assert(name);
    const start = name.split(/\s/)[0] ?? name;
    const said = (await says()).map((row) => row.application_name).find((it) => it?.startsWith(start));
    assert(said, "a client has that name there");
    const { page, context, complaints } = await open();
    await login(page, operator, path);
    if (path === "/activity") await page.getByText("All", { exact: true }).click();
    await page.getByRole("searchbox").fill(start);
    await page.locator("tbody tr").first().waitFor();
    const text = await page.locator("tbody").innerText();
    assert(text.includes(shown(said)), `${JSON.stringify(text)} has ${JSON.stringify(shown(said))}`);
    // Markup in a name would have become an element.
    assert.equal(await page.locator("main img, main script, main iframe").count(), 0);
    assert.deepEqual(complaints, []);
    await context.close();
  });
}
