// One call forwarded to one VM's agent. In: the caller's request, the VM, the signature. Out: the agent's response as a stream,
// or why there is none and whether another VM may be tried. A call is sent a second time only when the first one was
// certainly not begun: the agent itself says so, or nothing listens at its address.
import { connect } from "cloudflare:sockets";
import { sign } from "hono/jwt";
import { LRUCache } from "lru-cache";
import {
  COLD_START_HEADER,
  CONTEXT_HEADER,
  CONTINUATION_HEADER,
  HOP_BY_HOP_HEADERS,
  INVOKE_SIGNATURE_HEADER,
  type InvokeContext,
} from "../protocol.ts";
import type { Env } from "./env.ts";
import { newId } from "./ids.ts";
import { readWithin } from "./read-within.ts";
import { toBase64, toBase64Url, vmKey } from "./secrets.ts";

/** Of the connection; and what would tell the VM the caller's secrets. */
const DROPPED = [...HOP_BY_HOP_HEADERS, "authorization", "host"];
/** Ours: a caller cannot set them for an agent, an agent cannot set them for a caller. */
const OWN_PREFIX = "forechain-";
/** Statuses with which an agent, or the tunnel before it, says that the task was not begun. */
const NOT_BEGUN = new Set([401, 404, 503, 521, 522, 523, 530]);
/** A lost connection after this long may have been a task at work; before, a closed port explains it, ms. */
const REFUSED_WITHIN_MS = 100;
/** Signatures live so long, s; and are made anew after so long, ms. */
const SIGNATURE_SECONDS = 50;
const SIGNATURE_REUSED_MS = 20_000;
/** A VM that could not be reached is not asked again for so long, ms. */
const UNREACHABLE_MS = 5_000;

/** Of a call that goes through a hub's queue: with its headers in base64 it must stay below a row's 2 MB. */
const EXECUTE_BODY_BYTES_MAX = 1024 * 1024;

const signatures = new LRUCache<string, string>({ max: 10_000, ttl: SIGNATURE_REUSED_MS });
/** URL → when that was found. */
const unreachable = new LRUCache<string, number>({ max: 10_000, ttl: UNREACHABLE_MS });

export interface Target {
  workspace: string;
  cluster: string;
  vm: string;
  /** Null: only its own agent reaches the VM, and the call becomes an `execute` command. */
  url: string | null;
}

export interface Call {
  task: string;
  /** With the query, beginning with a slash or empty. */
  rest: string;
  method: string;
  headers: Headers;
  /** A stream can be sent once only. */
  body: ArrayBuffer | ReadableStream | null;
  context: InvokeContext;
  /** For the task's own follow-up calls. */
  continuation: string;
  signal: AbortSignal;
  /** When the task's time is over. */
  endsMs: number;
}

export type Forwarded =
  | { ok: true; response: Response }
  | { ok: false; reason: "not-begun" | "lost" | "too-large" | "timeout"; detail: string };

export async function forward(
  env: Pick<Env, "CLUSTER_HUB" | "FORECHAIN_SECRET">,
  target: Target,
  call: Call,
  nowMs: number,
): Promise<Forwarded> {
  return target.url === null
    ? executeAt(env.CLUSTER_HUB, target, call, nowMs)
    : forwardTo(env.FORECHAIN_SECRET, target, target.url, call, nowMs);
}

async function forwardTo(secret: string, target: Target, url: string, call: Call, nowMs: number): Promise<Forwarded> {
  const headers = await headersFor(secret, target, call, nowMs);
  let response: Response;
  try {
    response = await fetch(`${url.replace(/\/$/, "")}/invoke/${encodeURIComponent(call.task)}${call.rest}`, {
      method: call.method,
      headers,
      body: call.body,
      redirect: "manual",
      signal: call.signal,
    });
  } catch (error) {
    if (call.signal.aborted) throw error;
    const soon = Date.now() - nowMs <= REFUSED_WITHIN_MS;
    const closed = soon && !(await listens(url));
    if (closed) unreachable.set(url, Date.now());
    return {
      ok: false,
      reason: closed ? "not-begun" : "lost",
      detail: error instanceof Error ? error.message : "failed",
    };
  }
  if (NOT_BEGUN.has(response.status) && !response.headers.has(COLD_START_HEADER)) {
    await response.body?.cancel();
    return { ok: false, reason: "not-begun", detail: `its agent answered ${response.status}` };
  }
  return { ok: true, response };
}

