// What an execution has just written, and what follows will read. In: its outputs, the task's profile and the policy. Out: the
// outputs worth fetching now to where the run goes on. A plan cannot ask for them earlier: they did not exist, and the names of
// what a run writes are often new in each run, so they cannot be predicted; that they are read can.
import type { Policy } from "../protocol.ts";
import type { TaskProfile } from "./graph.ts";
import { outputShape } from "./output-shapes.ts";

const BYTES_PER_GB = 2 ** 30;
/** Before so many outputs were seen nothing is known of whether they are read. */
const OUTPUTS_MIN = 5;
/** Who reads less often than one in so many is not taken for a reader. */
const READ_SHARE_MIN = 0.05;

export interface WorthyOutput {
  uri: string;
  bytes: number;
  /** That a later execution of the run reads it. */
  probability: number;
  /** Number of its task's and name's shape: who reads such is asked of the readers' profiles. */
  shape: number;
}

/** The same gate as for everything: p · saved > (1 − p) · waste, in ms. */
export function outputsToFetch(
  task: string,
  outputs: { uri: string; bytes: number }[],
  profile: TaskProfile | undefined,
  transferMs: (uri: string, bytes: number) => number,
  policy: Pick<Policy, "msPerGb">,
): WorthyOutput[] {
  const written = profile?.outputs;
  if (written === undefined || written.count < OUTPUTS_MIN) return [];
  const worthy: WorthyOutput[] = [];
  for (const { uri, bytes } of outputs) {
    if (bytes === 0) continue;
    const shape = outputShape(task, uri);
    // A name unlike any before says nothing: it is as its task's are on the whole.
    const probability = written.readShares[shape] ?? written.readShare;
    const wasteMs = (bytes / BYTES_PER_GB) * policy.msPerGb;
    if (probability * transferMs(uri, bytes) <= (1 - probability) * wasteMs) continue;
    worthy.push({ uri, bytes, probability, shape });
  }
  return worthy;
}

/** Tasks that read outputs of a shape, most likely first. */
export function readersOfShape(profiles: Iterable<TaskProfile>, shape: number): string[] {
  return [...profiles]
    .filter(({ reads }) => (reads?.[shape] ?? 0) >= READ_SHARE_MIN)
    .sort((a, b) => b.reads![shape]! - a.reads![shape]!)
    .map(({ task }) => task);
}
