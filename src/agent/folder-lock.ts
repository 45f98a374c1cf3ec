// One agent per folder: a second one would remove what the first is loading and what its programs run in. In: folders. Out: they are held
// until the process ends, however it ends; or an error that names the folder. The lock is an abstract socket, a name that the kernel
// forgets with its process, so that no stale lock is left. Linux has them; elsewhere nothing is held.
import { createHash } from "node:crypto";
import { once } from "node:events";
import { realpath } from "node:fs/promises";
import { createServer, type Server } from "node:net";
import { makeFolder } from "./folders.ts";

/** Gives how to let go of them. */
export async function holdFolders(folders: string[], platform: string = process.platform): Promise<() => void> {
  const held: Server[] = [];
  const release = () => {
    for (const server of held) server.close();
  };
  const real = await Promise.all(
    folders.map(async (folder) => {
      await makeFolder(folder);
      return realpath(folder);
    }),
  );
  if (platform !== "linux") return release;
  for (const folder of new Set(real)) {
    const server = createServer((socket) => socket.destroy());
    // A socket's name has 107 bytes at most.
    server.listen({ path: `\0forechain-agent-${createHash("sha256").update(folder).digest("hex")}` });
    try {
      await once(server, "listening");
    } catch (error) {
      release();
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      throw new Error(`another agent of this machine uses ${folder}: one folder each, or stop it first`);
    }
    server.unref();
    held.push(server);
  }
  return release;
}
