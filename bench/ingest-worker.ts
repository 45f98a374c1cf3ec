// The real worker with two routes beside its own for `bench/ingest.ts`: one that only decodes, one that tells what was written.
import { decodeOtlpSpans, recordOfSpan } from "../src/core/spans.ts";
import type { Env } from "../src/edge/env.ts";
import app from "../src/worker.ts";

export { ClusterHub, Fleet, GraphWriter } from "../src/worker.ts";

async function decode(request: Request): Promise<Response> {
  const decoded = decodeOtlpSpans(await request.json(), Date.now());
  if ("reason" in decoded) return new Response(decoded.detail, { status: 400 });
  return Response.json({ records: decoded.spans.map(recordOfSpan).length });
}

async function accounting(env: Env): Promise<Response> {
  return Response.json(await env.GRAPH_WRITER.getByName("default").accounting());
}

export default {
  fetch(request: Request, env: Env, context: ExecutionContext) {
    const { pathname } = new URL(request.url);
    if (pathname === "/bench/decode") return decode(request);
    if (pathname === "/bench/accounting") return accounting(env);
    return app.fetch(request, env, context);
  },
};
