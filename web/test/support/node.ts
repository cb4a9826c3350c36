import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  export interface ProvidedContext {
    /** Where the node listens: http://127.0.0.1:PORT. */
    nodeURL: string;
    /** The operator's token. */
    nodeToken: string;
  }
}

/** The program under test; `make build` leaves it there. */
const program = new URL("../../../bin/inos", import.meta.url).pathname;

const startLimit = 20_000;

/** Starts a node on an empty data directory for all tests; returns how to end it. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), "inos-web-"));
  const [listen, admin] = [await freeAddress(), await freeAddress()];
  const data = join(dir, "data");
  const node = spawn(program, ["serve", "--data", data, "--listen", listen, "--admin", admin], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let log = "";
  const ended = new Promise<void>((resolve) => {
    node.on("close", () => resolve());
    node.on("error", (error) => {
      log += `${error.message}; make build makes it\n`;
      resolve();
    });
  });
  const keep = (text: Buffer) => (log = (log + text.toString()).slice(-8000));
  node.stdout.on("data", keep);
  node.stderr.on("data", keep);

  const teardown = async () => {
    node.kill("SIGTERM");
    await ended;
    await rm(dir, { recursive: true, force: true });
  };
  try {
    await ready(node, `http://${listen}/health/ready`);
    project.provide("nodeURL", `http://${listen}`);
    project.provide("nodeToken", (await readFile(join(data, "token"), "utf8")).trim());
  } catch (error) {
    await teardown();
    throw new Error(`${program} serve did not get ready:\n${log}`, { cause: error });
  }
  return teardown;
}

async function ready(node: ChildProcess, url: string): Promise<void> {
  const deadline = Date.now() + startLimit;
  for (;;) {
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0,
    );
    if (status >= 200 && status < 300) return;
    if (node.exitCode !== null) throw new Error(`it ended with ${node.exitCode}`);
    if (Date.now() > deadline) throw new Error(`${url} answered ${status}`);
    await delay(50);
  }
}

async function freeAddress(): Promise<string> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return `127.0.0.1:${port}`;
}
