// `forechain demo` (`npm start`): the whole loop on one machine, with real processes, measured.
//
//   worker ── three clusters, one agent each ── origin store and two services, nearer to one cluster than to the others
//   phase 1 `shadow`: learns from the executions, sends nothing     ┐ the same seeded requests, empty caches,
//   phase 2 `active`: prepares each chain while its root starts     ┘ at the same instants, every runtime stopped in between
//
// At the end: what the second phase gained, from the caller's clock, the agents' measurements and the hubs' outcomes.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, InvalidArgumentError } from "commander";
import { freePort } from "../agent/free-port.ts";
import type { ClusterView } from "../core/fleet.ts";
import type { GraphAnswer, Mode, OutcomesAnswer, OutcomeTotal, Prediction } from "../protocol.ts";
import { Api } from "./api.ts";
import { type AgentPlace, startAgent } from "./demo/agents.ts";
import { agentKeys, callerKey, declareAll, readerKey, setMode } from "./demo/declare.ts";
import { drive, type RunRecord, requestsOf } from "./demo/drive.ts";
import { RecordService } from "./demo/record-service.ts";
import { COLD_FLOOR_MS, outcomesBetween, type PhaseReport, reportOf, slowerRuns, tableOf } from "./demo/report.ts";
import { OriginStore } from "./demo/store.ts";
import { CLUSTERS, type Request, WORKFLOWS } from "./demo/world.ts";
import { portOf } from "./dev.ts";
import { type LocalWorker, startLocalWorker } from "./local-worker.ts";
import { type ProcessGroup, stopGroups, stopOnSignal } from "./process-group.ts";

const SEED_DEFAULT = 1;
/** Runs of each workflow in a phase. */
const RUNS_DEFAULT = 5;
const RUNS_MAX = 1_000;
const AGENTS_READY_WITHIN_MS = 30_000;
const LEARNED_WITHIN_MS = 60_000;
const POLL_MS = 200;

const HELP = `
What runs: the worker (wrangler dev), three agents, an origin store and two services, all on loopback, in a folder under
the system's temporary folder that is removed at the end. Takes about 100 seconds on two cores.

Examples:
  $ npm start                          # compare, then keep serving until Ctrl-C
  $ npm start -- --once                # compare and exit: 0 if active was faster at p95, else 1
  $ npm start -- --once --no-prewarm   # second phase in shadow as well: gains nothing
  $ PORT=8787 npm start -- --seed 7    # PORT: of the worker (default: any free one)`;

interface DemoOptions {
  once: boolean;
  seed: number;
  runs: number;
  prewarm: boolean;
  json: boolean;
}

interface Stage {
  worker: LocalWorker;
  admin: Api;
  places: AgentPlace[];
  caller: string;
  reader: string;
  agents: ProcessGroup[];
}

function integer(from: number, to: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= from && value <= to) return value;
    throw new InvalidArgumentError(`expected an integer from ${from} to ${to}`);
  };
}

