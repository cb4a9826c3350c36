// tus-js-client, a client of others, uploads to the node and goes on after a
// cut where the node left off.

import { Upload } from "tus-js-client";
import { afterEach, expect, inject, test } from "vitest";
import { type Cutter, openCutter } from "./support/cut";
import { pieceSize, post, sample, sha256 } from "./support/object";

const node = inject("nodeURL");
const token = inject("nodeToken");
const content = sample(5 * pieceSize + 4321, 7);

let cutter: Cutter | undefined;
afterEach(async () => {
  await cutter?.close();
  cutter = undefined;
});

/** What an upload went through. */
interface Course {
  object: string;
  offsets: number[]; // Upload-Offset of each HEAD: where the upload went on
  methods: string[];
}

function upload(endpoint: string): Promise<Course> {
  const course: Course = { object: "", offsets: [], methods: [] };
  return new Promise((resolve, reject) => {
    new Upload(content, {
      endpoint,
      headers: { Authorization: `Bearer ${token}` },
      metadata: { filename: "sample.txt", filetype: "text/plain" },
      retryDelays: [0, 50, 100, 200],
      onAfterResponse: (request, response) => {
        course.methods.push(request.getMethod());
        if (request.getMethod() === "HEAD") course.offsets.push(Number(response.getHeader("Upload-Offset")));
        course.object = response.getHeader("Inos-Object") ?? course.object;
      },
      onError: reject,
      onSuccess: () => resolve(course),
    }).start();
  });
}

async function expectStored(object: string): Promise<void> {
  const response = await fetch(`${node}/object/${object}`);
  expect(response.status).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/plain");
  expect(sha256(Buffer.from(await response.arrayBuffer()))).toBe(sha256(content));
}

test("an upload in one go is the object that POST makes", async () => {
  const { object, offsets } = await upload(`${node}/upload/`);
  expect(offsets).toEqual([]);
  expect(object).toBe((await post(node, token, content, "text/plain")).hash);
  await expectStored(object);
});

test("an upload that is cut twice goes on behind the last durable piece", async () => {
  cutter = await openCutter(node, 2.5 * pieceSize, 2);
  const { object, offsets } = await upload(`${cutter.url}/upload/`);
  expect(cutter.cuts()).toBe(2);
  expect(offsets).toEqual([2 * pieceSize, 4 * pieceSize]);
  await expectStored(object);
});
