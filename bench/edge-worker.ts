// The real worker with bare routes beside its own: what `bench/edge.ts` compares with, in the same isolate.
import { Hono } from "hono";
import type { Offer } from "../src/core/pipeline.ts";
import type { Env } from "../src/edge/env.ts";
import app from "../src/worker.ts";

export { ClusterHub, Fleet, GraphWriter } from "../src/worker.ts";

const constants = new Map<string, string>();

/** A JSON string of n bytes. */
function constantOf(bytes: string): string {
  let text = constants.get(bytes);
  if (text === undefined) {
    text = JSON.stringify("x".repeat(Math.max(0, Number(bytes) - 2)));
    constants.set(bytes, text);
  }
  return text;
}

const bare = new Hono<{ Bindings: Env }>();

/** Parses the body, answers a constant. */
bare.post("/bench/constant", async (c) => {
  await c.req.json();
  return c.body(constantOf(c.req.query("bytes") ?? "2"), 200, { "content-type": "application/json" });
});

/** Only forwards. */
bare.all("/bench/forward/*", (c) => {
  const target = c.req.header("x-bench-target") ?? "";
  return fetch(target, { method: c.req.method, headers: c.req.raw.headers, body: c.req.raw.body });
});

/** One offer straight to a hub, as an allocation makes it: what is measured there is the hub alone. */
bare.post("/bench/admit", async (c) => {
  const { workspace, offer } = await c.req.json<{ workspace: string; offer: Offer }>();
  return c.json(await c.env.CLUSTER_HUB.getByName(`${workspace}/${offer.cluster}`).admit(workspace, offer));
});

export default {
  fetch(request: Request, env: Env, context: ExecutionContext) {
    const isBare = new URL(request.url).pathname.startsWith("/bench/");
    return isBare ? bare.fetch(request, env, context) : app.fetch(request, env, context);
  },
};
