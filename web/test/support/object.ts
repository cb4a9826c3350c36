import { createHash } from "node:crypto";

/** The most raw bytes of a chunk. */
export const pieceSize = 1 << 20;

/** Bytes of which one half compresses and the other does not, the same for the same seed. */
export function sample(size: number, seed: number): Buffer {
  const out = Buffer.alloc(size);
  let state = seed >>> 0 || 1;
  for (let i = 0; i < size; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    out[i] = (i >> 16) % 2 === 1 ? state >>> 24 : 97 + (i % 23);
  }
  return out;
}

export function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

/** What POST /object answers. */
export interface Posted {
  hash: string;
  size: number;
}

/** Stores bytes as an object, unless they are one already. */
export async function post(node: string, token: string, bytes: Buffer, mediaType: string): Promise<Posted> {
  const response = await fetch(`${node}/object`, {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": mediaType },
    body: new Uint8Array(bytes),
  });
  const text = await response.text();
  if (response.status !== 201 && response.status !== 200) throw new Error(`POST /object: ${response.status} ${text}`);
  return JSON.parse(text) as Posted;
}
