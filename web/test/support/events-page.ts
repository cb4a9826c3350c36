// Runs in the browser, on another origin than the node: listens to events,
// publishes some, and handles those that others request.

import { createClient, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { EventService } from "../../gen/inos/event/v1/service_pb";

/** What the page saw of one event. */
export interface Seen {
  id: string;
  type: string;
  user: string;
  token: string;
  payload: string;
}

declare global {
  interface Window {
    /** Requests something, handles it, and tells what a listener saw of it. */
    drawTogether(base: string, token: string, id: string): Promise<Seen[]>;
    /** Reads again what is kept, from the first event that the page published. */
    replay(base: string, token: string, id: string): Promise<Seen[]>;
  }
}

const text = new TextDecoder();
const bytes = new TextEncoder();

function connect(baseUrl: string, token: string) {
  const withToken: Interceptor = (next) => (request) => {
    if (token) request.header.set("Authorization", `Bearer ${token}`);
    return next(request);
  };
  return createClient(
    EventService,
    createConnectTransport({ baseUrl, interceptors: [withToken], useBinaryFormat: true }),
  );
}

/** A promise that waits for a call. */
function gate(): { passed: Promise<void>; open: () => void } {
  let open: () => void = () => undefined;
  const passed = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { passed, open };
}

type Client = ReturnType<typeof connect>;

async function publish(
  client: Client,
  id: string,
  state: string,
  payload: string,
  securityToken = "",
): Promise<bigint> {
  const { published } = await client.publish({
    envelopes: [
      { id, eventType: `page:draw:v1:${state}`, payload: bytes.encode(payload), metadata: { securityToken } },
    ],
  });
  return published[0]?.sequence ?? 0n;
}

/** Yields the events of an operation up to its end. */
async function* history(client: Client, id: string, fromSequence: bigint, ready: () => void, signal: AbortSignal) {
  const stream = client.subscribe({ fromSequence, filters: [{ service: "page", own: true }] }, { signal });
  for await (const { message } of stream) {
    ready();
    if (message.case !== "event") continue;
    const envelope = message.value.envelope;
    if (envelope?.id !== id) continue;
    yield {
      id: envelope.id,
      type: envelope.eventType,
      user: envelope.metadata?.userId ?? "",
      token: envelope.metadata?.securityToken ?? "",
      payload: text.decode(envelope.payload),
    };
    if (envelope.eventType.endsWith(":completed")) return;
  }
}

/** Handles one request and draws it. */
async function handleOne(client: Client, ready: () => void, signal: AbortSignal): Promise<void> {
  for await (const { message } of client.handle({ operations: ["page:draw"] }, { signal })) {
    ready();
    if (message.case !== "event") continue;
    const request = message.value.envelope;
    if (!request) throw new Error("an event without an envelope");
    await publish(client, request.id, "processing", "");
    await publish(client, request.id, "completed", `drew ${text.decode(request.payload)}`);
    return;
  }
}

window.drawTogether = async (base, token, id) => {
  const client = connect(base, token);
  const stop = new AbortController();
  const listening = gate();
  const offered = gate();
  const collected = (async () => {
    const seen: Seen[] = [];
    for await (const event of history(client, id, 0n, listening.open, stop.signal)) seen.push(event);
    return seen;
  })();
  const handled = handleOne(client, offered.open, stop.signal);
  await Promise.all([listening.passed, offered.passed]);
  // By the token in the envelope: a stranger's client, but for that.
  await publish(connect(base, ""), id, "requested", "a line", token);
  await handled;
  const seen = await collected;
  stop.abort();
  return seen;
};

window.replay = async (base, token, id) => {
  const seen: Seen[] = [];
  const stop = new AbortController();
  for await (const event of history(connect(base, token), id, 1n, () => undefined, stop.signal)) seen.push(event);
  stop.abort();
  return seen;
};