/** As a command of the cluster's hub: small bodies only, since it goes through a queue. */
async function executeAt(hubs: Env["CLUSTER_HUB"], target: Target, call: Call, nowMs: number): Promise<Forwarded> {
  const { workspace, cluster, vm } = target;
  const body = await wholeBody(call.body);
  if (body === null) {
    const detail = `VM ${cluster}/${vm} is reached through a queue, which takes bodies of at most ${EXECUTE_BODY_BYTES_MAX} bytes`;
    return { ok: false, reason: "too-large", detail };
  }
  const headers = Object.fromEntries(ownHeaders(call));
  const path = call.rest.startsWith("/") ? call.rest : `/${call.rest}`;
  const executed = hubs.getByName(`${workspace}/${cluster}`).execute(workspace, cluster, {
    commandId: newId(nowMs),
    runId: call.context.runId,
    executionId: call.context.executionId,
    vm,
    task: call.task,
    timeoutMs: Math.max(0, call.endsMs - nowMs),
    request: { method: call.method, path, headers, body: toBase64(body) },
  });
  const answer = await executed.catch((error: unknown) => ({
    ok: false as const,
    reason: "lost" as const,
    detail: error instanceof Error ? error.message : "the hub broke off",
  }));
  if (!answer.ok) {
    // Agents and hub say "refused" of what they did not begin.
    const reason =
      answer.reason !== "failed" ? answer.reason : answer.detail.startsWith("refused") ? "not-begun" : "lost";
    return { ok: false, reason, detail: answer.detail };
  }
  const { status, headers: answered, body: text } = answer.response;
  const isEmpty = status === 204 || status === 205 || status === 304;
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  // One line for each value: cookies cannot be joined.
  const lines = Object.entries(answered).flatMap(([name, values]) => [values].flat().map((value) => [name, value]));
  return { ok: true, response: new Response(isEmpty ? null : bytes, { status, headers: lines as [string, string][] }) };
}

async function wholeBody(body: Call["body"]): Promise<Uint8Array | null> {
  if (body === null) return new Uint8Array();
  if (body instanceof ArrayBuffer) return body.byteLength <= EXECUTE_BODY_BYTES_MAX ? new Uint8Array(body) : null;
  return readWithin(body, EXECUTE_BODY_BYTES_MAX);
}

/** Could not be reached a moment ago from here. */
export function isUnreachable(url: string | null): boolean {
  return url !== null && unreachable.has(url);
}

/** Could not be reached, and its agent was heard since then: one that was started again is at the same address. */
export function isBackAt(url: string | null, lastHeartbeatMs: number | null): boolean {
  const foundMs = url === null ? undefined : unreachable.get(url);
  return foundMs !== undefined && lastHeartbeatMs !== null && lastHeartbeatMs > foundMs;
}

/** What of an agent's answer is the caller's. */
export function answerHeaders(response: Response): Headers {
  const headers = endToEnd(response.headers);
  for (const name of [...headers.keys()])
    if (name.startsWith(OWN_PREFIX) && name !== COLD_START_HEADER) headers.delete(name);
  return headers;
}

async function headersFor(secret: string, target: Target, call: Call, nowMs: number): Promise<Headers> {
  const headers = ownHeaders(call);
  headers.set(INVOKE_SIGNATURE_HEADER, await signatureFor(secret, target, call.task, nowMs));
  return headers;
}

/** The caller's headers for the task, with what the agent and the task's own follow-up calls need. */
function ownHeaders(call: Call): Headers {
  const headers = endToEnd(call.headers);
  for (const name of [...headers.keys()]) if (name.startsWith(OWN_PREFIX)) headers.delete(name);
  headers.set(CONTEXT_HEADER, toBase64Url(new TextEncoder().encode(JSON.stringify(call.context))));
  headers.set(CONTINUATION_HEADER, call.continuation);
  return headers;
}

/** All but the headers of the one connection, which `Connection` may name too. */
function endToEnd(from: Headers): Headers {
  const headers = new Headers(from);
  const named = from.get("connection")?.split(",") ?? [];
  for (const name of [...DROPPED, ...named.map((part) => part.trim().toLowerCase())]) {
    if (/^[a-z0-9-]+$/.test(name)) headers.delete(name);
  }
  return headers;
}

async function signatureFor(secret: string, target: Target, task: string, nowMs: number): Promise<string> {
  const name = `${nameOf(target)}\n${task}`;
  const made = signatures.get(name);
  if (made !== undefined) return made;
  const { hmac } = await vmKey(secret, target.workspace, target.cluster, target.vm);
  const claims = {
    aud: `${target.cluster}/${target.vm}`,
    sub: task,
    exp: Math.floor(nowMs / 1000) + SIGNATURE_SECONDS,
  };
  const signature = await sign(claims, hmac, "HS256");
  signatures.set(name, signature);
  return signature;
}

/** The same "connection lost" stands for a closed port and for an agent that died at work: a second connection tells which. */
async function listens(url: string): Promise<boolean> {
  const { hostname, port, protocol } = new URL(url);
  const socket = connect({ hostname, port: Number(port || (protocol === "https:" ? 443 : 80)) });
  try {
    await socket.opened;
    await socket.close();
    return true;
  } catch {
    return false;
  }
}

function nameOf({ workspace, cluster, vm }: Target): string {
  return `${workspace}/${cluster}/${vm}`;
}
