// OTLP/JSON trace files: one export request, or one a line, as the collector's file exporter writes them.
import { decodeOtlpSpans } from "../core/spans.ts";
import { type Content, type Imported, type Importer, skipped } from "./format.ts";
import { jsonParts } from "./json-stream.ts";

async function* read(content: Content): AsyncGenerator<Imported> {
  const nowMs = Date.now();
  for await (const part of jsonParts(content, ["resourceSpans"])) {
    if ("malformed" in part) {
      yield skipped(`not JSON: ${part.malformed}`);
      continue;
    }
    if (part.key === null) {
      const others = Object.keys(part.value as object).filter((key) => key !== "resourceSpans");
      for (const key of others) if (/^resource(Metrics|Logs|Profiles)$/.test(key)) yield skipped(`${key}: not traces`);
      continue;
    }
    const request = part.key === "" ? part.value : { resourceSpans: [part.value] };
    const decoded = decodeOtlpSpans(request, nowMs);
    if ("reason" in decoded) {
      yield skipped(`not OTLP: ${decoded.detail}`);
      continue;
    }
    for (const span of decoded.spans) yield { kind: "span", span };
    for (const { reason } of decoded.rejected) yield skipped(reason.replace(/^span [0-9a-f]+: /, ""));
  }
}

/** Whether a value looks like an export request. */
export const otlp: Importer = {
  format: "otlp",
  detects: (head) => /^\s*[{[]/.test(head) && /"resourceSpans"\s*:/.test(head),
  read,
};
