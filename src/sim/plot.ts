// A static trade-off plot: lines with dots over a logarithmic x axis, names beside their ends. In: series. Out: SVG that takes its
// colours from the page. Nothing here is interactive: titles on dots tell the numbers.

export interface Series {
  name: string;
  points: { label: string; x: number; y: number; yHalf: number }[];
}

const WIDTH = 960;
const HEIGHT = 480;
const LEFT = 70;
const RIGHT = 150;
const TOP = 16;
const BOTTOM = 54;
/** Between 0, which a logarithmic axis does not have, and its first power of ten, px. */
const ZERO_GAP = 60;
/** Lines of the y axis, about. */
const Y_TICKS = 6;
/** The one that the page is about is drawn last and stronger. */
const STRONG = "forechain";
/** Height of a name, and about the width of its bold characters, px. */
const NAME_GAP = 15;
const NAME_CHARACTER = 7.2;
const DOT = 4;
/** How far a name may stand above (first) or below its line's end, nearest first, px. */
const NAME_STEPS = [0, ...Array.from({ length: 20 }, (_, i) => 6 * (i + 1)).flatMap((step) => [-step, step])];

interface Point {
  x: number;
  y: number;
}

export function plotSvg(series: Series[], axes: { x: string; y: string }): string {
  const points = series.flatMap((line) => line.points);
  const positive = points.map(({ x }) => x).filter((x) => x > 0);
  const low = Math.floor(Math.log10(Math.max(1, Math.min(...positive, 1e9))));
  const high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(10, ...positive))));
  // Means fill the plot; a whisker that is longer leaves it at the top.
  const yTop = Math.max(1, ...points.map(({ y }) => y)) * 1.1;
  // Nothing held at all has no logarithm: it stands at the left edge, where the axis says 0.
  const px = (x: number) =>
    x <= 0
      ? LEFT
      : LEFT + ZERO_GAP + ((Math.max(low, Math.log10(x)) - low) / (high - low)) * (WIDTH - LEFT - RIGHT - ZERO_GAP);
  const py = (y: number) => HEIGHT - BOTTOM - (Math.max(0, Math.min(yTop, y)) / yTop) * (HEIGHT - TOP - BOTTOM);
  const order = [...series.entries()].sort(([, a], [, b]) => Number(a.name === STRONG) - Number(b.name === STRONG));
  const names = namesOf(series, px, py);
  return `<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${escapeHtml(axes.y)} against ${escapeHtml(axes.x)}, one line per policy">
${yAxis(yTop, py)}${xAxis(low, high, px)}
<text class="quiet" x="${(LEFT + WIDTH - RIGHT) / 2}" y="${HEIGHT - 10}" text-anchor="middle">${escapeHtml(axes.x)}</text>
<text class="quiet" transform="translate(16 ${HEIGHT / 2}) rotate(-90)" text-anchor="middle">${escapeHtml(axes.y)}</text>
${order.map(([s, line]) => lineSvg(line, s, names[s]!, px, py)).join("\n")}
</svg>`;
}

function yAxis(yTop: number, py: (y: number) => number): string {
  const rough = yTop / Y_TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough)!;
  let svg = "";
  for (let y = 0; y <= yTop; y += step) {
    svg += `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${py(y)}" y2="${py(y)}"/>`;
    svg += `<text class="quiet" x="${LEFT - 8}" y="${py(y) + 4}" text-anchor="end">${Number(y.toPrecision(6)).toLocaleString("en-GB")}</text>`;
  }
  return svg;
}

function xAxis(low: number, high: number, px: (x: number) => number): string {
  const bottom = HEIGHT - BOTTOM;
  let svg = `<line class="axis" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${bottom}" y2="${bottom}"/>`;
  svg += `<text class="quiet" x="${LEFT}" y="${bottom + 18}" text-anchor="middle">0</text>`;
  for (let power = low; power <= high; power++) {
    const x = px(10 ** power);
    svg += `<line class="grid" x1="${x}" x2="${x}" y1="${TOP}" y2="${bottom}"/>`;
    svg += `<text class="quiet" x="${x}" y="${bottom + 18}" text-anchor="middle">${(10 ** power).toLocaleString("en-GB")}</text>`;
  }
  return svg;
}

/**
 * Where each name stands: right of its line's last point, as near as no other name, line or dot is covered; where all is full, as near as
 * no name is.
 */
function namesOf(series: Series[], px: (x: number) => number, py: (y: number) => number): Point[] {
  const lines = series.map(({ points }) =>
    points.toSorted((a, b) => a.x - b.x).map(({ x, y }) => ({ x: px(x), y: py(y) })),
  );
  const placed: Box[] = [];
  return series.map(({ name }, s) => {
    const end = lines[s]!.at(-1)!;
    const boxAt = (y: number): Box => ({ left: end.x + 8, right: end.x + 8 + NAME_CHARACTER * name.length, middle: y });
    const free = NAME_STEPS.map((step) => boxAt(end.y + step)).filter(
      (box) => box.middle > TOP && box.middle < HEIGHT - BOTTOM - NAME_GAP / 2 && !placed.some(overlaps(box)),
    );
    const box = free.find((candidate) => !lines.some((line) => isCrossed(candidate, line))) ?? free[0] ?? boxAt(end.y);
    placed.push(box);
    return { x: box.left, y: box.middle + 4 };
  });
}

/** What a name takes. */
interface Box {
  left: number;
  right: number;
  middle: number;
}

const overlaps = (a: Box) => (b: Box) =>
  a.left < b.right && b.left < a.right && Math.abs(a.middle - b.middle) < NAME_GAP;

/** Whether a line's part above the name's width comes within its height. */
function isCrossed({ left, right, middle }: Box, line: Point[]): boolean {
  for (const [i, to] of line.entries()) {
    const from = line[Math.max(0, i - 1)]!;
    if (to.x + DOT < left || from.x - DOT > right) continue;
    const at = (x: number) =>
      to.x === from.x
        ? to.y
        : from.y + ((Math.min(to.x, Math.max(from.x, x)) - from.x) / (to.x - from.x)) * (to.y - from.y);
    const ends = to.x === from.x ? [from.y, to.y] : [at(left), at(right)];
    const half = NAME_GAP / 2;
    if (Math.max(...ends) > middle - half && Math.min(...ends) < middle + half) return true;
  }
  return false;
}

function lineSvg(
  { name, points }: Series,
  s: number,
  at: Point,
  px: (x: number) => number,
  py: (y: number) => number,
): string {
  const sorted = points.toSorted((a, b) => a.x - b.x);
  const path = sorted.map(({ x, y }, i) => `${i === 0 ? "M" : "L"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("");
  const dots = sorted.map(({ label, x, y, yHalf }) => {
    const told = `${label}: ${y.toFixed(1)} ms, ${Math.round(x).toLocaleString("en-GB")} GB·s`;
    const whisker = `<line class="whisker" x1="${px(x)}" x2="${px(x)}" y1="${py(y - yHalf)}" y2="${py(y + yHalf)}"/>`;
    return `${yHalf > 0 ? whisker : ""}<circle class="dot" cx="${px(x)}" cy="${py(y)}" r="4"><title>${escapeHtml(told)}</title></circle>`;
  });
  const strong = name === STRONG ? " strong" : "";
  return `<g class="s${s % 8}${strong}"><path class="line" d="${path}"/>${dots.join("")}<text class="name" x="${at.x}" y="${at.y}">${escapeHtml(name)}</text></g>`;
}

export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
