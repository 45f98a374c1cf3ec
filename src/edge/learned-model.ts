// The model's image as text, for an export. In: the image, or such a text. Out: gzip in base64 (an image is mostly empty lines), or the image.
import { readWithin } from "./read-within.ts";
import { fromBase64, toBase64 } from "./secrets.ts";

/** Above the largest capacity of a model (core/engine.ts): a small gzip can hold a gigabyte. */
const IMAGE_BYTES_MAX = 64 * 2 ** 20;

export async function imageText(image: Uint8Array): Promise<string> {
  const zipped = new Response(image).body!.pipeThrough(new CompressionStream("gzip"));
  return toBase64(new Uint8Array(await new Response(zipped).arrayBuffer()));
}

/** Null where the text is no gzip in base64, or of more than any image. */
export async function imageOf(text: string): Promise<Uint8Array | null> {
  const zipped = fromBase64(text);
  if (zipped === null) return null;
  const stream = new Response(zipped).body!.pipeThrough(new DecompressionStream("gzip"));
  // What is no gzip breaks off while it is read.
  return readWithin(stream, IMAGE_BYTES_MAX).catch(() => null);
}
