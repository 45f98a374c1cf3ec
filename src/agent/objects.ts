// Objects as the tasks of this VM read them. In: a runtime and a URI. Out: a verified file, pinned while that runtime may use
// it. For each runtime it keeps what was read and what was waited, which becomes part of the next execution record.
import type { LoadAnswer, ObjectStore, Want } from "./object-store.ts";
import type { ObjectHold, Prepared } from "./prepared.ts";
import type { Runtime } from "./runtime.ts";

export interface ObjectRead {
  uri: string;
  bytes: number;
  how: "cached" | "joined" | "loaded";
  waitedMs: number;
  loadMs: number;
  atMs: number;
  /** The command that had prepared it, if any. */
  hold: ObjectHold | null;
  /** A user waited for it; else a runtime read it that was started ahead. */
  forUser: boolean;
}

interface Ledger {
  reads: ObjectRead[];
  releases: (() => void)[];
  /** Wall time with at least one load waited for: loads that overlap count once. */
  waitedMs: number;
  waiting: number;
  waitingSinceMs: number;
  /** What is being loaded for a runtime that was started ahead. */
  ahead: Set<string>;
}

/** Of one execution: what a record can tell. Reads beyond it are served, not told. */
const READS_MAX = 256;

export class TaskObjects {
  readonly #store: ObjectStore;
  readonly #prepared: Prepared;
  readonly #nowMs: () => number;
  readonly #ledgers = new Map<string, Ledger>();

  constructor(store: ObjectStore, prepared: Prepared, nowMs: () => number) {
    this.#store = store;
    this.#prepared = prepared;
    this.#nowMs = nowMs;
  }

  /** `configured`: named by the agent's own configuration. */
  async read(runtime: Runtime, uri: string, configured = false): Promise<LoadAnswer> {
    const ledger = this.#ledgerOf(runtime);
    // Asked before the load ends: a command that is still loading it is the one that is joined.
    const hold = this.#prepared.findObject(uri);
    // What a runtime reads that was started ahead is used only once a user comes: `settle` marks it then.
    if (hold !== null && isForUser(runtime)) this.#prepared.takeObject(hold, this.#nowMs());
    const waits = !this.#store.has(uri);
    if (waits && ledger.waiting++ === 0) ledger.waitingSinceMs = this.#nowMs();
    const want = wantOf(runtime, configured);
    if (want.by === "start") ledger.ahead.add(uri);
    const answer = await this.#store.load(uri, want);
    ledger.ahead.delete(uri);
    if (waits && --ledger.waiting === 0) ledger.waitedMs += this.#nowMs() - ledger.waitingSinceMs;
    if (!answer.ok) return answer;
    if (runtime.state === "gone") answer.release();
    else ledger.releases.push(answer.release);
    if (ledger.reads.length < READS_MAX) {
      const { bytes, how, waitedMs, loadMs } = answer;
      ledger.reads.push({
        uri,
        bytes,
        how,
        waitedMs,
        loadMs,
        atMs: this.#nowMs(),
        hold,
        forUser: isForUser(runtime),
      });
    }
    return answer;
  }

  /** What a runtime needs to start. */
  async readAll(runtime: Runtime, uris: string[]): Promise<{ ok: true } | { ok: false; detail: string }> {
    const answers = await Promise.all(uris.map((uri) => this.read(runtime, uri, true)));
    const bad = answers.find((answer) => !answer.ok);
    if (bad === undefined || bad.ok) return { ok: true };
    return { ok: false, detail: `${bad.uri}: ${bad.reason}: ${bad.detail}` };
  }

  /** A user has come for a runtime that was started ahead: what it still loads is loaded for that user. */
  hurry(runtime: Runtime): void {
    for (const uri of this.#ledgerOf(runtime).ahead) {
      // Joins the load under way, which has its reader already.
      void this.#store.load(uri, { by: "task", configured: true }).then((answer) => {
        if (answer.ok) answer.release();
      });
    }
  }

  /** By itself since the last `settle`. */
  loadedBytes(runtime: Runtime): number {
    const { reads } = this.#ledgerOf(runtime);
    return reads.reduce((sum, { how, bytes }) => sum + (how === "loaded" ? bytes : 0), 0);
  }

  /** Waited so far since the last `settle`. */
  waitedMs(runtime: Runtime): number {
    return this.#ledgerOf(runtime).waitedMs;
  }

  /** An execution has ended: what it (and, before the first one, the start) read; its pins end. */
  settle(runtime: Runtime): { reads: ObjectRead[]; waitedMs: number } {
    const ledger = this.#ledgerOf(runtime);
    this.#ledgers.delete(runtime.runtimeId);
    for (const release of ledger.releases) release();
    return { reads: ledger.reads, waitedMs: ledger.waitedMs };
  }

  #ledgerOf(runtime: Runtime): Ledger {
    let ledger = this.#ledgers.get(runtime.runtimeId);
    if (ledger === undefined) {
      ledger = { reads: [], releases: [], waitedMs: 0, waiting: 0, waitingSinceMs: 0, ahead: new Set() };
      this.#ledgers.set(runtime.runtimeId, ledger);
    }
    return ledger;
  }
}

function isForUser({ state, claimed }: Runtime): boolean {
  return state === "busy" || claimed;
}

function wantOf(runtime: Runtime, configured: boolean): Want {
  const { hold } = runtime;
  if (isForUser(runtime) || hold === null || hold.used) return { by: "task", configured };
  return { by: "start", configured, probability: hold.probability, holdUntilMs: hold.untilMs };
}