export function demoCommand(): Command {
  return new Command("demo")
    .description("Runs the whole loop on this machine: the same requests without and with preparation, compared.")
    .option(
      "--once",
      "exit after the comparison instead of serving on; non-zero if active was not faster at p95",
      false,
    )
    .option("--seed <n>", "seed of the requests", integer(0, 2 ** 31), SEED_DEFAULT)
    .option("--runs <n>", "runs of each workflow per phase", integer(1, RUNS_MAX), RUNS_DEFAULT)
    .option("--no-prewarm", "keep the second phase in shadow: a check of the comparison itself")
    .option("--json", "print the comparison as one JSON value", false)
    .addHelpText("after", HELP)
    .action(async (options: DemoOptions) => {
      const stop = stopOnSignal();
      const folder = mkdtempSync(join(tmpdir(), "forechain-demo-"));
      let failed = false;
      process.once("exit", () => {
        if (failed) say(`logs are kept in ${folder}`);
        else rmSync(folder, { recursive: true, force: true });
      });
      try {
        process.exitCode = await demo(options, folder);
      } catch (error) {
        failed = !stop.requested;
        if (failed) throw error;
      } finally {
        await stopGroups();
      }
    });
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function demo(options: DemoOptions, folder: string): Promise<number> {
  const startedMs = performance.now();
  const stage = await setUp(folder);
  const requests = requestsOf(options.seed, options.runs);
  const before = await phase("shadow", stage, requests);
  say("waiting until the runs are sealed and the model is published");
  await untilLearned(stage, before.records.length);
  say("starting the agents again, with empty caches");
  await startAgents(stage);
  const mode = options.prewarm ? "active" : "shadow";
  await setMode(stage.admin, mode);
  const arrivals = new Map(before.records.map(({ request, startMs }) => [request, startMs]));
  const after = await phase(mode, stage, requests, arrivals);
  const slower = slowerRuns(before.records, after.records);
  const faster = after.report.p95Ms < before.report.p95Ms;
  const tookS = (performance.now() - startedMs) / 1000;
  const summary = {
    seed: options.seed,
    before: { ...before.report, records: before.records },
    after: { ...after.report, records: after.records },
    slowerRuns: slower.paired,
    runsBeyondP95: slower.beyondP95,
    faster,
    tookS,
  };
  if (options.json) process.stdout.write(`${JSON.stringify(summary)}\n`);
  else process.stdout.write(`\n${tableOf(before.report, after.report, slower)}\n`);
  say(
    `${faster ? "active was faster" : "the second phase was not faster"} at p95 (seed ${options.seed}, ${tookS.toFixed(0)} s)`,
  );
  if (options.once) return faster ? 0 : 1;
  await startAgents(stage);
  say(`\nserving    ${stage.worker.url}`);
  say(`read key   ${stage.reader}`);
  say("Ctrl-C stops everything.");
  const ended = await stage.worker.exited;
  throw new Error(`the worker ended with ${ended}`);
}

async function setUp(folder: string): Promise<Stage> {
  say("building and starting the worker");
  const worker = await startLocalWorker({
    port: portOf(process.env.PORT, 0),
    stateFolder: join(folder, "worker"),
    onProgress: say,
  });
  const admin = new Api(worker.url, worker.adminKey);
  const store = new OriginStore();
  const ledger = new RecordService();
  const catalog = new RecordService();
  const keys = await agentKeys(admin);
  const places: AgentPlace[] = [];
  for (const cluster of CLUSTERS) {
    places.push({
      cluster,
      key: keys[cluster.cluster]!,
      port: await freePort(),
      folder: join(folder, cluster.vm),
      servers: {
        store: await store.listen(cluster.links.store),
        ledger: await ledger.listen(cluster.links.ledger),
        catalog: await catalog.listen(cluster.links.catalog),
      },
    });
  }
  await declareAll(admin, places);
  const stage: Stage = {
    worker,
    admin,
    places,
    caller: await callerKey(admin),
    reader: await readerKey(admin),
    agents: [],
  };
  await startAgents(stage);
  say(`worker at ${worker.url}, agents in ${CLUSTERS.map((cluster) => cluster.cluster).join(", ")}`);
  return stage;
}

/** New processes with empty caches; resolves when the fleet has heard of all of them. */
async function startAgents(stage: Stage): Promise<void> {
  const sinceMs = Date.now();
  stage.agents = await Promise.all(stage.places.map((place) => startAgent(place, stage.worker.url)));
  const ended = stage.agents.map((agent, position) =>
    agent.exited.then((code) => {
      // Stopped on purpose, nobody waits for this any more.
      throw new Error(`${agent.name} ended with ${code}: see ${stage.places[position]!.folder}/agent.log`);
    }),
  );
  const heard = until("all agents are heard of", AGENTS_READY_WITHIN_MS, async () => {
    const { clusters } = await stage.admin.call<{ clusters: ClusterView[] }>("GET", "/v1/clusters");
    const vms = clusters.flatMap((cluster) => cluster.vms);
    return vms.length === stage.places.length && vms.every((vm) => (vm.lastHeartbeatMs ?? 0) > sinceMs);
  });
  await Promise.race([heard, ...ended]);
  for (const end of ended) end.catch(() => {});
}

async function stopAgents(stage: Stage): Promise<void> {
  await Promise.all(stage.agents.map((agent) => agent.stop()));
  stage.agents = [];
}

async function phase(
  mode: Mode,
  stage: Stage,
  requests: Request[],
  arrivals?: ReadonlyMap<Request, number>,
): Promise<{ report: PhaseReport; records: RunRecord[] }> {
  say(`\nphase ${mode}: ${requests.length} runs of ${WORKFLOWS.map((workflow) => workflow.name).join(", ")}`);
  const before = await totals(stage.admin);
  let done = 0;
  const records = await drive({
    url: stage.worker.url,
    key: stage.caller,
    requests,
    ...(arrivals === undefined ? {} : { arrivals }),
    onRun: (run) => {
      done++;
      const cold = run.calls.filter((call) => call.coldStartMs > COLD_FLOOR_MS).length;
      const where = [...new Set(run.calls.map((call) => call.cluster))].join("+");
      const text = `${run.workflow.padEnd(7)} ${String(Math.round(run.tookMs)).padStart(6)} ms`;
      say(
        `  ${String(done).padStart(3)}/${requests.length}  ${text}  ${run.calls.length} tasks, ${cold} cold, ${where}`,
      );
    },
  });
  // Stopping settles what is still held: prepared and never used is waste, and must be counted.
  await stopAgents(stage);
  const after = await totals(stage.admin);
  return { report: reportOf(mode, records, outcomesBetween(before, after)), records };
}

async function totals(admin: Api): Promise<OutcomeTotal[]> {
  return (await admin.call<OutcomesAnswer>("GET", "/v1/outcomes")).totals;
}

/** Every run is in the graph, and the published model predicts the end of each workflow from its root. */
async function untilLearned(stage: Stage, runs: number): Promise<void> {
  const roots = ["video-probe", "order-check", "report-plan"];
  await until("the model is published", LEARNED_WITHIN_MS, async () => {
    const graph = await stage.admin.call<GraphAnswer>("GET", "/v1/graph");
    const counted = graph.tasks.filter((task) => roots.includes(task.task)).reduce((sum, task) => sum + task.count, 0);
    if (counted < runs || graph.openRuns !== 0 || graph.unpublishedRuns !== 0) return false;
    const predictions = await Promise.all(
      roots.map((task) => stage.admin.call<Prediction>("POST", "/v1/predictions", { task })),
    );
    return predictions.every((prediction) => prediction.reach.length > 0 && prediction.modelVersion >= graph.version);
  });
}

async function until(what: string, withinMs: number, reached: () => Promise<boolean>): Promise<void> {
  const endMs = performance.now() + withinMs;
  while (!(await reached())) {
    if (performance.now() > endMs) throw new Error(`gave up waiting until ${what} (${withinMs / 1000} s)`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
