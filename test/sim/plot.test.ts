// The plot of the report: where the names of lines stand.
import { expect, it } from "vitest";
import { plotSvg, type Series } from "../../src/sim/plot.ts";

const line = (name: string, ...points: [x: number, y: number][]): Series => ({
  name,
  points: points.map(([x, y]) => ({ label: name, x, y, yHalf: 0 })),
});

it("a name lies on no line and on no other name", () => {
  const svg = plotSvg(
    [
      line("fixed", [100, 900], [1_000, 700], [9_000, 500]),
      line("run-clairvoyant", [20, 60], [60, 50], [200, 40]),
      line("forechain", [40, 120], [200, 70], [900, 45]),
      line("most-likely-path", [100, 600], [900, 420], [8_000, 480]),
      line("dependency-sets", [120, 560], [1_200, 400], [8_500, 490]),
    ],
    { x: "memory", y: "overhead" },
  );
  const names = [...svg.matchAll(/class="name" x="([\d.]+)" y="([\d.]+)">([^<]+)/g)].map(([, x, y, name]) => ({
    name: name!,
    left: Number(x),
    right: Number(x) + 7 * name!.length,
    top: Number(y) - 10,
    bottom: Number(y) + 2,
  }));
  const paths = [...svg.matchAll(/class="line" d="M([^"]+)"/g)].map(([, d]) =>
    d!.split("L").map((point) => point.split(" ").map(Number) as [number, number]),
  );
  expect([names.length, paths.length]).toEqual([5, 5]);
  const covered: string[] = [];
  for (const { name, left, right, top, bottom } of names) {
    for (const [p, path] of paths.entries()) {
      for (const [i, [toX, toY]] of path.entries()) {
        const [fromX, fromY] = path[Math.max(0, i - 1)]!;
        for (let step = 0; step <= 200; step++) {
          const x = fromX + ((toX - fromX) * step) / 200;
          const y = fromY + ((toY - fromY) * step) / 200;
          if (x > left && x < right && y > top && y < bottom) covered.push(`${name} on line ${p}`);
        }
      }
    }
    for (const other of names) {
      const apart = other.right <= left || other.left >= right || other.bottom <= top || other.top >= bottom;
      if (other.name !== name && !apart) covered.push(`${name} on ${other.name}`);
    }
  }
  expect(covered).toEqual([]);
});
