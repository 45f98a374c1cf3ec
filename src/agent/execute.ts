// A call of a task that comes as a command, because the gateway cannot reach this VM. In: the command. Out: the result that
// carries the answer, which has to fit into a report.
import { PassThrough } from "node:stream";
import { CONTEXT_HEADER, type Command } from "../protocol.ts";
import { failed, type Outcome } from "./commands.ts";
import type { Invoker } from "./invoke.ts";
import { parseContext } from "./server.ts";

const ANSWER_BYTES_MAX = 2 ** 20;

export async function execute(invoker: Invoker, command: Command, gone: AbortSignal): Promise<Outcome> {
  const { request, task } = command;
  if (request === undefined || task === undefined) return failed("an execute without a task or a request");
  const context = parseContext(request.headers[CONTEXT_HEADER]);
  if (context === null) return failed("an execute without a context");
  const body = new PassThrough();
  body.end(Buffer.from(request.body, "base64"));
  const { method, path, headers } = request;
  const answer = await invoker.invoke({ task, context, method, path, headers, body, gone });
  if (!answer.ok) return failed(`${answer.status} ${answer.title}: ${answer.detail}`);
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer.body as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > ANSWER_BYTES_MAX) {
      answer.body.destroy();
      return failed(`the answer is larger than the ${ANSWER_BYTES_MAX} bytes that a report may carry`);
    }
    chunks.push(chunk);
  }
  const flat = Object.entries(answer.headers).map(([name, value]) => [name, [value].flat().join(", ")]);
  return {
    state: "done",
    response: {
      status: answer.status,
      headers: Object.fromEntries(flat),
      body: Buffer.concat(chunks).toString("base64"),
    },
  };
}
