import type { OutgoingHttpHeaders, ServerResponse } from 'node:http'

/** Answers with JSON. Not to HEAD: Node may be told to throw at a body that is none (`rejectNonStandardBodyWrites`). */
export function sendJson(res: ServerResponse, method: string | undefined, status: number, headers: OutgoingHttpHeaders, value: object): void {
  const body = JSON.stringify(value)
  res.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers })
  if (method === 'HEAD') res.end()
  else res.end(body)
}
