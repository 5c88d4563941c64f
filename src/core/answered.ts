import type { ServerHttp2Stream } from 'node:http2'

/** Tells, once, when the head of a stream's answer is out. @returns What takes that back. */
export function whenAnswered(stream: ServerHttp2Stream, then: () => void): () => void {
  const own = Object.hasOwn(stream, 'respond')
  const { respond } = stream
  const patch: typeof respond = (headers, options) => {
    respond.call(stream, headers, options)
    undo()
    then()
  }
  // What somebody has put over ours stays.
  const undo = () => {
    if (stream.respond !== patch) return
    if (own) stream.respond = respond
    else delete (stream as Partial<ServerHttp2Stream>).respond
  }
  stream.respond = patch
  return undo
}

/** A field of the answer's head: Node keeps the case and the type that the application wrote it in. */
export function answerField({ sentHeaders }: ServerHttp2Stream, name: string): string {
  // There are none before it is out: then nothing is gone through.
  for (const key in sentHeaders) if (key.toLowerCase() === name) return String(sentHeaders[key])
  return ''
}
