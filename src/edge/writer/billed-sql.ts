// A Durable Object's SQLite, with the rows counted that are billed. Long texts are cut to rows: one may have 2 MB.

/** Characters of one row at most: three bytes each at worst. */
const PART_CHARS = 500_000;

export class BilledSql {
  readonly #sql: SqlStorage;
  /** Since this object was created. */
  rowsWritten = 0;

  constructor(sql: SqlStorage) {
    this.#sql = sql;
  }

  write(query: string, ...bindings: SqlStorageValue[]): void {
    const cursor = this.#sql.exec(query, ...bindings);
    cursor.toArray();
    this.rowsWritten += cursor.rowsWritten;
  }

  /** Rows of a query that writes nothing. */
  read<Row extends Record<string, SqlStorageValue>>(query: string, ...bindings: SqlStorageValue[]) {
    return this.#sql.exec<Row>(query, ...bindings);
  }

  /** The first column of the first row; null where there is none. */
  one(query: string, ...bindings: SqlStorageValue[]): SqlStorageValue {
    const [row] = [...this.#sql.exec(query, ...bindings).raw()];
    return row?.[0] ?? null;
  }
}

/** A text as the parts that its rows hold. */
export function pieces(text: string): string[] {
  if (text.length <= PART_CHARS) return [text];
  const parts: string[] = [];
  for (let at = 0; at < text.length; ) {
    let end = at + PART_CHARS;
    const last = text.charCodeAt(end - 1);
    if (last >= 0xd800 && last < 0xdc00) end++; // never between the halves of a surrogate pair
    parts.push(text.slice(at, end));
    at = end;
  }
  return parts;
}
