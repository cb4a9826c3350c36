// Runs in the browser, on another origin than the node: calls the node as an
// application would and tells the test what it saw. Only plain values cross.

import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { BadRequestSchema, ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb";
import { ChunkState } from "../../gen/inos/cas/v1/chunk_pb";
import { CasService } from "../../gen/inos/cas/v1/service_pb";

/** How the page talks to the node. */
export type Protocol = "connect" | "connect json get" | "grpc-web";

/** What a failed call looked like. */
export interface Failure {
  code: string;
  reason: string;
  hash: string;
  fields: string[];
}

/** What the page saw of the services. */
export interface Calls {
  formats: string[];
  hasHashes: number;
  states: string[];
  mediaType: string;
  pieces: string[];
  sizes: number[];
  listed: boolean;
  unknown: Failure;
  malformed: Failure;
  anonymous: Failure;
  missing: number[];
}

/** What the page saw of a plain answer. */
export interface Answer {
  status: number;
  headers: Record<string, string>;
  length: number;
  sha256: string;
}

declare global {
  interface Window {
    callAll(base: string, token: string, protocol: Protocol, object: string): Promise<Calls>;
    get(url: string, headers: Record<string, string>): Promise<Answer>;
  }
}

const unknownHash = `${"0".repeat(63)}1`;

function transport(baseUrl: string, protocol: Protocol, token?: string): Transport {
  const withToken: Interceptor = (next) => (request) => {
    if (token) request.header.set("Authorization", `Bearer ${token}`);
    return next(request);
  };
  const options = { baseUrl, interceptors: [withToken] };
  switch (protocol) {
    case "connect":
      return createConnectTransport({ ...options, useBinaryFormat: true });
    case "connect json get":
      return createConnectTransport({ ...options, useHttpGet: true });
    case "grpc-web":
      return createGrpcWebTransport(options);
  }
}

async function failure(call: Promise<unknown>): Promise<Failure> {
  const error = await call.then(
    () => new Error("it did not fail"),
    (e: unknown) => e,
  );
  if (!(error instanceof ConnectError)) throw error;
  const [info] = error.findDetails(ErrorInfoSchema);
  return {
    code: Code[error.code],
    reason: info?.reason ?? "",
    hash: info?.metadata.hash ?? "",
    fields: error.findDetails(BadRequestSchema).flatMap((d) => d.fieldViolations.map((v) => v.field)),
  };
}

window.callAll = async (base, token, protocol, object) => {
  const anybody = createClient(CasService, transport(base, protocol));
  const operator = createClient(CasService, transport(base, protocol, token));
  const node = await anybody.getNode({});
  const stat = await anybody.stat({ hashes: [object, unknownHash], objects: true });
  const { manifest } = await anybody.getManifest({ hash: object });
  const list = await anybody.listObjects({ pageSize: 1000 });
  const has = await operator.has({ hashes: [unknownHash, object] });
  return {
    formats: node.formats,
    hasHashes: node.limits?.hasHashes ?? 0,
    states: stat.chunks.map((c) => ChunkState[c.state]),
    mediaType: stat.chunks[0]?.object?.mediaType ?? "",
    pieces: manifest?.pieces.map((p) => p.hash) ?? [],
    sizes: manifest?.pieces.map((p) => Number(p.size)) ?? [],
    listed: list.objects.some((o) => o.hash === object),
    unknown: await failure(anybody.getObject({ hash: unknownHash })),
    malformed: await failure(anybody.stat({ hashes: [object, "no hash"] })),
    anonymous: await failure(anybody.has({ hashes: [object] })),
    missing: has.missing,
  };
};

window.get = async (url, headers) => {
  const response = await fetch(url, { headers });
  const body = await response.arrayBuffer();
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", body));
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    length: body.byteLength,
    sha256: Array.from(sum, (b) => b.toString(16).padStart(2, "0")).join(""),
  };
};
