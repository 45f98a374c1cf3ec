// Records whose keys are somebody's text. In: a record as it came over a call or out of JSON. Out: the same record without a
// prototype, so that a task named `constructor` is not found where nobody declared it.

export function named<T extends object>(record: T): T {
  return Object.setPrototypeOf(record, null) as T;
}
