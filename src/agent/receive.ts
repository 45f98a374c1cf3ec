// One object's bytes from its store into a file. In: a source, and how its bytes are paced and make room. Out: a whole file that is
// what the store had told (length, checksums), or a refusal; the caller removes what a refusal leaves.
import { createHash } from "node:crypto";
import { open } from "node:fs/promises";
import type { Source } from "./fetchers/source.ts";
import { Refused } from "./object-store.ts";
import { diskFailure } from "./space.ts";

/** Room taken at first for a body whose length nobody told. */
const UNKNOWN_BYTES_FIRST = 64 * 2 ** 10;

interface Flow {
  /** Before each piece: resolves when it may be written, with the ms that it was held back. */
  hold(bytes: number): Promise<number>;
  /** Nothing may be larger. */
  bytesMax: number;
  /** Taken for this object so far. */
  roomBytes(): number;
  /** Raises it, or throws. `knownBytes` have come so far. */
  reserve(roomBytes: number, knownBytes: number): Promise<void>;
  onWritten(bytes: number): void;
}

interface Received {
  bytes: number;
  /** Base64. */
  sha256: string;
  heldMs: number;
}

export async function receive(source: Source, path: string, flow: Flow): Promise<Received> {
  const names = ["sha256", ...source.checksums.map((sum) => sum.algorithm)];
  const hashes = new Map(names.map((name) => [name, createHash(name)]));
  const file = await onDisk(open(path, "wx"));
  let bytes = 0;
  let heldMs = 0;
  try {
    for await (const chunk of source.body) {
      heldMs += await flow.hold(chunk.length);
      if (source.bytes !== null && bytes + chunk.length > source.bytes) {
        throw new Refused("wrong_length", `more than the ${source.bytes} bytes that the store had told`);
      }
      if (bytes + chunk.length > flow.roomBytes()) {
        await takeRoom(flow, bytes + chunk.length, bytes, source.bytes);
      }
      await onDisk(file.writeFile(chunk));
      for (const hash of hashes.values()) hash.update(chunk);
      bytes += chunk.length;
      flow.onWritten(chunk.length);
    }
  } finally {
    await file.close();
  }
  if (bytes === 0) throw new Refused("empty", "the store sent 0 bytes");
  if (source.bytes !== null && bytes !== source.bytes) {
    throw new Refused("wrong_length", `${bytes} bytes came, the store had told ${source.bytes}`);
  }
  const digests = new Map([...hashes].map(([name, hash]) => [name, hash.digest("base64")]));
  for (const { algorithm, base64 } of source.checksums) {
    if (digests.get(algorithm) !== base64)
      throw new Refused("wrong_checksum", `${algorithm} is not what the store told`);
  }
  return { bytes, sha256: digests.get("sha256")!, heldMs };
}

async function takeRoom(flow: Flow, leastBytes: number, knownBytes: number, toldBytes: number | null): Promise<void> {
  if (toldBytes !== null) return flow.reserve(toldBytes, toldBytes);
  // Doubled each time: few reservations for a large object, little taken for a small one.
  const stepBytes = Math.min(Math.max(2 * knownBytes, UNKNOWN_BYTES_FIRST), flow.bytesMax);
  try {
    await flow.reserve(Math.max(leastBytes, stepBytes), knownBytes);
  } catch (error) {
    // There is no room for twice as much: it may be enough for what comes.
    if (!(error instanceof Refused) || stepBytes <= leastBytes) throw error;
    await flow.reserve(leastBytes, knownBytes);
  }
}

/** A step on this VM's own disk: its failures say nothing of the store. */
async function onDisk<T>(step: Promise<T>): Promise<T> {
  try {
    return await step;
  } catch (error) {
    throw diskFailure(error);
  }
}
