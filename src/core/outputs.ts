// What an execution has just written, and what follows will read. In: its outputs, the task's profile and the policy. Out: the
// outputs worth fetching now to where the run goes on. A plan cannot ask for them earlier: they did not exist, and the names of
// what a run writes are often new in each run, so they cannot be predicted; that they are read can.
import type { Policy } from "../protocol.ts";
import type { TaskProfile } from "./graph.ts";

const BYTES_PER_GB = 2 ** 30;
/** Before so many outputs were seen nothing is known of whether they are read. */
const OUTPUTS_MIN = 5;

/** The same gate as for everything: p · saved > (1 − p) · waste, in ms. `bytesPerMs` is that of the link to the store. */
export function outputsToFetch(
  outputs: { uri: string; bytes: number }[],
  profile: TaskProfile | undefined,
  bytesPerMs: number,
  policy: Pick<Policy, "msPerGb">,
): { uri: string; bytes: number }[] {
  const written = profile?.outputs;
  if (profile === undefined || written === undefined || written.count < OUTPUTS_MIN) return [];
  const { readShare } = written;
  return outputs.filter(({ bytes }) => {
    if (bytes === 0) return false;
    const savedMs = bytes / bytesPerMs;
    const wasteMs = (bytes / BYTES_PER_GB) * policy.msPerGb;
    return readShare * savedMs > (1 - readShare) * wasteMs;
  });
}
