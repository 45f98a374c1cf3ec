-- The graph: what was learned from executions, one writer per workspace (the GraphWriter Durable Object).
-- `counts` holds a row's integers as JSON (src/core/contribution.ts names them): what the writer goes on counting from. The
-- other columns are made of them at each flush, for people and their queries. Composite keys WITHOUT ROWID: one row written
-- per upsert. Probabilities and sensitivities are 0–1. NULL is unknown, and unknown is not 0.

-- The last flush of each workspace that is whole in the tables below. A retried flush writes the same values again.
CREATE TABLE graph_applied (
  workspace TEXT NOT NULL PRIMARY KEY,
  batch_id INTEGER NOT NULL, -- last journal entry that the rows hold
  model_version INTEGER NOT NULL, -- published when the flush was made
  newest_day INTEGER, -- days since the epoch; weights are measured from it
  applied_ms INTEGER NOT NULL -- since the epoch
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_runs (
  workspace TEXT NOT NULL PRIMARY KEY,
  runs INTEGER NOT NULL, -- sealed runs
  skewed INTEGER NOT NULL, -- runs whose clocks disagreed
  cyclic INTEGER NOT NULL, -- runs whose triggers formed a circle
  orphans INTEGER NOT NULL, -- executions whose parent never came
  counts TEXT NOT NULL -- JSON object of integers
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_tasks (
  workspace TEXT NOT NULL,
  task TEXT NOT NULL,
  version TEXT NOT NULL, -- '' where unknown
  count INTEGER NOT NULL, -- executions; attempts of one execution count once
  roots INTEGER NOT NULL, -- executions that nothing triggered
  errors INTEGER NOT NULL, -- executions that ended in an error or a time-out
  retries INTEGER NOT NULL, -- attempts that another attempt replaced
  cold_starts INTEGER NOT NULL, -- executions that started cold
  duration_p50_ms REAL, -- warm: without the cold start
  duration_p90_ms REAL,
  cold_start_p50_ms REAL,
  cold_start_p90_ms REAL,
  cpu_p50_ms REAL,
  memory_p90_bytes REAL,
  output_p50_bytes REAL,
  latency_sensitivity REAL NOT NULL, -- share of a delay that reaches the end of the run
  counts TEXT NOT NULL, -- JSON object of integers
  PRIMARY KEY (workspace, task, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_transitions (
  workspace TEXT NOT NULL,
  source TEXT NOT NULL,
  target TEXT NOT NULL,
  kind TEXT NOT NULL, -- call, sequence, link
  count INTEGER NOT NULL, -- executions of the target by this transition; never decayed
  weight REAL NOT NULL, -- the same, halved per week of event time before newest_day
  probability REAL NOT NULL, -- share of the source's executions that trigger the target
  multiplicity REAL NOT NULL, -- targets per source execution that triggers any
  delay_p10_ms REAL, -- from the source's end, or from its start where the target starts before that
  delay_p50_ms REAL,
  delay_p90_ms REAL,
  transfer_bytes REAL, -- mean of those executions where it is known
  counts TEXT NOT NULL, -- JSON object of integers
  PRIMARY KEY (workspace, source, target, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_services (
  workspace TEXT NOT NULL,
  task TEXT NOT NULL,
  service TEXT NOT NULL,
  executions INTEGER NOT NULL, -- executions of the task that talked to it
  calls INTEGER NOT NULL,
  bytes INTEGER NOT NULL, -- both ways, all calls
  latency_ms REAL, -- mean of one call
  counts TEXT NOT NULL, -- JSON object of integers
  PRIMARY KEY (workspace, task, service)
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_objects (
  workspace TEXT NOT NULL,
  task TEXT NOT NULL,
  uri TEXT NOT NULL,
  count INTEGER NOT NULL, -- executions of the task that read it
  bytes REAL NOT NULL, -- mean size
  counts TEXT NOT NULL, -- JSON object of integers
  PRIMARY KEY (workspace, task, uri)
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_templates (
  workspace TEXT NOT NULL,
  task TEXT NOT NULL,
  template TEXT NOT NULL, -- a URI with {parameter} in path segments
  count INTEGER NOT NULL, -- executions of the task that read such an object
  bytes REAL NOT NULL, -- mean size
  counts TEXT NOT NULL, -- JSON object of integers
  PRIMARY KEY (workspace, task, template)
) STRICT, WITHOUT ROWID;

CREATE TABLE graph_chains (
  workspace TEXT NOT NULL,
  chain TEXT NOT NULL, -- JSON array of task names, from a run's root to a leaf
  runs INTEGER NOT NULL, -- runs that had it
  probability REAL NOT NULL, -- share of the root task's runs
  resource_demand REAL NOT NULL, -- CPU seconds, GB seconds and bytes of one run, in CPU seconds
  latency_sensitivity REAL NOT NULL, -- of its tasks, weighted by their cold starts
  score REAL NOT NULL, -- avoidable ms per hour × sensitivity ÷ demand
  counts TEXT NOT NULL, -- JSON object of integers
  PRIMARY KEY (workspace, chain)
) STRICT, WITHOUT ROWID;
