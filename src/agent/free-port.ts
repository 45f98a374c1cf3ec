// A port of this machine that nobody listens on. Another process may take it before it is used: who starts something there tries again.
import { once } from "node:events";
import { createServer } from "node:net";

const HOST = "127.0.0.1";

/** `port` itself where it is free, any free one for 0. Errors: as `listen` has them (EADDRINUSE, EACCES). */
export async function freePort(port = 0): Promise<number> {
  const server = createServer();
  await once(server.listen(port, HOST), "listening");
  const address = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return address.port;
}
