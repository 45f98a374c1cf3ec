-- What was learned from outcomes, and what they were measured against. NULL is unknown, and unknown is not 0.

ALTER TABLE outcomes ADD COLUMN probability REAL; -- that it would be needed, as the plan had it; NULL for a miss
ALTER TABLE outcomes ADD COLUMN whole_start_ms REAL; -- what the runtime's start took; NULL where none was started
