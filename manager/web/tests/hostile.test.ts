import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { login, open, operator, shown, start, stop } from "./page.js";

// A client that is connected while this runs has it as its application_name, and a statement has it in a comment.
const name = process.env.PGHERD_HOSTILE;

before(start);
after(stop);

for (const path of ["/pools/clients", "/activity"]) {
  test(`a hostile name is shown literally at ${path}`, { skip: name ? false : "PGHERD_HOSTILE is not set" }, async () => {
    assert(name);
    const { page, context, complaints } = await open();
    await login(page, operator, path);
    const all = page.getByText("All", { exact: true });
    if (await all.count()) await all.click();
    const search = page.getByRole("searchbox");
    await search.fill(name.split(/\s/)[0] ?? name);
    const row = page.locator("tbody tr").first();
    await row.waitFor();
    const opener = row.getByRole("button", { name: "Show details" });
    if (await opener.count()) await opener.click();
    const text = await page.locator("tbody").innerText();
    assert(text.includes(shown(name)), `${JSON.stringify(text)} has ${JSON.stringify(shown(name))}`);
    // Markup in a name would have become an element.
    assert.equal(await page.locator("main img, main script, main iframe").count(), 0);
    assert.deepEqual(complaints, []);
    await context.close();
  });
}
