// What was learned: told, saved, frozen, reset. The GraphWriter learns from runs and outcomes, each hub how long runtimes are held; what
// is frozen is the operator's word, kept by Fleet like all his others and told to both.
import { type Context, Hono } from "hono";
import {
  type LearnedPart,
  LearnedPart as LearnedParts,
  type LearningAnswer,
  LearningParts,
  LearningReset,
} from "../../protocol.ts";
import type { AppEnv } from "../app.ts";
import { requireScope } from "../auth.ts";
import { problem, readJson } from "../problem.ts";

/** Hubs that are asked; a workspace with more tells the holds of these. */
const HUBS_ASKED_MAX = 64;

export const learningRoutes = new Hono<AppEnv>();

const canRead = requireScope("read", "operate");
const canOperate = requireScope("operate");

learningRoutes.get("/v1/learning", canRead, async (c) => {
  const { workspace } = c.get("key");
  const [learning, hubs] = await Promise.all([writerOf(c).learning(workspace), hubsOf(c)]);
  const holds = hubs.flatMap(({ cluster, holds }) => holds.map((hold) => ({ cluster, ...hold })));
  return c.json({ ...learning, holds } satisfies LearningAnswer);
});

/** All of it, for whoever wants to keep or compare it; the model's own image is not text and stays where it is. */
learningRoutes.get("/v1/learning/export", canRead, async (c) => {
  const { workspace } = c.get("key");
  const [text, hubs] = await Promise.all([writerOf(c).learnedText(workspace), hubsOf(c)]);
  const holds = Object.fromEntries(hubs.map(({ cluster, state }) => [cluster, state]));
  const name = `forechain-learned-${new Date().toISOString().slice(0, 10)}.json`;
  c.header("content-disposition", `attachment; filename="${name}"`);
  return c.json({ workspace, exportedMs: Date.now(), learned: JSON.parse(text), holds });
});

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
    const hubs = (await clusterNames(c)).map((cluster) => hubOf(c, cluster).resetHolds());
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
  const body = await readJson(c, LearningParts);
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
