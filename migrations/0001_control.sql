-- Control plane: who may call, what the operator declared, what was allocated and what became of it.
-- Instants are ms since the epoch. Composite keys WITHOUT ROWID: one row written per insert (a rowid table with an index
-- writes two), and every read is a range of one workspace.

CREATE TABLE workspaces (
  workspace TEXT NOT NULL PRIMARY KEY,
  created_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE keys (
  key_id TEXT NOT NULL PRIMARY KEY,
  workspace TEXT NOT NULL,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL, -- JSON array of scopes
  cluster TEXT, -- agents' keys only: the one VM that the key opens
  vm TEXT,
  secret_sha256 TEXT NOT NULL, -- hex; the secret itself is nowhere
  created_ms INTEGER NOT NULL,
  revoked_ms INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX keys_by_workspace ON keys (workspace, created_ms);

CREATE TABLE clusters (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  labels TEXT NOT NULL, -- JSON object
  draining INTEGER NOT NULL, -- 0 or 1
  approved_hosts TEXT NOT NULL, -- JSON array of host patterns
  price_per_gb_second REAL NOT NULL,
  internal_latency_ms REAL NOT NULL, -- one way between two VMs
  declared_ms INTEGER NOT NULL,
  PRIMARY KEY (workspace, cluster)
) STRICT, WITHOUT ROWID;

CREATE TABLE vms (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  vm TEXT NOT NULL,
  url TEXT, -- NULL: not reachable from outside
  cpu_cores REAL NOT NULL,
  memory_bytes INTEGER NOT NULL,
  disk_bytes INTEGER,
  network_bytes_per_second REAL,
  draining INTEGER NOT NULL, -- 0 or 1
  PRIMARY KEY (workspace, cluster, vm)
) STRICT, WITHOUT ROWID;

CREATE TABLE services (
  workspace TEXT NOT NULL,
  service TEXT NOT NULL,
  kind TEXT NOT NULL,
  hosts TEXT NOT NULL, -- JSON array of hosts, with port
  probe_url TEXT,
  declared_ms INTEGER NOT NULL,
  PRIMARY KEY (workspace, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE proximity (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  peer TEXT NOT NULL, -- a service or another cluster
  latency_ms REAL NOT NULL,
  bandwidth_bytes_per_second REAL NOT NULL,
  PRIMARY KEY (workspace, cluster, peer)
) STRICT, WITHOUT ROWID;

CREATE TABLE task_declarations (
  workspace TEXT NOT NULL,
  task TEXT NOT NULL,
  declaration TEXT NOT NULL, -- JSON, protocol.ts TaskDeclaration
  declared_ms INTEGER NOT NULL,
  PRIMARY KEY (workspace, task)
) STRICT, WITHOUT ROWID;

CREATE TABLE policies (
  workspace TEXT NOT NULL PRIMARY KEY,
  policy TEXT NOT NULL, -- JSON, protocol.ts Policy
  declared_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Allocation ids begin with their time, so the key's order is the order of time: "recent" needs no index.
CREATE TABLE allocations (
  workspace TEXT NOT NULL,
  allocation_id TEXT NOT NULL,
  run_id TEXT NOT NULL,
  execution_id TEXT NOT NULL,
  task TEXT NOT NULL,
  state TEXT NOT NULL, -- pending, allocated, executed, failed, expired
  outcome TEXT, -- warm, cold, failed; NULL while unknown
  cluster TEXT,
  vm TEXT,
  answer TEXT NOT NULL, -- JSON, protocol.ts AllocationAnswer: the explanation
  created_ms INTEGER NOT NULL,
  PRIMARY KEY (workspace, allocation_id)
) STRICT, WITHOUT ROWID;

-- The hub settles an outcome once and gives it its time, so a retried flush meets the same key and changes nothing.
CREATE TABLE outcomes (
  workspace TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  outcome_id TEXT NOT NULL,
  command_id TEXT,
  kind TEXT NOT NULL, -- prefetch, warm, execute, evict, drain
  outcome TEXT NOT NULL, -- hit, late, miss, waste, failed
  cluster TEXT NOT NULL,
  vm TEXT NOT NULL,
  task TEXT,
  uri TEXT,
  run_id TEXT,
  execution_id TEXT,
  saved_ms REAL NOT NULL, -- latency taken off a user's path
  bytes INTEGER NOT NULL,
  gb_seconds REAL NOT NULL,
  reason TEXT,
  PRIMARY KEY (workspace, at_ms, outcome_id)
) STRICT, WITHOUT ROWID;

-- Running totals per hub: absolute numbers, so that writing them twice is harmless and old outcomes can be deleted.
CREATE TABLE outcome_totals (
  workspace TEXT NOT NULL,
  cluster TEXT NOT NULL,
  kind TEXT NOT NULL,
  outcome TEXT NOT NULL,
  count INTEGER NOT NULL,
  bytes INTEGER NOT NULL,
  gb_seconds REAL NOT NULL,
  saved_ms REAL NOT NULL,
  PRIMARY KEY (workspace, cluster, kind, outcome)
) STRICT, WITHOUT ROWID;
