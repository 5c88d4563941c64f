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
  const emit = server.emit as (this: Server, ...args: unknown[]) => boolean
  const had = Object.hasOwn(server, 'emit')
  let attached = true
  // `arguments`, not a rest parameter: no array per event. A request comes with two, and passing those on is cheaper still.
  const intercepted = function (this: Server, event: string | symbol, first: unknown, second: unknown, third: unknown): boolean {
    if (attached && see(event, first, second, third)) return true
    const args = arguments
    return args.length as number === 3 ? emit.call(this, event, first, second) : emit.apply(this, args as unknown as unknown[])
  }
  server.emit = intercepted as typeof server.emit
  return () => {
    attached = false
    // Somebody may have put theirs around ours since: then ours stays, and only passes on.
    if (server.emit !== intercepted) return
    if (had) server.emit = emit as typeof server.emit
    else delete (server as Partial<Server>).emit
  }
}
