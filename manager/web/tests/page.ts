// What the browser tests have in common. They want a pgherd that runs: see README.md beside this file.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { type Browser, type BrowserContext, type Page, chromium } from "playwright-core";

export const url = needed("PGHERD_URL").replace(/\/$/, "");
export const operator = { user: needed("PGHERD_USER"), password: needed("PGHERD_PASSWORD") };
export const viewer = process.env.PGHERD_VIEWER ? { user: process.env.PGHERD_VIEWER, password: needed("PGHERD_VIEWER_PASSWORD") } : null;

export type Who = typeof operator;

export interface Opened {
  page: Page;
  context: BrowserContext;
  /** Everything that the browser complained about: errors, and violations of the CSP among them. */
  complaints: string[];
}

let browser: Browser | null = null;

export async function start(): Promise<void> {
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

export async function stop(): Promise<void> {
  await browser?.close();
}

export async function open(options: { width?: number; height?: number; dark?: boolean } = {}): Promise<Opened> {
  assert(browser, "start() comes first");
  const context = await browser.newContext({
    viewport: { width: options.width ?? 1280, height: options.height ?? 800 },
    colorScheme: options.dark ? "dark" : "light",
    ignoreHTTPSErrors: true,
  });
  const page = await context.newPage();
  const complaints: string[] = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) complaints.push(message.text());
  });
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("dialog", (dialog) => {
    complaints.push(`a script has opened a dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  return { page, context, complaints };
}

export async function login(page: Page, who: Who, path = "/"): Promise<void> {
  await page.goto(`${url}${path}`);
  await page.getByLabel("User", { exact: true }).fill(who.user);
  await page.getByLabel("Password", { exact: true }).fill(who.password);
  await page.getByRole("button", { name: "Log in", exact: true }).click();
  await page.locator(".connection", { hasText: "Live" }).waitFor();
}

/** Goes to a view by its link, as one does by hand: the page is not loaded anew. */
export async function view(page: Page, name: string): Promise<void> {
  await page.getByRole("navigation", { name: "Views" }).getByRole("link", { name }).click();
  await page.getByRole("main", { name }).waitFor();
}

export async function api<T>(path: string, who: Who = operator): Promise<T> {
  const response = await fetch(`${url}/api/v1/${path}`, { headers: { Authorization: basic(who) } });
  assert.equal(response.status, 200, `GET ${path}`);
  return (await response.json()) as T;
}

export function basic(who: Who): string {
  return `Basic ${Buffer.from(`${who.user}:${who.password}`).toString("base64")}`;
}

export async function until(what: string, holds: () => Promise<boolean>, seconds = 10): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await holds())) {
    assert(Date.now() < end, `not within ${seconds} s: ${what}`);
    await new Promise((done) => setTimeout(done, 50));
  }
}

/** Nothing but what scrolls in a frame of its own may be wider than the window. */
export async function fits(page: Page): Promise<void> {
  const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
  assert(over <= 0, `the page is ${over} px wider than its window`);
}

/** Keeps a picture where PGHERD_SHOTS says. */
export async function picture(page: Page, name: string): Promise<void> {
  const folder = process.env.PGHERD_SHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: true });
}

/** As the page names what cannot be seen. */
export function shown(text: string): string {
  const names: Record<string, string> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return [...text]
    .map((char) => names[char] ?? (/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Co}]/u.test(char) ? `U+${char.codePointAt(0)?.toString(16).toUpperCase().padStart(4, "0")}` : char))
    .join("");
}

function needed(name: string): string {
  const value = process.env[name];
  assert(value, `${name} is not set`);
  return value;
}
