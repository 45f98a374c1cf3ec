// Elements from data. All text goes in as text nodes and attributes, never as HTML: task names are somebody's text.
type Child = Node | string | null;
/** What a section shows; null: nothing there. */
export type View = (Node | null)[];
type Attributes = Record<string, string | number | boolean>;

export function el(name: string, attributes: Attributes = {}, ...children: Child[]): HTMLElement {
  return filled(document.createElement(name), attributes, children);
}

export function svg(name: string, attributes: Attributes = {}, ...children: Child[]): SVGElement {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled<E extends Element>(element: E, attributes: Attributes, children: Child[]): E {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export interface Column<Row> {
  head: string;
  number?: boolean;
  /** Long text, which gets room before the table scrolls: on a phone it would else be a word wide. */
  long?: boolean;
  cell(row: Row): Child;
}

/** A table that scrolls by itself where the screen is narrow. */
export function table<Row>(caption: string, columns: Column<Row>[], rows: Row[]): HTMLElement {
  const kindOf = ({ number, long }: Column<Row>) => (number ? "number" : long ? "long" : false);
  const head = columns.map((column) => el("th", { scope: "col", class: kindOf(column) }, column.head));
  const body = rows.map((row) =>
    el("tr", {}, ...columns.map((column) => el("td", { class: kindOf(column) }, column.cell(row)))),
  );
  const made = el("table", {}, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
  // The caption stands outside of what scrolls: it is as wide as the screen, not as the table.
  return el(
    "figure",
    {},
    el("figcaption", {}, caption),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption }, made),
  );
}

export function quiet(text: string): HTMLElement {
  return el("p", { class: "quiet" }, text);
}

export function bytes(value: number): string {
  if (value < 1_000) return `${value} B`;
  if (value < 1_000_000) return `${(value / 1_000).toFixed(0)} kB`;
  return value < 1e9 ? `${(value / 1e6).toFixed(1)} MB` : `${(value / 1e9).toFixed(2)} GB`;
}

export function ms(value: number): string {
  if (value > 0 && value < 10) return `${value.toFixed(1)} ms`;
  return value < 10_000 ? `${Math.round(value)} ms` : `${(value / 1_000).toFixed(1)} s`;
}

/** `1 object`, `2 objects`. */
export function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

/** Where the page shows what follows a task. */
export function taskLink(task: string): string {
  return `#task=${encodeURIComponent(task)}`;
}

/** Cut in the middle: long names often differ in their ends only. */
function shortened(name: string, charactersMax: number): string {
  const characters = [...name];
  if (characters.length <= charactersMax) return name;
  const head = Math.floor((charactersMax - 1) / 2);
  return `${characters.slice(0, head).join("")}…${characters.slice(head + 1 - charactersMax).join("")}`;
}

const pen = document.createElement("canvas").getContext("2d");

/** Of a text in a picture, px; `size` is its font's, px. */
export function textWidth(text: string, size: number): number {
  if (pen === null) return text.length * size * 0.6;
  pen.font = `${size}px system-ui, sans-serif`;
  return pen.measureText(text).width;
}

/** The name, shortened until it is `room` px wide at most: names in capitals take twice the room of others. */
export function fitted(name: string, room: number, size: number): string {
  let characters = [...name].length;
  let text = name;
  while (characters > 3 && textWidth(text, size) > room) text = shortened(name, --characters);
  return text;
}
