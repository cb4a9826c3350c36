// Node's zlib decodes what is sent as br: whole objects, joined from chunks
// that were compressed one by one.

import { get, type IncomingHttpHeaders } from "node:http";
import { brotliDecompressSync } from "node:zlib";
import { expect, inject, test } from "vitest";
import { pieceSize, post, sample } from "./support/object";

const node = inject("nodeURL");
const token = inject("nodeToken");

/** The bytes as sent: fetch would decode them. */
function fetchEncoded(path: string): Promise<{ headers: IncomingHttpHeaders; body: Buffer }> {
  return new Promise((resolve, reject) => {
    get(node + path, { headers: { "Accept-Encoding": "br" } }, (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part: Buffer) => parts.push(part));
      response.on("end", () => resolve({ headers: response.headers, body: Buffer.concat(parts) }));
      response.on("error", reject);
    }).on("error", reject);
  });
}

test.each([1, pieceSize - 1, pieceSize, pieceSize + 1, 6 * pieceSize + 77])("an object of %d bytes", async (size) => {
  const content = sample(size, size);
  const { hash } = await post(node, token, content, "application/x-sample");
  const { headers, body } = await fetchEncoded(`/object/${hash}`);
  expect(headers["content-encoding"]).toBe("br");
  expect(headers["content-length"]).toBe(String(body.length));
  expect(brotliDecompressSync(body).equals(content)).toBe(true);
});

test("an empty object", async () => {
  const { hash } = await post(node, token, Buffer.alloc(0), "application/x-sample");
  const { headers, body } = await fetchEncoded(`/object/${hash}`);
  expect(headers["content-length"]).toBe(String(body.length));
  const decoded = headers["content-encoding"] === "br" ? brotliDecompressSync(body) : body;
  expect(decoded.length).toBe(0);
});
