// Prints what the page shows, a line of JSON whenever that changes, until its standard input ends. Whoever kills a server compares the
// times with its own: {"at": milliseconds, "state", "banner", "level", "primary"}.
import { login, open, operator, start, stop } from "./page.js";

await start();
const { page } = await open();
await page.exposeFunction("report", (line: string) => process.stdout.write(`${line}\n`));
await login(page, operator);
await page.evaluate(() => {
  const report = (window as unknown as { report(line: string): void }).report;
  const text = (selector: string) => document.querySelector<HTMLElement>(selector)?.innerText.replace(/\s+/g, " ").trim() ?? null;
  let last = "";
  const look = () => {
    const shown = {
      state: text(".step.now .step-name"),
      banner: text(".banner-text"),
      level: document.querySelector(".banner")?.className.replace("banner ", "") ?? null,
      primary: document.querySelector<HTMLElement>(".server-card.primary")?.dataset.node ?? null,
    };
    const now = JSON.stringify(shown);
    if (now === last) return;
    last = now;
    report(JSON.stringify({ at: Date.now(), ...shown }));
  };
  new MutationObserver(look).observe(document.body, { subtree: true, childList: true, characterData: true, attributes: true });
  look();
});
process.stdin.resume();
await new Promise((ended) => process.stdin.once("end", ended));
await stop();
