// XES event logs (IEEE 1849): one trace a run, one event an execution. Parsed by saxes, event by event.
// Only start and complete of the standard lifecycle are work: with `pair`, a start and the completion that follows it for the same activity
// (and instance) are one execution; other transitions (schedule, withdraw, …) are told as skipped. `all` and `transition` take every event.
import { SaxesParser } from "saxes";
import { Execution } from "../protocol.ts";
import { type Content, type Imported, type Importer, type ImportOptions, skipped } from "./format.ts";
import { instantOf } from "./instant.ts";

interface XesEvent {
  name: string;
  time: string;
  transition: string;
  instance: string;
}

async function* read(content: Content, options: ImportOptions): AsyncGenerator<Imported> {
  const traces: { name: string; events: XesEvent[] }[] = [];
  let fault: string | null = null;
  const parser = new SaxesParser({ xmlns: false });
  let trace: (typeof traces)[number] | null = null;
  let event: XesEvent | null = null;
  /** Attributes nest; only those directly in a trace or event are theirs. */
  let nested = 0;
  parser.on("error", (error) => {
    fault ??= error.message;
  });
  parser.on("opentag", ({ name: qualified, attributes }) => {
    const name = localName(qualified);
    if (name === "trace") trace = { name: "", events: [] };
    else if (name === "event" && trace !== null) event = { name: "", time: "", transition: "", instance: "" };
    else if (trace !== null) {
      if (nested++ === 0) assign(trace, event, attributes as Record<string, string>);
    }
  });
  parser.on("closetag", ({ name: qualified }) => {
    const name = localName(qualified);
    if (name === "event" && trace !== null && event !== null) {
      trace.events.push(event);
      event = null;
    } else if (name === "trace" && trace !== null) {
      traces.push(trace);
      trace = null;
    } else if (trace !== null) nested--;
  });
  const decoder = new TextDecoder();
  let number = 0;
  let broken: { error: unknown } | null = null;
  try {
    for await (const chunk of content) {
      parser.write(decoder.decode(chunk, { stream: true }));
      for (const whole of traces.splice(0)) yield* executionsOf(whole, number++, options);
      if (fault !== null) break;
    }
  } catch (error) {
    broken = { error };
  }
  if (fault === null && broken === null) parser.close();
  // Of a log that breaks off inside a trace, its whole events: also where it is the packing that breaks off.
  if (trace !== null) traces.push(trace);
  for (const whole of traces.splice(0)) yield* executionsOf(whole, number++, options);
  if (broken !== null) throw broken.error;
  if (fault !== null) yield skipped(`not whole XML: ${fault}`);
}

/** Without the namespace's prefix. */
function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

function assign(trace: { name: string }, event: XesEvent | null, { key, value = "" }: Record<string, string>): void {
  if (event === null) {
    if (key === "concept:name") trace.name = value;
    return;
  }
  if (key === "concept:name") event.name = value;
  else if (key === "time:timestamp") event.time = value;
  else if (key === "lifecycle:transition") event.transition = value.toLowerCase();
  else if (key === "concept:instance") event.instance = value;
}

function* executionsOf(
  trace: { name: string; events: XesEvent[] },
  number: number,
  options: ImportOptions,
): Generator<Imported> {
  const runId = (trace.name === "" ? `${options.fileId}-trace-${number}` : trace.name).slice(0, 128);
  /** Starts that wait for their completion, by activity and instance. */
  const started = new Map<string, number[]>();
  for (const [position, event] of trace.events.entries()) {
    if (event.name === "") {
      yield skipped("an event without concept:name");
      continue;
    }
    const atMs = instantOf(event.time);
    if (atMs === null) {
      yield skipped("a time that cannot be read");
      continue;
    }
    let startMs = atMs;
    if (options.lifecycle === "pair" || options.lifecycle === "complete") {
      const key = `${event.name}\u0000${event.instance}`;
      if (event.transition === "start" && options.lifecycle === "pair") {
        started.set(key, [...(started.get(key) ?? []), atMs]);
        continue;
      }
      if (event.transition !== "" && event.transition !== "complete") {
        yield skipped(`lifecycle ${event.transition}`);
        continue;
      }
      startMs = started.get(key)?.shift() ?? atMs;
    }
    // Joined as the standard joins the keys of a classifier.
    const task =
      options.lifecycle === "transition" && event.transition !== "" ? `${event.name}+${event.transition}` : event.name;
    yield execution(runId, task, position, startMs, atMs, options.fileId, number);
  }
  for (const left of started.values()) for (const _ of left) yield skipped("a start without its completion");
}

function execution(
  runId: string,
  task: string,
  position: number,
  startMs: number,
  endMs: number,
  fileId: string,
  trace: number,
): Imported {
  const executionId = `${fileId}-${trace}-${position}`;
  const parsed = Execution.safeParse({ runId, executionId, sequence: position, task, startMs, endMs });
  if (parsed.success) return { kind: "execution", execution: parsed.data };
  return skipped(`${parsed.error.issues[0]!.path.join(".")}: ${parsed.error.issues[0]!.message}`);
}

export const xes: Importer = {
  format: "xes",
  detects: (head) => /^\s*<(\?xml|!--|!DOCTYPE|([\w.-]+:)?log\b)/.test(head) && /<([\w.-]+:)?log\b/.test(head),
  read,
};
