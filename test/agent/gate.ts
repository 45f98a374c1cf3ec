// A gate for tests: whoever asks it waits until it is opened. It ends with the test.
import { createServer, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { onTestFinished } from "vitest";

export class Gate {
  readonly #server: Server;
  readonly #held: ServerResponse[] = [];
  #open = false;
  /** Who has asked, ever. */
  asked = 0;
  #watchers: (() => void)[] = [];

  private constructor() {
    this.#server = createServer((_request, response) => {
      this.asked++;
      if (this.#open) response.end();
      else this.#held.push(response);
      for (const look of this.#watchers.splice(0)) look();
    });
  }

  static async start(): Promise<Gate> {
    const gate = new Gate();
    await new Promise<void>((resolve) => gate.#server.listen(0, "127.0.0.1", resolve));
    onTestFinished(() => {
      gate.open();
      gate.#server.closeAllConnections();
      gate.#server.close();
    });
    return gate;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  /** Who waits now. */
  get held(): number {
    return this.#held.length;
  }

  async untilHeld(count: number): Promise<void> {
    while (this.#held.length < count) await new Promise<void>((resolve) => this.#watchers.push(resolve));
  }

  open(): void {
    this.#open = true;
    for (const response of this.#held.splice(0)) response.end();
  }
}
