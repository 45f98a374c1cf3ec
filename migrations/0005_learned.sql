-- What was learned and is to stay as it is: asked, no longer changed. A row per frozen part (protocol.ts LearnedPart).
CREATE TABLE learning_frozen (
  workspace TEXT NOT NULL,
  part TEXT NOT NULL,
  since_ms INTEGER NOT NULL, -- since the epoch
  PRIMARY KEY (workspace, part)
) STRICT, WITHOUT ROWID;
