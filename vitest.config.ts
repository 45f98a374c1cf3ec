// Three projects: `node` (core, engine, agent, importers), `edge` (inside workerd), then `process`: a Worker and agents as whole
// trees of processes. These measure or kill what they start, so they run last and one file at a time.
import { cloudflareTest, readD1Migrations } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

const PROCESSES = ["test/cli/**/*.test.ts", "test/soak/**/*.test.ts"];

export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: "node",
          environment: "node",
          include: ["test/**/*.test.ts"],
          exclude: ["test/edge/**", ...PROCESSES],
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        plugins: [
          cloudflareTest(async () => ({
            wrangler: { configPath: "./wrangler.toml" },
            miniflare: {
              bindings: {
                FORECHAIN_SECRET: "test-secret-of-at-least-32-characters",
                MIGRATIONS: await readD1Migrations("./migrations"),
              },
            },
          })),
        ],
        test: { name: "edge", include: ["test/edge/**/*.test.ts"], testTimeout: 30_000 },
      },
      {
        test: {
          name: "process",
          environment: "node",
          include: PROCESSES,
          fileParallelism: false,
          sequence: { groupOrder: 1 },
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
    ],
  },
});
