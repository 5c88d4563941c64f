import type { ServerResponse } from 'node:http'

/** On a response that is not the application's (health, 503): not counted as served. */
const ASIDE = Symbol('lameduck.aside')

type Aside = { [ASIDE]?: true }

/** Responses that went down with their socket: Node 20 says of them that they are finished. Once there is one. */
let cut: WeakSet<ServerResponse> | undefined

/** Leaves a response out of the count of what the application served. */
export function setAside(res: object): void {
  // Of an HTTP/2 response it is the stream that is tracked.
  ;((res as { stream?: Aside }).stream ?? (res as Aside))[ASIDE] = true
}

/** Whether a response, or an HTTP/2 stream, was left out. */
export function isAside(res: object): boolean {
  return (res as Aside)[ASIDE] === true
}

/** Of a response whose socket is about to be destroyed: whether something of it has not been sent. */
export function noteCut(res: ServerResponse): void {
  if (!res.writableEnded || res.writableLength > 0) (cut ??= new WeakSet()).add(res)
}

/** Of one that has closed. */
export function wasServed(res: ServerResponse): boolean {
  return res.writableFinished && !isAside(res) && !cut?.has(res)
}
