// Continuations: what a run's next call needs to know of the calls before it, carried by the caller.
// base64url(JSON) "." base64url(HMAC-SHA-256), signed per workspace, at most 4 KiB; beyond, the oldest tasks are dropped.
// A caller hands on what it received; a call that joins several branches hands on all of them, joined by commas.
import { z } from "zod";
import { PATH_TASKS_MAX } from "../protocol.ts";
import { type DerivedKey, fromBase64Url, toBase64Url } from "./secrets.ts";

/** With the signature; the header of one branch. */
export const CONTINUATION_CHARACTERS_MAX = 4096;
/** Branches that one call may join. */
export const BRANCHES_MAX = 32;
/** A run may pause this long between two calls, ms: as long as an open run is waited for. */
const EXPIRES_AFTER_MS = 24 * 3_600_000;
const SIGNATURE_CHARACTERS = 43;

/** The path up to and with the execution that made it. */
export interface Continuation {
  runId: string;
  /** Oldest first; the last one is the execution that the continuation came out of. */
  path: { task: string; startMs: number | null }[];
  executionId: string;
  cluster: string | null;
  /** VM prepared for a task, by task. */
  vms: Record<string, string>;
  /** Which of several parallel executions of one task this comes after; null: no step has fanned out. */
  branch: string | null;
}

/** Short names: the header has 4 KiB. */
const Wire = z.object({
  r: z.string(),
  p: z.array(z.string()).min(1).max(PATH_TASKS_MAX),
  /** Start of the first task whose start is known, ms since the epoch; then each task's start after it, null where unknown. */
  b: z.number(),
  t: z.array(z.number().nullable()),
  e: z.string(),
  c: z.string().nullable(),
  v: z.record(z.string(), z.string()),
  n: z.string().nullable(),
  x: z.number(),
});
type Wire = z.infer<typeof Wire>;

type Opened = { ok: true; value: Continuation } | { ok: false; reason: "malformed" | "forged" | "expired" };

export async function sealContinuation(key: DerivedKey, continuation: Continuation, nowMs: number): Promise<string> {
  let path = continuation.path.slice(-PATH_TASKS_MAX);
  let vms = continuation.vms;
  let body = encode(continuation, path, vms, nowMs);
  // The prepared VMs are an optimisation, the path is what predictions need: they go first. Halving ends in a few rounds.
  while (body.length + 1 + SIGNATURE_CHARACTERS > CONTINUATION_CHARACTERS_MAX) {
    if (Object.keys(vms).length > 0) vms = {};
    else path = path.slice(-Math.max(1, Math.floor(path.length * 0.75)));
    body = encode(continuation, path, vms, nowMs);
  }
  const signature = await crypto.subtle.sign("HMAC", key.hmac, ascii(body));
  return `${body}.${toBase64Url(new Uint8Array(signature))}`;
}

export async function openContinuation(key: DerivedKey, text: string, nowMs: number): Promise<Opened> {
  if (text.length > CONTINUATION_CHARACTERS_MAX) return { ok: false, reason: "malformed" };
  const dot = text.indexOf(".");
  const signature = fromBase64Url(text.slice(dot + 1));
  const body = dot > 0 ? fromBase64Url(text.slice(0, dot)) : null;
  if (body === null || signature === null) return { ok: false, reason: "malformed" };
  const genuine = await crypto.subtle.verify("HMAC", key.hmac, signature, ascii(text.slice(0, dot)));
  if (!genuine) return { ok: false, reason: "forged" };
  const parsed = Wire.safeParse(JSON.parse(new TextDecoder().decode(body)));
  if (!parsed.success) return { ok: false, reason: "malformed" }; // signed by another version of ours
  if (parsed.data.x < nowMs) return { ok: false, reason: "expired" };
  return { ok: true, value: decode(parsed.data) };
}

function encode(from: Continuation, path: Continuation["path"], vms: Record<string, string>, nowMs: number): string {
  const baseMs = path.find((step) => step.startMs !== null)?.startMs ?? 0;
  const wire: Wire = {
    r: from.runId,
    p: path.map((step) => step.task),
    b: baseMs,
    t: path.map(({ startMs }) => (startMs === null ? null : Math.round(startMs - baseMs))),
    e: from.executionId,
    c: from.cluster,
    v: vms,
    n: from.branch,
    x: nowMs + EXPIRES_AFTER_MS,
  };
  return toBase64Url(new TextEncoder().encode(JSON.stringify(wire)));
}

function decode(wire: Wire): Continuation {
  const path = wire.p.map((task, i) => {
    const afterMs = wire.t[i] ?? null;
    return { task, startMs: afterMs === null ? null : wire.b + afterMs };
  });
  return { runId: wire.r, path, executionId: wire.e, cluster: wire.c, vms: wire.v, branch: wire.n };
}

function ascii(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** Several branches joined: the path follows the branch that ends in the smallest task name, as the profile does. */
export function joinBranches(branches: Continuation[]): { main: Continuation; links: string[] } {
  const main = branches.reduce((best, branch) => (lastTask(branch) < lastTask(best) ? branch : best));
  return { main, links: [...new Set(branches.map((branch) => branch.executionId))] };
}

function lastTask(branch: Continuation): string {
  return branch.path.at(-1)!.task;
}
