// The first key of a workspace cannot come from the API, which needs a key. In: a workspace's name. Out: the admin key, and
// the SQL that makes the workspace and lets that key in; the same code as the Worker's makes the key, and only its hash is stored.
import { newKey } from "../edge/key-format.ts";

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
