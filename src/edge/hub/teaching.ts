// What a hub tells those who learn. In: settled outcomes, and where runs were placed. Out: outcomes in D1 and at the GraphWriter, placements at
// the GraphWriter; and from it, whether the workflow has changed: then what was learned of holds before weighs less.
import { KEPT_AFTER_CHANGE } from "../../core/learning.ts";
import type { Env } from "../env.ts";
import type { Holds } from "./holds.ts";
import type { OutcomeBook } from "./outcomes.ts";
import type { ExpectedRuns } from "./runs.ts";
import { readMeta, writeMeta } from "./tables.ts";

export class Teaching {
  readonly #env: Pick<Env, "DB" | "GRAPH_WRITER">;
  readonly #sql: SqlStorage;
  readonly #book: OutcomeBook;
  readonly #runs: ExpectedRuns;
  readonly #holds: Holds;
  /** When the workflow changed last, as the GraphWriter told. */
  #changedMs: number;

  constructor(
    env: Pick<Env, "DB" | "GRAPH_WRITER">,
    sql: SqlStorage,
    book: OutcomeBook,
    runs: ExpectedRuns,
    holds: Holds,
  ) {
    this.#env = env;
    this.#sql = sql;
    this.#book = book;
    this.#runs = runs;
    this.#holds = holds;
    this.#changedMs = readMeta<number>(sql, "changedMs") ?? 0;
  }

  /** Out: how many outcomes were brought. Throws where D1 or the GraphWriter is away; what they lack is told again. */
  async flush(workspace: string, cluster: string): Promise<number> {
    const writer = this.#env.GRAPH_WRITER.getByName(workspace);
    const flushed = await this.#book.flush(this.#env.DB, workspace, cluster, async (outcomes) => {
      this.#follow(await writer.learnOutcomes(workspace, cluster, JSON.stringify(outcomes)));
    });
    const placements = this.#runs.takePlacements();
    if (placements.length > 0) await writer.placed(workspace, placements);
    return flushed;
  }

  #follow(changedMs: number): void {
    if (changedMs <= this.#changedMs) return;
    this.#changedMs = changedMs;
    writeMeta(this.#sql, "changedMs", changedMs);
    this.#holds.fade(KEPT_AFTER_CHANGE);
  }
}
