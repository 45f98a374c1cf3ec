// A call of a task that comes as a command, because the gateway cannot reach this VM. In: the command. Out: the result that
// carries the answer, which has to fit into a report.
import { PassThrough, type Readable } from "node:stream";
import { COLD_START_HEADER, CONTEXT_HEADER, type Command } from "../protocol.ts";
import { failed, type Outcome } from "./commands.ts";
import type { Answered, Invoker } from "./invoke.ts";
import { PROBLEM_TYPE, type Problem, parseContext, problemText } from "./server.ts";

const ANSWER_BYTES_MAX = 2 ** 20;

/** Nobody can be seen to leave behind a queue: the task's time and the agent's stop bound the call. */
const NEVER = new AbortController().signal;

export async function execute(invoker: Invoker, command: Command): Promise<Outcome> {
  const { request, task } = command;
  if (request === undefined || task === undefined) return failed("an execute without a task or a request");
  const context = parseContext(request.headers[CONTEXT_HEADER]);
  if (context === null) return failed("an execute without a context");
  const body = new PassThrough();
  body.end(Buffer.from(request.body, "base64"));
  const { method, path, headers } = request;
  const answer = await invoker.invoke({ task, context, method, path, headers, body, gone: NEVER });
  if (!answer.ok) return refusalOf(answer);
  const whole = await wholeBody(answer.body);
  if (typeof whole === "string") return failureOf({ status: 502, title: "Task failed", detail: whole });
  const cold = { [COLD_START_HEADER]: answer.coldStartMs.toFixed(1) };
  const response = { status: answer.status, headers: { ...answer.headers, ...cold }, body: whole.toString("base64") };
  return { state: "done", response };
}

/** As over HTTP: 404 and 503 say that nothing has begun, so that another VM may be tried; the rest is for the caller. */
function refusalOf(answer: Answered & { ok: false }): Outcome {
  const { status, title, detail } = answer;
  if (status === 404 || status === 503) return failed(`refused: ${status} ${title}: ${detail}`);
  return failureOf(answer);
}

function failureOf(problem: Problem): Outcome {
  const { status, title, detail } = problem;
  const body = Buffer.from(problemText(problem)).toString("base64");
  const response = { status, headers: { "content-type": PROBLEM_TYPE }, body };
  return { ...failed(`${status} ${title}: ${detail}`), response };
}

/** Or why there is none. */
async function wholeBody(body: Readable): Promise<Buffer | string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      bytes += chunk.length;
      if (bytes > ANSWER_BYTES_MAX)
        return `The answer is larger than the ${ANSWER_BYTES_MAX} bytes that a VM without a URL can send.`;
      chunks.push(chunk);
    }
  } catch (error) {
    return `The answer broke off after ${bytes} bytes: ${(error as Error).message}.`;
  }
  return Buffer.concat(chunks);
}
