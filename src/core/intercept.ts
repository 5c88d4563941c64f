import type { Server } from 'node:net'

/** Sees an event before every listener; true keeps it from them. */
export type See = (event: string | symbol, first: unknown, second: unknown, third: unknown) => boolean

/**
 * Puts one function before all listeners of a server, whenever they are added. A prepended listener would not do: it cannot keep
 * a request from the application, and another that is prepended later runs before it.
 *
 * @returns What takes it away again.
 */
export function intercept(server: Server, see: See): () => void {
  const emit = server.emit
  const had = Object.hasOwn(server, 'emit')
  let attached = true
  // `arguments`, not a rest parameter: no array per event.
  const intercepted = function (this: Server, event: string | symbol): boolean {
    const args = arguments as unknown as Parameters<typeof emit>
    return (attached && see(event, args[1], (args as unknown[])[2], (args as unknown[])[3])) || emit.apply(this, args)
  }
  server.emit = intercepted as typeof emit
  return () => {
    attached = false
    // Somebody may have put theirs around ours since: then ours stays, and only passes on.
    if (server.emit !== intercepted) return
    if (had) server.emit = emit
    else delete (server as Partial<Server>).emit
  }
}
