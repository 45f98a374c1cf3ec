// The first page in a real browser, against a server that answers with fixed data: hostile names, both colour schemes, a phone.
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import { extname, join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { build, ROOT } from "../../src/cli/build.ts";

const CHROMIUM = process.env.CHROMIUM ?? "/usr/bin/chromium";
const KEY = "fck_000000000000_test";
const HOSTILE = `<img src=x onerror="document.title='owned'">`;
const TYPES: Record<string, string> = { ".html": "text/html", ".js": "text/javascript", ".css": "text/css" };
const NOW_MS = Date.now();

const VM = {
  vm: "one",
  url: null,
  cpuCores: 2,
  memoryBytes: 2e9,
  networkBytesPerSecond: null,
  draining: false,
  lastHeartbeatMs: NOW_MS,
  cpuLoad: 0.42,
  memoryUsedBytes: 3e8,
  executions: 1,
  tasks: ["a"],
  warm: { [HOSTILE]: 2 },
  starting: { b: 1 },
  uris: ["http://store/a.bin"],
};

const transition = (source: string, target: string, probability: number) => ({
  source,
  target,
  kind: "sequence",
  count: Math.round(probability * 40),
  weight: 1,
  probability,
  multiplicity: 1,
  delayMs: { p10: 5, p50: 12, p90: 40 },
  transferBytes: null,
});

const ANSWERS: Record<string, unknown> = {
  "/v1/policy": { mode: "shadow" },
  "/v1/clusters": {
    clusters: [
      {
        cluster: "east",
        labels: {},
        draining: false,
        pricePerGbSecond: 0,
        internalLatencyMs: 0.5,
        reservedMemoryBytes: 0,
        reservedCpuCores: 0,
        proximity: {},
        vms: [VM],
      },
    ],
  },
  "/v1/outcomes": {
    totals: [
      { kind: "warm", outcome: "hit", count: 30, unsent: 0, bytes: 0, gbSeconds: 1.5, savedMs: 6_000 },
      { kind: "warm", outcome: "miss", count: 30, unsent: 20, bytes: 0, gbSeconds: 0, savedMs: 0 },
      { kind: "prefetch", outcome: "waste", count: 2, unsent: 0, bytes: 2_000_000, gbSeconds: 0, savedMs: 0 },
    ],
    recent: [],
    alerts: [{ kind: "never_prepared", task: HOSTILE, count: 12, detail: `Users waited for 12 starts of ${HOSTILE}` }],
    scores: {
      predictions: 400,
      logLoss: 0.21,
      brier: 0.05,
      bins: Array.from({ length: 10 }, (_, bin) =>
        bin === 4 ? { count: 0, foretold: null, happened: null } : { count: 40, foretold: bin / 10, happened: bin / 9 },
      ),
      leadTimes: { count: 50, early: 0.1, covered: 0.82, late: 0.08 },
      demand: {
        runs: 20,
        relativeError: 0.07,
        memory: { runs: 20, relativeError: 0.2 },
        network: { runs: 0, relativeError: null },
        duration: { runs: 20, relativeError: 0.12 },
      },
    },
  },
  "/v1/learning": {
    frozen: ["gate"],
    model: { version: 7, tasks: 5, usedLines: 10, lines: 100, unpublishedRuns: 0 },
    starts: [{ task: HOSTILE, count: 12, wholeStartMs: { p10: 100, p50: 250, p90: 400 } }],
    margins: [],
    gate: [],
    placement: [],
    placementOffsets: [],
    holds: [
      {
        cluster: "east",
        task: "check",
        policy: "histogram",
        holdMs: 120_000,
        weights: { none: 0.1, fixed: 0.1, histogram: 0.7, "keep-warm": 0.1 },
      },
    ],
    scores: {},
    drift: {
      alert: true,
      relearning: [{ root: "check", runs: 12 }],
      changes: [{ root: "check", atMs: NOW_MS, usualLoss: 0.1, loss: 4 }],
    },
  },
  "/v1/graph": {
    version: 7,
    tasks: ["check", HOSTILE, "freight", "confirm", "retry"].map((task) => ({ task, count: 40 })),
    transitions: [
      transition("check", HOSTILE, 0.75),
      transition("check", "freight", 0.25),
      transition(HOSTILE, "confirm", 1),
      transition("freight", "confirm", 1),
      transition("check", "confirm", 0.01),
      transition("confirm", "retry", 0.1),
      transition("retry", "check", 1),
    ],
  },
  "/v1/chains": {
    chains: [
      {
        tasks: ["check", HOSTILE, "confirm"],
        probability: 0.75,
        score: 1234,
        resourceDemand: 0.5,
        latencySensitivity: 1,
        runs: 30,
        runsPerHour: 12,
      },
    ],
    total: 1,
    offset: 0,
  },
  "/v1/predictions": {
    modelVersion: 7,
    next: [
      { task: HOSTILE, probability: 0.75 },
      { task: null, probability: 0.25 },
    ],
    reach: [
      {
        task: HOSTILE,
        probability: 0.75,
        leadTimeMs: { p10: 5, p50: 12, p90: 40 },
        multiplicity: 2.5,
        route: ["check", HOSTILE],
      },
      {
        task: "confirm",
        probability: 0.7,
        leadTimeMs: { p10: 90, p50: 120, p90: 400 },
        multiplicity: 1,
        route: ["check", HOSTILE, "confirm"],
      },
    ],
    chains: [],
    demand: { cpuMs: 90, peakMemoryBytes: 5e8, networkBytes: 2e6, prefetch: [{}, {}] },
  },
  "/v1/allocations": {
    allocations: [
      {
        allocationId: "a1",
        runId: "r1",
        executionId: "e1",
        task: HOSTILE,
        state: "executed",
        createdMs: NOW_MS,
        outcome: "cold",
        mode: "shadow",
        cluster: "east",
        vm: "one",
        chain: [HOSTILE, "confirm"],
        plan: [
          {
            commandId: "c1",
            kind: "warm",
            task: "confirm",
            probability: 0.9,
            notBeforeMs: NOW_MS,
            deadlineMs: NOW_MS + 400,
            savedMs: 210,
          },
        ],
        skipped: [{ kind: "warm", task: "retry", probability: 0.1, savedMs: 0, reason: "below the gate" }],
        alternatives: [
          {
            chain: [HOSTILE],
            cluster: "east",
            totalMs: 80,
            terms: { servicesMs: 10, transferMs: 20, coldStartMs: 30, queueMs: 5, hopsMs: 15, priceMs: 0 },
          },
        ],
        refused: [{ cluster: "west", reason: "cluster is draining" }],
        modelVersion: 7,
      },
    ],
  },
};

function listen(): Promise<{ server: Server; url: string }> {
  const server = createServer(async (request, response) => {
    const path = new URL(request.url ?? "/", "http://x").pathname;
    if (path.startsWith("/v1/")) {
      const known = request.headers.authorization === `Bearer ${KEY}`;
      response.writeHead(known ? 200 : 401, {
        "content-type": known ? "application/json" : "application/problem+json",
      });
      response.end(JSON.stringify(known ? ANSWERS[path] : { title: "Unauthorized", detail: "unknown key" }));
      return;
    }
    const file = join(ROOT, "build/dashboard", path === "/" ? "index.html" : path);
    response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
    response.end(await readFile(file).catch(() => ""));
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      resolve({ server, url: `http://127.0.0.1:${port}` });
    });
  });
}

