// What was learned: told, saved, frozen, reset. The GraphWriter learns from runs and outcomes, each hub how long runtimes are held; what
// is frozen is the operator's word, kept by Fleet like all his others and told to both.
import { type Context, Hono } from "hono";
import { z } from "zod";
import { withoutReleases } from "../../core/keepalive-state.ts";
import { EXPORT_FORMAT, LearnedExport, partsOf } from "../../core/learned-export.ts";
import {
  type LearnedPart,
  LearnedPart as LearnedParts,
  type LearningAnswer,
  type LearningImported,
  LearningParts,
  LearningReset,
} from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { imageOf, imageText } from "../learned-model.ts";
import { check, checkQuery, problem, readJson } from "../problem.ts";

/** Hubs that are asked; a workspace with more tells the holds of these. */
const HUBS_ASKED_MAX = 64;
/** Of an import: several times a whole export of a busy workspace; a larger one is taken part by part. */
const IMPORT_BYTES_MAX = 32 * 2 ** 20;
const ExportQuery = z.strictObject({ model: z.enum(["true", "false"]).optional() });

export const learningRoutes = new Hono<AppEnv>();

const canRead = requireScope("read", "operate");
const canOperate = requireScope("operate");

learningRoutes.get("/v1/learning", canRead, async (c) => {
  const { workspace } = c.get("key");
  const [learning, hubs] = await Promise.all([writerOf(c).learning(workspace), hubsOf(c)]);
  const holds = hubs.flatMap(({ cluster, holds }) => holds.map((hold) => ({ cluster, ...hold })));
  return c.json({ ...learning, holds } satisfies LearningAnswer);
});

/** All of it, for whoever wants to keep it, compare it, or take it to another workspace. `?model=false` leaves the model's image out. */
learningRoutes.get("/v1/learning/export", canRead, async (c) => {
  const query = checkQuery(c, ExportQuery);
  if (!query.ok) return query.response;
  const { workspace } = c.get("key");
  const writer = writerOf(c);
  const [text, hubs, bundle] = await Promise.all([
    writer.learnedText(workspace),
    hubsOf(c),
    query.value.model === "false" ? null : writer.bundle(workspace),
  ]);
  const holds = Object.fromEntries(hubs.map(({ cluster, state }) => [cluster, state]));
  const model = bundle === null ? {} : { model: { tasks: bundle.tasks, image: await imageText(bundle.image) } };
  const name = `forechain-learned-${new Date().toISOString().slice(0, 10)}.json`;
  c.header("content-disposition", `attachment; filename="${name}"`);
  return c.json({
    format: EXPORT_FORMAT,
    workspace,
    exportedMs: Date.now(),
    learned: JSON.parse(text),
    holds,
    ...model,
  });
});

/** Takes an export, or the parts of it that are named, in the place of what is known. Frozen parts are replaced too, and stay frozen. */
learningRoutes.post("/v1/learning/import", canOperate, async (c) => {
  const body = await readJson(c, LearnedExport, IMPORT_BYTES_MAX);
  if (!body.ok) return body.response;
  const { workspace } = c.get("key");
  const { learned, holds, model } = body.value;
  const imported = partsOf(body.value);
  if (imported.length === 0) {
    const detail = "The export has none of the parts that are asked for.";
    return problem(c, 422, "Nothing to import", detail, [{ pointer: "/parts", detail }]);
  }
  let taken: { tasks: string[]; image: Uint8Array } | null = null;
  if (imported.includes("model")) {
    const image = await imageOf(model!.image);
    if (image === null) return badImage(c, "got something else, expected gzip of at most 64 MiB in base64");
    taken = { tasks: model!.tasks, image };
  }
  const own = imported.filter((part) => part !== "holds");
  const refused = own.length === 0 ? null : await writerOf(c).adoptLearned(workspace, own, learned, taken);
  if (refused !== null) return badImage(c, refused);
  const skipped: { cluster: string; reason: string }[] = [];
  if (imported.includes("holds")) {
    const known = new Set(await clusterNames(c));
    for (const [cluster, state] of Object.entries(holds)) {
      if (known.has(cluster)) await hubOf(c, cluster).replaceHolds(withoutReleases(state));
      else skipped.push({ cluster, reason: "this workspace has no such cluster" });
    }
  }
  return c.json({ imported, skipped } satisfies LearningImported);
});

function badImage(c: Context<AppEnv>, detail: string): Response {
  return problem(c, 422, "Invalid model", detail, [{ pointer: "/model/image", detail }]);
}

learningRoutes.post("/v1/learning/freeze", canOperate, (c) =>
  freeze(c, (before, parts) => [...new Set([...before, ...parts])]),
);

learningRoutes.post("/v1/learning/unfreeze", canOperate, (c) =>
  freeze(c, (before, parts) => before.filter((part) => !parts.includes(part))),
);

learningRoutes.post("/v1/learning/reset", canOperate, async (c) => {
  const body = await readJson(c, LearningReset);
  if (!body.ok) return body.response;
  const { parts } = body.value;
  const { workspace } = c.get("key");
  const own = parts.filter((part) => part !== "holds");
  if (own.length > 0) await writerOf(c).resetLearned(workspace, own);
  if (parts.includes("holds")) {
    const hubs = (await clusterNames(c)).map((cluster) => hubOf(c, cluster).replaceHolds(null));
    const failed = (await Promise.allSettled(hubs)).filter(({ status }) => status === "rejected").length;
    if (failed > 0) {
      return problem(
        c,
        503,
        "Not all reset",
        `${failed} of ${hubs.length} hubs did not answer; ask again: it is safe.`,
      );
    }
  }
  return c.json({ reset: parts });
});

/** `next`: what is frozen afterwards. Repeated it does no harm: both keepers are told the whole list. */
async function freeze(
  c: Context<AppEnv>,
  next: (before: LearnedPart[], parts: LearnedPart[]) => LearnedPart[],
): Promise<Response> {
  const isEmpty = c.req.raw.body === null || c.req.header("content-length") === "0";
  const body = isEmpty ? check(c, LearningParts, {}) : await readJson(c, LearningParts);
  if (!body.ok) return body.response;
  const { workspace } = c.get("key");
  const fleet = c.env.FLEET.getByName(workspace);
  const frozen = next(await fleet.frozen(workspace), body.value.parts ?? LearnedParts.options);
  await writerOf(c).freeze(workspace, frozen);
  await fleet.declareFrozen(workspace, frozen);
  return c.json({ frozen });
}

function writerOf(c: Context<AppEnv>) {
  return c.env.GRAPH_WRITER.getByName(c.get("key").workspace);
}

function hubOf(c: Context<AppEnv>, cluster: string) {
  return c.env.CLUSTER_HUB.getByName(`${c.get("key").workspace}/${cluster}`);
}

async function clusterNames(c: Context<AppEnv>): Promise<string[]> {
  const { workspace } = c.get("key");
  return (await c.env.FLEET.getByName(workspace).clusterNames(workspace)).slice(0, HUBS_ASKED_MAX);
}

/** A hub that is down is left out: what it learned is told when it is back. */
async function hubsOf(c: Context<AppEnv>) {
  const names = await clusterNames(c);
  const answers = await Promise.allSettled(names.map((cluster) => hubOf(c, cluster).learnedHolds()));
  return answers.flatMap((answer, i) =>
    answer.status === "fulfilled" ? [{ cluster: names[i]!, ...answer.value }] : [],
  );
}
