// Headers of a call on its way from the gateway to the task, and what the execution record needs of it.
import { z } from "zod";
import { Id, Params, Version } from "./names.ts";

/** Header that carries the JWT (HS256, `aud` = cluster/vm, `sub` = task, `exp` ≤ 60 s) on calls to an agent's /invoke. */
export const INVOKE_SIGNATURE_HEADER = "forechain-signature";
/** Base64url; on the way out of /v1/invoke it holds the path up to and with the task; several are joined by commas. */
export const CONTINUATION_HEADER = "forechain-continuation";
export const ALLOCATION_HEADER = "forechain-allocation";
export const CLUSTER_HEADER = "forechain-cluster";
/** JSON of InvokeContext, base64url, from the gateway to the agent: what the execution record needs. */
export const CONTEXT_HEADER = "forechain-context";

/** Headers of one connection, never of the call (RFC 9110 section 7.6.1). */
export const HOP_BY_HOP_HEADERS = [
  "connection",
  "expect",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/** On an agent's answer: ms that the caller waited beyond a warm execution, as known when the answer began. */
export const COLD_START_HEADER = "forechain-cold-start-ms";

export const InvokeContext = z.strictObject({
  runId: Id,
  executionId: Id,
  links: z.array(Id).max(128),
  version: Version.optional(),
  params: Params.optional(),
  allocationId: z.string(),
});
export type InvokeContext = z.infer<typeof InvokeContext>;
