// Events to the operator's webhook: CloudEvents 1.0 (structured JSON), signed as Standard Webhooks does it
// (https://www.standardwebhooks.com: `webhook-signature: v1,base64(HMAC-SHA-256(id.timestamp.body))`), at least once.
// In: an event. Out: a delivery in SQLite that is tried until it is accepted, a bounded number of times.
import type { ClusterRefusal, Demand } from "../../protocol.ts";
import { toBase64, webhookKey } from "../secrets.ts";

/** Waits after each failed try, ms. */
const RETRY_AFTER_MS = [5_000, 30_000, 120_000, 600_000, 3_600_000];
const TIMEOUT_MS = 10_000;
/** Deliveries under way, per workspace; beyond, the oldest is given up. */
const DELIVERIES_MAX = 1_000;

/** Nothing is suitable for a chain: this much capacity would make it fit. */
interface ScaleOut {
  allocationId: string;
  task: string;
  runId: string;
  demand: Demand;
  refused: ClusterRefusal[];
  /** Requests that wait for capacity now. */
  pending: number;
}

export function scaleOutEvent(workspace: string, id: string, data: ScaleOut, nowMs: number): object {
  return {
    specversion: "1.0",
    id,
    source: `/forechain/${encodeURIComponent(workspace)}`,
    type: "dev.forechain.scale-out",
    subject: data.task,
    time: new Date(nowMs).toISOString(),
    datacontenttype: "application/json",
    data,
  };
}

interface Row extends Record<string, SqlStorageValue> {
  event_id: string;
  url: string;
  body: string;
  attempt: number;
}

export class Webhook {
  readonly #sql: SqlStorage;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
    sql.exec(`
      CREATE TABLE IF NOT EXISTS deliveries (
        event_id TEXT NOT NULL PRIMARY KEY,
        url TEXT NOT NULL,
        body TEXT NOT NULL, -- JSON, the CloudEvent
        attempt INTEGER NOT NULL, -- tries so far
        next_ms INTEGER NOT NULL
      ) STRICT, WITHOUT ROWID;
    `);
  }

  enqueue(eventId: string, url: string, event: object, nowMs: number): void {
    this.#sql.exec(
      "INSERT INTO deliveries (event_id, url, body, attempt, next_ms) VALUES (?, ?, ?, 0, ?) ON CONFLICT DO NOTHING",
      eventId,
      url,
      JSON.stringify(event),
      nowMs,
    );
    this.#sql.exec(
      `DELETE FROM deliveries WHERE event_id IN (SELECT event_id FROM deliveries ORDER BY event_id DESC LIMIT -1 OFFSET ?)`,
      DELIVERIES_MAX,
    );
  }

  nextMs(): number | null {
    return this.#sql.exec<{ at: number | null }>("SELECT min(next_ms) AS at FROM deliveries").one().at;
  }

  /** Tries what is due, one after the other. */
  async deliver(secret: string, workspace: string, nowMs: number): Promise<void> {
    const due = this.#sql
      .exec<Row>("SELECT * FROM deliveries WHERE next_ms <= ? ORDER BY next_ms LIMIT 20", nowMs)
      .toArray();
    for (const row of due) {
      const accepted = await send(secret, workspace, row, nowMs);
      const waitMs = RETRY_AFTER_MS[row.attempt];
      if (accepted || waitMs === undefined) {
        if (!accepted) console.error(`webhook event ${row.event_id} was given up after ${row.attempt + 1} tries`);
        this.#sql.exec("DELETE FROM deliveries WHERE event_id = ?", row.event_id);
      } else {
        this.#sql.exec(
          "UPDATE deliveries SET attempt = attempt + 1, next_ms = ? WHERE event_id = ?",
          nowMs + waitMs,
          row.event_id,
        );
      }
    }
  }
}

/** True where the receiver took it, or said that it is gone for good. */
async function send(secret: string, workspace: string, { event_id, url, body }: Row, nowMs: number): Promise<boolean> {
  const timestamp = String(Math.floor(nowMs / 1000));
  const { hmac } = await webhookKey(secret, workspace);
  const signed = await crypto.subtle.sign("HMAC", hmac, new TextEncoder().encode(`${event_id}.${timestamp}.${body}`));
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: {
        "content-type": "application/cloudevents+json; charset=utf-8",
        "webhook-id": event_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": `v1,${toBase64(new Uint8Array(signed))}`,
      },
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    await response.body?.cancel();
    return response.ok || response.status === 410;
  } catch {
    return false;
  }
}

/** The secret with which the receiver checks signatures, in the form that Standard Webhooks' libraries take. */
export async function webhookSecret(secret: string, workspace: string): Promise<string> {
  const { text } = await webhookKey(secret, workspace);
  return `whsec_${text.replaceAll("-", "+").replaceAll("_", "/")}=`;
}
