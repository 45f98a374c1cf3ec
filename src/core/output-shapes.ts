// Names of outputs as far as they are the same from run to run. In: a task and the URI of what it writes. Out: a number for the pair of task and
// shape, the same in every run: `cycles_season-fc1a….dat` is read again and `cycles_outputs-fc1a….zip` is not, whatever the run's number.
// A hash, not the shape itself: a task's row stays bounded whatever its names are, and adding and taking back runs in any order gives
// the same row. Shapes that share a number share what is learned of them.
import { fnv1a } from "./fnv.ts";

/** Numbers of shapes. A task writes a handful of shapes; two counts of each are some 16 bytes of its row. */
const OUTPUT_SHAPES = 64;
/** Parts of a name that are new in each run: hex of eight digits or more that has a number in it, and numbers. */
const VARIABLE = /(?=[a-f]*\d)[0-9a-f]{8,}|\d+/gi;

export function outputShape(task: string, uri: string): number {
  const hash = fnv1a(`${task}/${shapeOf(uri)}`);
  // The low bits of this hash know little of its last characters' neighbours.
  return (hash ^ (hash >>> 15)) & (OUTPUT_SHAPES - 1);
}

/** Of the last segment: folders are a run's own more often than not. */
export function shapeOf(uri: string): string {
  const path = uri.replace(/[?#].*$/s, "").replace(/\/+$/, "");
  return path.slice(path.lastIndexOf("/") + 1).replace(VARIABLE, "*");
}
