// `forechain workspace`: the first key of a workspace cannot come from the API, which needs a key.
// In: a workspace's name. Out: the SQL that makes the workspace and lets one admin key in, and that key. The same code as the
// Worker's makes the key, and only its hash is stored.
import { Command, InvalidArgumentError } from "commander";
import { newKey } from "../edge/key-format.ts";

/** As in the names of clusters: it becomes part of Durable Objects' names and of event sources. */
const WORKSPACE = /^[a-z0-9][a-z0-9-]{0,62}$/;

const HELP = `
Standard output is SQL for the D1 database; the admin key is on standard error, this once.

Examples:
  $ forechain workspace acme > acme.sql
  $ npx wrangler d1 execute forechain --remote --file acme.sql`;

export function workspaceCommand(): Command {
  return new Command("workspace")
    .description("Makes the SQL for a new workspace with one admin key, for the database of a deployed worker.")
    .argument("<name>", "lower-case letters, digits and hyphens", workspaceName)
    .option("--json", "print {workspace, adminKey, sql} as one JSON value")
    .addHelpText("after", HELP)
    .action(async (workspace: string, options: { json?: boolean }) => {
      const { adminKey, sql } = await newWorkspace(workspace, Date.now());
      if (options.json) {
        process.stdout.write(`${JSON.stringify({ workspace, adminKey, sql })}\n`);
        return;
      }
      process.stdout.write(`${sql}\n`);
      process.stderr.write(`admin key of ${workspace}: ${adminKey}\n`);
    });
}

function workspaceName(text: string): string {
  if (WORKSPACE.test(text)) return text;
  throw new InvalidArgumentError("expected 1–63 lower-case letters, digits and hyphens, not a hyphen first.");
}

export async function newWorkspace(workspace: string, nowMs: number): Promise<{ adminKey: string; sql: string }> {
  const { keyId, key, secretSha256 } = await newKey();
  const sql = [
    `INSERT OR IGNORE INTO workspaces (workspace, created_ms) VALUES (${quoted(workspace)}, ${nowMs});`,
    "INSERT INTO keys (key_id, workspace, name, scopes, secret_sha256, created_ms)",
    `VALUES (${quoted(keyId)}, ${quoted(workspace)}, 'admin', '["admin"]', ${quoted(secretSha256)}, ${nowMs});`,
  ].join("\n");
  return { adminKey: key, sql };
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`;
}
