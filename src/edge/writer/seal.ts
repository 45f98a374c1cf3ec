// Runs leave memory. In: ids of runs to be sealed, in order. Out: each counted and learned, and kept in packs where late records find them.
// A round may be of thousands of runs, and what the rows hold of each is larger than the run: they go to packs as they are sealed.
import type { AssembledRun } from "../../core/profile.ts";
import type { State } from "./state.ts";
import type { WriterStore } from "./writer-store.ts";

export function sealRuns(
  { ledger }: Pick<State, "ledger">,
  store: WriterStore,
  runIds: Iterable<string>,
  learn: (run: AssembledRun) => void,
  at: { nowMs: number; seq: number },
): void {
  for (const runId of runIds) {
    ledger.seal([runId], learn);
    if (ledger.isPackDue) pack(ledger, store, at);
  }
}

/** Sealed runs, late ones that were brought back included, go to a pack. */
export function pack(
  ledger: State["ledger"],
  store: WriterStore,
  { nowMs, seq }: { nowMs: number; seq: number },
): void {
  const sealed = ledger.takeSealed();
  store.transaction(() => store.packs.write(seq, sealed, nowMs));
}
