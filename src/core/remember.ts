// Memory of a bounded size. In: a map and what is noted now. Out: the map, with it as the newest entry.

/** What was noted longest ago gives way beyond `max` entries. */
export function remember<Key, Value>(map: Map<Key, Value>, key: Key, value: Value, max: number): void {
  map.delete(key); // To the end.
  map.set(key, value);
  if (map.size > max) map.delete(map.keys().next().value!);
}
