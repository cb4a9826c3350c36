import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";

/** A proxy that breaks connections. */
export interface Cutter {
  url: string;
  /** How many connections it has cut. */
  cuts(): number;
  close(): Promise<void>;
}

/**
 * Passes TCP connections on to a node. The first `times` connections that
 * carry more than `bytes` to it are cut there: the node gets that many bytes
 * and then the end; when it has closed its side, the client gets a reset.
 */
export async function openCutter(node: string, bytes: number, times: number): Promise<Cutter> {
  const { hostname, port } = new URL(node);
  const open = new Set<Socket>();
  let cuts = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(port), hostname);
    let left = bytes;
    let cut = false;
    client.on("data", (part) => {
      if (cut) return;
      cut = part.length > left && cuts < times;
      if (!cut) {
        left -= part.length;
        if (!upstream.write(part)) client.pause();
        return;
      }
      cuts++;
      client.pause();
      upstream.end(part.subarray(0, left));
    });
    upstream.on("drain", () => client.resume());
    upstream.on("data", (part) => {
      if (!cut) client.write(part);
    });
    client.on("close", () => upstream.destroy());
    upstream.on("close", () => (cut ? client.resetAndDestroy() : client.destroy()));
    for (const socket of [client, upstream]) {
      open.add(socket);
      socket.on("error", () => undefined); // the other side hears of it by close
      socket.on("close", () => open.delete(socket));
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    cuts: () => cuts,
    close: async () => {
      for (const socket of open) socket.destroy();
      server.close();
      await once(server, "close");
    },
  };
}
