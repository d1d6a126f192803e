import { chromium } from "playwright-core";
const [url, user, password, out, ...views] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--headless","--no-sandbox","--disable-gpu","--disable-quic","--no-first-run","--disable-background-networking","--disable-component-update","--disable-sync"] });
for (const [scheme, width, height] of [["light",1280,800],["dark",390,844]]) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: scheme });
  const page = await context.newPage();
  page.on("console", m => m.type()==="error" && console.log("console", m.text()));
  page.on("pageerror", e => console.log("error", e.message));
  await page.goto(url);
  await page.getByLabel(/user/i).first().fill(user);
  await page.getByLabel(/password/i).first().fill(password);
  await page.keyboard.press("Enter");
  await page.waitForTimeout(2500);
  for (const view of views) {
    await page.goto(url + "/" + (view==="herd"?"":view));
    await page.waitForTimeout(1800);
    await page.screenshot({ path: `${out}/${view}-${scheme}-${width}.png`, fullPage: false });
  }
  await context.close();
}
await browser.close();
