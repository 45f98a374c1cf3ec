// An auxiliary service of the demo: JSON records by key over HTTP, one listening port per cluster behind that cluster's link.
// GET /records/:key → the record (an empty one where there is none), PUT /records/:key ← a JSON object of at most 16 KiB.
import { type Answer, type Link, type LinkedServer, serveBehind } from "./link.ts";

const RECORD_BYTES_MAX = 16 * 1024;
const RECORDS_MAX = 10_000;
const JSON_HEADERS = { "content-type": "application/json" };

export class RecordService {
  calls = 0;
  readonly #records = new Map<string, string>();

  listen(link: Link): Promise<LinkedServer> {
    return serveBehind(link, (method, url, body) => this.#answer(method, url.pathname, body));
  }

  #answer(method: string, path: string, body: Buffer): Answer {
    const key = /^\/records\/([A-Za-z0-9._-]{1,128})$/.exec(path)?.[1];
    if (key === undefined) return fault(404, "no such path");
    this.calls++;
    if (method === "GET") {
      return { status: 200, headers: JSON_HEADERS, body: Buffer.from(this.#records.get(key) ?? "{}") };
    }
    if (method !== "PUT") return fault(405, "GET or PUT");
    if (body.length > RECORD_BYTES_MAX) return fault(413, `at most ${RECORD_BYTES_MAX} bytes`);
    if (!this.#records.has(key) && this.#records.size >= RECORDS_MAX) return fault(507, "full");
    this.#records.set(key, JSON.stringify(JSON.parse(body.toString("utf8"))));
    return { status: 200, headers: JSON_HEADERS, body: Buffer.from('{"stored":true}') };
  }
}

function fault(status: number, detail: string): Answer {
  return { status, headers: JSON_HEADERS, body: Buffer.from(JSON.stringify({ detail })) };
}
