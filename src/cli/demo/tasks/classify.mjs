// Demo task: one step of the video chain. At its start it reads a model and builds an index over it; a call reads the part of
// the video that this step works on, and counts the classes of its vectors.
// Environment: MODEL (URI), PART (`/videos/{videoId}/PART.bin` is read), STORE (base URI), PUBLISH (service that gets the result).
import { needed, readObject, serveTask } from "./serve.mjs";
import { DIMENSIONS, VectorIndex } from "./vector-index.mjs";

const CLASSES = 16;
/** Of a video's vectors, every so-many-th is looked up: a key frame. */
const KEY_FRAME_EVERY = 512;

const store = needed("STORE");
const part = needed("PART");
const publish = process.env.PUBLISH;
const index = new VectorIndex(await readObject(needed("MODEL")));

serveTask(async ({ query, service }) => {
  const videoId = query.get("videoId");
  if (videoId === null) throw new Error("videoId is missing");
  const bytes = await readObject(`${store}/videos/${encodeURIComponent(videoId)}/${part}.bin`);
  const vectors = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const counts = new Array(CLASSES).fill(0);
  for (let at = 0; at + DIMENSIONS <= vectors.length; at += DIMENSIONS * KEY_FRAME_EVERY) {
    const id = index.nearest(vectors.subarray(at, at + DIMENSIONS));
    if (id >= 0) counts[id % CLASSES]++;
  }
  if (publish !== undefined) await service(publish, "PUT", videoId, { part, counts });
  return { videoId, part, counts };
});
