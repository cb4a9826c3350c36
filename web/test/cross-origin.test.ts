// A page of one origin uses a node of another, in a real Chromium.

import type { Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, inject, test } from "vitest";
import { type Browser, openBrowser } from "./support/chromium";
import { pieceSize, post, sample, sha256 } from "./support/object";
import type { Protocol } from "./support/page";
import { openSite, type Site } from "./support/site";

const node = inject("nodeURL");
const token = inject("nodeToken");
const content = sample(2 * pieceSize + 12_345, 1);
const unknownHash = `${"0".repeat(63)}1`;

let browser: Browser;
let site: Site;
let page: Page;
let object: string;
const requests: string[] = [];

beforeAll(async () => {
  object = (await post(node, token, content, "text/plain")).hash;
  site = await openSite(new URL("support/page.ts", import.meta.url).pathname);
  browser = await openBrowser();
  page = await browser.context.newPage();
  page.on("request", (request) => requests.push(`${request.method()} ${new URL(request.url()).pathname}`));
  await page.goto(site.url);
  await page.waitForFunction(() => typeof window.callAll === "function");
});

afterAll(async () => {
  await browser?.close();
  await site?.close();
});

const protocols: Protocol[] = ["connect", "connect json get", "grpc-web"];

test.each(protocols)("services by %s", async (protocol) => {
  requests.length = 0;
  const saw = await page.evaluate(([base, secret, how, hash]) => window.callAll(base, secret, how, hash), [
    node,
    token,
    protocol,
    object,
  ] as const);
  expect(saw).toEqual({
    formats: ["br1"],
    hasHashes: 10_000,
    states: ["HERE", "MISSING"],
    mediaType: "text/plain",
    pieces: [expect.stringMatching(/^[0-9a-f]{64}$/), expect.any(String), expect.any(String)],
    sizes: [pieceSize, pieceSize, 12_345],
    listed: true,
    unknown: { code: "NotFound", reason: "NOT_FOUND", hash: unknownHash, fields: [] },
    malformed: { code: "InvalidArgument", reason: "BAD_REQUEST", hash: "", fields: ["hashes[1]"] },
    anonymous: { code: "Unauthenticated", reason: "UNAUTHENTICATED", hash: "", fields: [] },
    missing: [0],
  });
  const reads = protocol === "connect json get" ? "GET" : "POST";
  expect(requests).toContain(`${reads} /inos.cas.v1.CasService/Stat`);
  expect(requests).toContain("POST /inos.cas.v1.CasService/Has");
});

describe("plain answers", () => {
  const get = (path: string, headers: Record<string, string> = {}) =>
    page.evaluate(([url, fields]) => window.get(url, fields), [node + path, headers] as const);

  test("an object, decoded by the browser", async () => {
    const answer = await get(`/object/${object}`);
    expect(answer).toMatchObject({ status: 200, length: content.length, sha256: sha256(content) });
    expect(answer.headers).toMatchObject({
      "content-type": "text/plain",
      etag: `"${object}"`,
      "accept-ranges": "bytes",
      "cache-status": expect.stringContaining("inos"),
      "unencoded-digest": `sha-256=:${Buffer.from(sha256(content), "hex").toString("base64")}:`,
    });
  });

  test("a range of an object", async () => {
    const other = sample(2 * pieceSize, 2);
    const { hash } = await post(node, token, other, "text/plain");
    const answer = await get(`/object/${hash}`, { Range: "bytes=1000000-1100000" });
    expect(answer).toMatchObject({ status: 206, sha256: sha256(other.subarray(1_000_000, 1_100_001)) });
    expect(answer.headers["content-range"]).toBe(`bytes 1000000-1100000/${other.length}`);
    expect(answer.headers.etag).toBe(`"${hash}-raw"`);
  });

  // Chromium holds the whole as br, and counts ranges of the identity in br's bytes.
  test.each(["bytes=1000000-1100000", "bytes=-500"])("%s of what the browser's cache holds as br", async (range) => {
    const other = sample(2 * pieceSize, 3);
    const { hash } = await post(node, token, other, "text/plain");
    await get(`/object/${hash}`);
    const answer = await get(`/object/${hash}`, { Range: range });
    const wanted = range === "bytes=-500" ? other.subarray(-500) : other.subarray(1_000_000, 1_100_001);
    expect([sha256(wanted), sha256(other)]).toContain(answer.sha256);
    expect(answer.status).toBe(answer.length === other.length ? 200 : 206);
  });

  test("a chunk in its three forms", async () => {
    const stat = await page.evaluate(([base, secret, hash]) => window.callAll(base, secret, "connect", hash), [
      node,
      token,
      object,
    ] as const);
    const chunk = stat.pieces[2] ?? "";
    const decoded = await get(`/chunk/${chunk}`);
    expect(decoded).toMatchObject({ status: 200, length: 12_345, sha256: sha256(content.subarray(2 * pieceSize)) });
    expect(decoded.headers.etag).toBe(`"${chunk}"`);
    const stored = await get(`/chunk/${chunk}?form=stored`);
    expect(stored.headers.etag).toBe(`"${chunk}-stored"`);
    expect(stored.length).toBeLessThan(12_345);
    const accepted = await get(`/chunk/${chunk}`, { Accept: "application/vnd.inos.chunk" });
    expect(accepted).toMatchObject({ status: 200, length: stored.length, sha256: stored.sha256 });
  });

  test("a miss is a problem that a page can read", async () => {
    const answer = await get(`/chunk/${unknownHash}`);
    expect(answer.status).toBe(404);
    expect(answer.headers["content-type"]).toBe("application/problem+json");
  });
});

test("a page without a token cannot write", async () => {
  const status = await page.evaluate(async (base) => {
    const response = await fetch(`${base}/object`, { method: "POST", body: "from another page" });
    return response.status;
  }, node);
  expect(status).toBe(401);
});
