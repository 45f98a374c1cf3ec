// Prometheus text (version 0.0.4) of one agent. In: counters and gauges by name. Out: the text. Label values are escaped: task
// names are somebody's text.

export interface Metric {
  name: string;
  kind: "counter" | "gauge";
  help: string;
  samples: { labels?: Record<string, string>; value: number }[];
}

export function prometheusText(metrics: Metric[]): string {
  return metrics
    .map(({ name, kind, help, samples }) => {
      const lines = samples.map(({ labels = {}, value }) => `${name}${labelText(labels)} ${value}`);
      return [`# HELP ${name} ${help}`, `# TYPE ${name} ${kind}`, ...lines].join("\n");
    })
    .join("\n")
    .concat("\n");
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}
