// Driver `http`: an endpoint that exists elsewhere (a function platform, an inference server) and becomes warm when it is asked.
// Start = ask until it answers; while a runtime of it is held it is asked again every `pingEveryMs`, or it would go cold unseen.
// Nothing is spawned and nothing can be ended: stop ends the asking. What it uses is not known here.
import type { TaskConfig } from "../config.ts";
import type { Driver, Started } from "./driver.ts";
import { answersReady } from "./ready.ts";

const PING_MS_MAX = 10_000;

export function httpDriver(task: TaskConfig & { driver: "http" }): Driver {
  const endpoint = new URL(task.endpoint);
  const secure = endpoint.protocol === "https:";
  return {
    start(): Promise<Started> {
      let end = () => {};
      const exited = new Promise<{ code: null; lastLines: string }>((resolve) => {
        end = () => resolve({ code: null, lastLines: "" });
      });
      const started: Started = {
        secure,
        host: endpoint.hostname.replace(/^\[|\]$/g, ""),
        port: Number(endpoint.port || (secure ? 443 : 80)),
        basePath: endpoint.pathname.replace(/\/$/, ""),
        exited,
        usage: () => null,
        resetPeak: () => {},
        stop: () => {
          clearInterval(pings);
          end();
          return Promise.resolve();
        },
      };
      const ping = () => {
        void answersReady(started, task.readyPath, PING_MS_MAX).then((answer) => {
          if (!answer.ok) end();
        });
      };
      const pings = task.pingEveryMs === undefined ? undefined : setInterval(ping, task.pingEveryMs);
      return Promise.resolve(started);
    },
  };
}
