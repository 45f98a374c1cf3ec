// Published models in this isolate. In: a workspace. Out: its model, or null where it has none yet or it takes longer than the
// caller can wait. One WASM instance per workspace, in a byte-bounded LRU at module scope; a stale one serves while the new
// version is on its way; after a silence the first request waits for it, since the runs of the silence tell most of this one.
import { waitUntil } from "cloudflare:workers";
import { LRUCache } from "lru-cache";
import engineModule from "../../build/engine.wasm";
import { loadEngine, type WasmEngine } from "../core/engine.ts";
import type { Model, TaskProfile } from "../core/graph.ts";
import { adjustmentsOf } from "../core/learned.ts";
import { KNOWN_AFTER_MS } from "../core/ledger.ts";
import type { GraphWriter } from "./graph-writer.ts";

/** Of the isolate's 128 MB: seven models of the default capacity. */
const CACHE_BYTES_MAX = 64 * 2 ** 20;
/** How often the published version is asked for, ms. */
const CHECK_MS = 2_000;
/**
 * So long after a look the model has what ended KNOWN_AFTER_MS ago: before the look it was quiet for 5 s and published within 10 s. Later
 * the engine takes the run before for unknown, and is told so.
 */
const CURRENT_MS = KNOWN_AFTER_MS - 15_000;
/** Nor is waited longer than this for a newer one, ms: the writer may be away. */
const NEWER_WAIT_MS = 1_000;
/** A profile as objects, bytes: what the cache is charged for. */
const PROFILE_BYTES = 2_048;

interface Cached {
  /** Null: the workspace has no model yet. */
  model: Model | null;
  engine: WasmEngine | null;
  checkedMs: number;
}

const cache = new LRUCache<string, Cached>({
  maxSize: CACHE_BYTES_MAX,
  sizeCalculation: ({ model }) => (model === null ? 1 : model.tasks.length * PROFILE_BYTES + ENGINE_BYTES),
});
/** Of the default capacity, which GraphWriter creates. */
const ENGINE_BYTES = 8 * 2 ** 20;
const loading = new Map<string, Promise<Model | null>>();

/** The workspace's model; null where there is none, or none within `waitMs`. Never throws: without a model work goes on. */
export async function modelFor(
  writers: DurableObjectNamespace<GraphWriter>,
  workspace: string,
  waitMs: number,
): Promise<Model | null> {
  const cached = cache.get(workspace);
  if (cached !== undefined && Date.now() < cached.checkedMs + CHECK_MS) return cached.model;
  const isFirst = !loading.has(workspace);
  const fresh = refresh(writers, workspace);
  // Else the platform cancels it with the answer of the request that began it, and `loading` would hold it for ever.
  waitUntil(fresh);
  const stale = cached?.model ?? null;
  if (stale !== null && (!isFirst || Date.now() < (cached as Cached).checkedMs + CURRENT_MS)) return stale;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<Model | null>((resolve) => {
    timer = setTimeout(() => resolve(stale), stale === null ? waitMs : Math.min(waitMs, NEWER_WAIT_MS));
  });
  const model = await Promise.race([fresh, late]);
  if (timer !== undefined) clearTimeout(timer);
  return model;
}

function refresh(writers: DurableObjectNamespace<GraphWriter>, workspace: string): Promise<Model | null> {
  let pending = loading.get(workspace);
  if (pending === undefined) {
    pending = load(writers, workspace)
      .catch((error: unknown) => {
        console.error(`model of workspace ${workspace} not loaded:`, error);
        return cache.peek(workspace)?.model ?? null;
      })
      .finally(() => loading.delete(workspace));
    loading.set(workspace, pending);
  }
  return pending;
}

async function load(writers: DurableObjectNamespace<GraphWriter>, workspace: string): Promise<Model | null> {
  const writer = writers.get(writers.idFromName(workspace));
  const askedMs = Date.now();
  const cached = cache.peek(workspace);
  const known = cached?.model ?? null;
  const version = await writer.publishedVersion(workspace);
  let model = known;
  let engine = cached?.engine ?? null;
  if (version !== (known?.version ?? 0)) {
    const bundle = await writer.bundle(workspace);
    if (bundle !== null) {
      const profiles: TaskProfile[] = JSON.parse(bundle.profiles);
      engine = loadEngine(engineModule, bundle.image);
      model = {
        version: bundle.version,
        engine,
        tasks: bundle.tasks,
        taskIds: new Map(bundle.tasks.map((task, id) => [task, id])),
        profiles: new Map(profiles.map((profile) => [profile.task, profile])),
        adjustments: adjustmentsOf(bundle.adjustments),
      };
    }
  }
  engine?.knowsRunsUntil(askedMs + CURRENT_MS);
  cache.set(workspace, { model, engine, checkedMs: Date.now() });
  return model;
}
