export function reportHtml(_: unknown): string {
  return "";
}