const missing = existsSync(CHROMIUM) ? "" : ` (skipped: no ${CHROMIUM})`;

describe.skipIf(missing !== "")(`the first page${missing}`, () => {
  let browser: Browser;
  let server: Server;
  let url: string;

  beforeAll(async () => {
    await build();
    ({ server, url } = await listen());
    const args = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"];
    browser = await chromium.launch({ executablePath: CHROMIUM, args });
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  async function signedIn(options: Parameters<Browser["newPage"]>[0] = {}): Promise<Page> {
    const page = await browser.newPage(options);
    await page.goto(url);
    await page.getByLabel(/A key with scope/).fill(KEY);
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByRole("heading", { name: "Recent allocations" }).waitFor();
    return page;
  }

  it("tells a wrong key and asks again", async () => {
    const page = await browser.newPage();
    await page.goto(url);
    expect(await page.getByRole("heading", { name: "Clusters" }).isVisible()).toBe(false);
    await page.getByLabel(/A key with scope/).fill("fck_wrong");
    await page.getByRole("button", { name: "Show" }).click();
    await page.getByText("unknown key").waitFor();
    expect(await page.getByLabel(/A key with scope/).isVisible()).toBe(true);
    await page.close();
  });

  it("shows what Forechain knows, with names as text", async () => {
    const page = await signedIn();
    const errors: string[] = [];
    page.on("pageerror", (error) => errors.push(error.message));
    await page.getByText("mode shadow · 5 tasks · graph version 7").waitFor();
    const headline = page.locator("#headline");
    expect(await headline.textContent()).toContain("75 %of what executions needed had been prepared");
    expect(await headline.textContent()).toContain("6 sof waiting saved");
    const alerted = await headline.getByRole("alert").textContent();
    expect(alerted).toContain(`Users waited for 12 starts of ${HOSTILE}`);
    const scores = await page.locator("#scores").textContent();
    expect(scores).toContain(
      "400 predictions: log-loss 0.210, Brier 0.050; 82 % of lead times between p10 and p90; CPU off by 7.0 %; memory off by 20 %; duration off by 12 %",
    );
    await page.getByRole("img", { name: "hit 30, miss 10, unsent 20" }).waitFor();
    const bar = page.locator("svg.outcomes", { has: page.locator("rect.hit") }).locator("rect");
    expect(await bar.evaluateAll((parts) => parts.map((part) => part.getAttribute("width")))).toEqual([
      "50",
      "16.666666666666668",
      "33.333333333333336",
    ]);
    expect(await page.locator("svg.reliability circle").count()).toBe(9);
    const learned = await page.locator("#learning").textContent();
    for (const text of ["The runs of check changed at", "Frozen: gate", "histogram (70 %)", "120 s", HOSTILE])
      expect(learned).toContain(text);
    const asked = page.waitForRequest((request) => /outcomes\?limit=0$/.test(request.url()));
    await page.getByLabel("In", { exact: true }).selectOption({ label: "all time" });
    await asked;
    expect(await page.locator("#clusters").textContent()).toContain(`${HOSTILE} × 2`);
    expect(await page.locator("svg.graph rect").count()).toBe(5);
    expect(await page.locator("svg.graph > g > path").count()).toBe(7);
    await page.locator("#allocations summary").first().click();
    const told = await page.locator("#allocations").textContent();
    for (const text of [
      "below the gate",
      "cluster is draining",
      "warm confirm",
      "80 ms",
      "Would have been prepared (not sent: shadow)",
    ])
      expect(told).toContain(text);
    expect(await page.getByLabel(/A key with scope/).isVisible()).toBe(false);
    expect(await page.title()).toBe("Forechain");
    expect(await page.locator("img").count()).toBe(0);
    expect(errors).toEqual([]);
    await page.close();
  });

  it("keeps what it shows when the server goes away, and says so", async () => {
    const page = await signedIn();
    await page.getByText("mode shadow").waitFor();
    await page.context().setOffline(true);
    await page.getByText(/Not up to date: the server does not answer; this is what was known at \d/).waitFor();
    expect(await page.locator("#clusters").textContent()).toContain("east / one");
    await page.context().setOffline(false);
    await page.locator("#status").filter({ hasNotText: "Not up to date" }).waitFor({ state: "attached" });
    await page.close();
  });

  it("draws what follows a task that is chosen in the graph, and keeps it in the address", async () => {
    const page = await signedIn();
    // Nobody has asked yet: what follows the first task of the best chain.
    await page.locator("#forecast strong", { hasText: "check" }).waitFor();
    await page.locator("svg.graph a", { hasText: "freight" }).click();
    await page.locator("#forecast strong", { hasText: "freight" }).waitFor();
    expect(new URL(page.url()).hash).toBe("#task=freight");
    expect(await page.locator("#forecast").textContent()).toContain("the end 25 %");
    expect(await page.locator("#forecast").textContent()).toMatch(
      /2(\.0)? MB over the network, of 2 objects that it may read\./,
    );
    const bars = await page
      .locator("svg.time-line rect")
      .evaluateAll((rects) => rects.map((rect) => Number(rect.getAttribute("x"))));
    expect(bars).toHaveLength(2);
    expect(bars[0]).toBeLessThan(bars[1]!);
    expect(await page.locator("svg.time-line").textContent()).toContain("75 % × 2.5");
    expect(await page.locator("#chains").textContent()).toContain(`check → ${HOSTILE.slice(0, 15)}…`);
    expect(await page.locator("#chains a").nth(1).getAttribute("title")).toBe(HOSTILE);
    expect(await page.locator("img").count()).toBe(0);
    await page.close();
  });

  it("leads by keyboard from the key to every part, in reading order, with the focus to be seen", async () => {
    const page = await browser.newPage();
    await page.goto(url);
    await page.getByLabel(/A key with scope/).focus();
    await page.keyboard.type(KEY);
    await page.keyboard.press("Enter");
    await page.locator("svg.graph").waitFor();
    await page.locator("#summary:focus").waitFor();
    const passed: string[] = [];
    for (let press = 0; press < 40 && !passed.includes("graph-table"); press++) {
      await page.keyboard.press("Tab");
      const [name, outline] = (await page.evaluate(`(() => {
        const at = document.activeElement;
        return [at.id || at.parentElement.id || at.getAttribute("aria-label") || at.getAttribute("href"), getComputedStyle(at).outlineStyle];
      })()`)) as [string, string];
      expect(outline, name).toBe("solid");
      passed.push(name);
    }
    expect(passed.slice(0, 3)).toEqual(["leave", "fit", "graph"]);
    const boxes = await page
      .locator("svg.graph a rect")
      .evaluateAll((rects) => rects.map((rect) => Number(rect.getAttribute("x"))));
    expect(passed).toHaveLength(3 + boxes.length + 1);
    expect(boxes).toEqual(boxes.toSorted((a, b) => a - b));
    await page.close();
  });

  it("draws the best chains of a large graph, and the most frequent tasks when asked", async () => {
    const { "/v1/graph": small } = ANSWERS;
    const tasks = Array.from({ length: 2_000 }, (_, i) => ({ task: `t${i}`, count: 3_000 - i }));
    const hub = tasks.slice(1, 60).flatMap(({ task }) => [transition("t0", task, 0.1), transition(task, "t0", 0.2)]);
    const chain = ["check", HOSTILE, "confirm"];
    ANSWERS["/v1/graph"] = {
      ...(small as object),
      tasks: [...tasks, ...chain.map((task) => ({ task, count: 1 }))],
      transitions: [...hub, transition("check", HOSTILE, 0.75), transition(HOSTILE, "confirm", 1)],
    };
    try {
      const page = await signedIn();
      await page.getByText("1 chain where preparation pays most: 3 of 2,003 tasks and 2 of 120 transitions").waitFor();
      expect(await page.locator("svg.graph a title").allTextContents()).toEqual(
        chain.map((task) => `${task}: 1 execution`),
      );
      expect(await page.locator("svg.graph > g > path").count()).toBe(2);
      await page.getByLabel("Most frequent tasks instead of the best chains").check();
      await page.getByText("The most frequent: 60 of 2,003 tasks and 80 of 120 transitions").waitFor();
      expect(await page.locator("svg.graph a").count()).toBe(60);
      await page.close();
    } finally {
      ANSWERS["/v1/graph"] = small;
    }
  });

  it("fits a phone in the dark, without scrolling sideways", async () => {
    const page = await signedIn({ viewport: { width: 360, height: 740 }, colorScheme: "dark" });
    await page.locator("svg.time-line").waitFor();
    await page.locator("#allocations summary").first().click();
    const { wide, background } = (await page.evaluate(`({
      wide: document.documentElement.scrollWidth - innerWidth,
      background: getComputedStyle(document.body).backgroundColor,
    })`)) as { wide: number; background: string };
    expect(wide).toBeLessThanOrEqual(0);
    // Nor has one to scroll to see when something is expected.
    const line = page.locator(".scroll", { has: page.locator("svg.time-line") });
    expect(await line.evaluate((box) => box.scrollWidth - box.clientWidth)).toBeLessThanOrEqual(0);
    expect(background).toBe("rgb(21, 23, 26)");
    if (process.env.SCREENSHOTS)
      await page.screenshot({ path: join(process.env.SCREENSHOTS, "phone.png"), fullPage: true });
    await page.close();
  });

  it("draws on a desk", async () => {
    const page = await signedIn({ viewport: { width: 1280, height: 900 }, colorScheme: "light" });
    await page.getByText("mode shadow").waitFor();
    await page.locator("#allocations summary").first().click();
    // Nodes of one layer do not lie on each other.
    const boxes = await page
      .locator("svg.graph rect")
      .evaluateAll((rects) => rects.map((rect) => `${rect.getAttribute("x")},${rect.getAttribute("y")}`));
    expect(new Set(boxes).size).toBe(5);
    // Names end inside their boxes, whatever font the system has.
    const room = (await page.evaluate(`[...document.querySelectorAll("svg.graph a")].map((node) => {
      const right = (element) => element.getBoundingClientRect().right;
      return right(node.querySelector("rect")) - Math.max(...[...node.querySelectorAll("text")].map(right));
    })`)) as number[];
    expect(room).toHaveLength(5);
    expect(Math.min(...room)).toBeGreaterThan(0);
    if (process.env.SCREENSHOTS)
      await page.screenshot({ path: join(process.env.SCREENSHOTS, "desk.png"), fullPage: true });
    await page.close();
  });
});
