// The dashboard's files, with what keeps a page that holds a key to itself: nothing of others runs in it, frames it or is told of it.
const HEADERS: Record<string, string> = {
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  "x-content-type-options": "nosniff",
  "referrer-policy": "no-referrer",
};

export async function page(assets: Fetcher, request: Request): Promise<Response> {
  const file = await assets.fetch(request);
  const headers = new Headers(file.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(file.body, { status: file.status, headers });
}
