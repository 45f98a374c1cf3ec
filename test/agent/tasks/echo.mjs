// A task of the tests: real HTTP on $PORT, driven by the request's path.
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { createServer } from "node:http";

const { PORT, FORECHAIN_OBJECTS, FORECHAIN_TOKEN, CRASH, START_OBJECT, GATE } = process.env;

async function object(uri, as, range) {
  const url = `${FORECHAIN_OBJECTS}?uri=${encodeURIComponent(uri)}${as ? `&as=${as}` : ""}`;
  return fetch(url, { headers: { authorization: `Bearer ${FORECHAIN_TOKEN}`, ...(range ? { range } : {}) } });
}

if (CRASH) {
  console.error(`cannot start: ${CRASH}`);
  process.exit(9);
}
if (START_OBJECT) await (await object(START_OBJECT)).arrayBuffer();
// Holds the start until the test opens the gate, and tells it where this program will listen.
if (GATE) await fetch(`${GATE}?port=${PORT}`);

createServer(async (request, response) => {
  const url = new URL(request.url, "http://task");
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  if (url.pathname === "/read") {
    const answer = await object(url.searchParams.get("uri"), url.searchParams.get("as"), url.searchParams.get("range"));
    const bytes = Buffer.from(await answer.arrayBuffer());
    const digest = createHash("sha256").update(bytes).digest("hex");
    response.setHeader("content-type", "application/json");
    response.end(
      JSON.stringify({
        status: answer.status,
        range: answer.headers.get("content-range"),
        bytes: bytes.length,
        digest,
        text: bytes.length < 500 ? bytes.toString() : undefined,
      }),
    );
  } else if (url.pathname === "/work") {
    const kept = Buffer.alloc(48 * 2 ** 20, 1);
    // 120 ms of CPU, however busy the machine is.
    const before = process.cpuUsage();
    let count = 0;
    while (process.cpuUsage(before).user < 120_000) count += kept[count % kept.length];
    response.setHeader("forechain-outputs", JSON.stringify([{ uri: "https://store/out", bytes: 12 }]));
    response.setHeader("forechain-services", JSON.stringify([{ service: "db", calls: 2, bytes: 30, latencyMs: 1.5 }]));
    response.end(`worked ${count > 0}`);
  } else if (url.pathname === "/grow") {
    const kept = [];
    for (;;) {
      kept.push(Buffer.alloc(8 * 2 ** 20, 1));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  } else if (url.pathname === "/wait") {
    await fetch(url.searchParams.get("gate"));
    response.end("waited");
  } else if (url.pathname === "/crash") {
    process.exit(3);
  } else if (url.pathname === "/break") {
    // Once the beginning is out: what is still under way when a connection breaks is lost with it.
    response.writeHead(200, { "content-length": 100 });
    response.write("begun", () => setTimeout(() => response.destroy(), 50));
  } else if (url.pathname === "/large") {
    response.end(Buffer.alloc(2 * 2 ** 20, 1));
  } else if (url.pathname === "/headers") {
    response.setHeader("set-cookie", ["a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT", "b=2"]);
    response.setHeader("connection", "x-hop");
    response.setHeader("x-hop", "1");
    response.end("headers");
  } else if (url.pathname === "/fail") {
    response.statusCode = 500;
    response.end("failed");
  } else if (url.pathname === "/child") {
    const child = spawn("sleep", ["1000"], { stdio: "ignore" });
    response.end(String(child.pid));
  } else if (url.pathname === "/healthz") {
    response.end("ready");
  } else {
    response.setHeader("content-type", "application/json");
    response.setHeader("x-task", "echo");
    response.end(
      JSON.stringify({
        method: request.method,
        url: request.url,
        headers: request.headers,
        body: body.toString(),
        pid: process.pid,
        env: Object.keys(process.env),
      }),
    );
  }
  // A container with a network of its own is called from outside of it.
}).listen(Number(PORT), process.env.HOST ?? "127.0.0.1");
