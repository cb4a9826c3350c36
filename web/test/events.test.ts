// A page of another origin listens, publishes and handles, in a real Chromium.

import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { type Browser, openBrowser } from "./support/chromium";
import type { Seen } from "./support/events-page";
import { openSite, type Site } from "./support/site";

const node = inject("nodeURL");
const token = inject("nodeToken");

let browser: Browser;
let site: Site;
let page: Page;

beforeAll(async () => {
  site = await openSite(new URL("support/events-page.ts", import.meta.url).pathname);
  browser = await openBrowser();
  page = await browser.context.newPage();
  await page.goto(site.url);
  await page.waitForFunction(() => typeof window.drawTogether === "function");
});

afterAll(async () => {
  await browser?.close();
  await site?.close();
});

test("a page requests, another handles, a third listens; then all is read again", async () => {
  const id = `drawing-${Date.now()}`;
  const event = (state: string, payload: string): Seen => ({
    id,
    type: `page:draw:v1:${state}`,
    user: "operator",
    token: "",
    payload,
  });
  const wanted = [event("requested", "a line"), event("processing", ""), event("completed", "drew a line")];
  const args = [node, token, id] as const;
  expect(await page.evaluate(([base, secret, name]) => window.drawTogether(base, secret, name), args)).toEqual(wanted);
  expect(await page.evaluate(([base, secret, name]) => window.replay(base, secret, name), args)).toEqual(wanted);
});
