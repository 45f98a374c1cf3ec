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

/** Of a task among others in a line of text. */
const NAME_CHARACTERS_MAX = 32;

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

/** A duration to three digits, in the unit that people would say it in. */
export function ms(value: number): string {
  if (value < 9.95) return `${+value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  const seconds = value / 1_000;
  if (seconds < 600) return `${+seconds.toPrecision(3)} s`;
  return seconds < 6_000 ? `${Math.round(seconds / 60)} min` : `${+(seconds / 3_600).toPrecision(3)} h`;
}

/** `48,216`. */
export function number(value: number): string {
  return value.toLocaleString("en");
}

/** `1 object`, `2 objects`. */
export function counted(count: number, what: string): string {
  return `${number(count)} ${what}${count === 1 ? "" : "s"}`;
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
}

/** Where the page shows what follows a task. */
export function taskLink(task: string): string {
  return `#task=${encodeURIComponent(task)}`;
}

/** Names are `service/operation` where they come from spans; others have no service. */
export function taskParts(task: string): { service: string; operation: string } {
  const cut = task.indexOf("/");
  if (cut <= 0 || cut === task.length - 1) return { service: "", operation: task };
  return { service: task.slice(0, cut), operation: task.slice(cut + 1) };
}

/** Leads to what follows the task. A long name stands for its operation, and is whole where one points at it. */
export function nameLink(task: string): HTMLElement {
  const name = [...task].length <= NAME_CHARACTERS_MAX ? task : taskParts(task).operation;
  return el("a", { class: "task", href: taskLink(task), title: task }, shortened(name, NAME_CHARACTERS_MAX));
}

export function chainLinks(tasks: string[]): HTMLElement {
  const links = el("span", {});
  for (const [i, task] of tasks.entries()) {
    if (i > 0) links.append(" → ");
    links.append(nameLink(task));
  }
  return links;
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
