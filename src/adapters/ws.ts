import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import type { Duck } from '../core/index.ts'
import { check } from '../core/options.ts'
import { checkApp } from './wrap-app.ts'

/** What a client of `ws` (8) has, as far as lameduck uses it. */
export interface WebSocketLike {
  close(code: number): void
}

/** What a `WebSocketServer` of `ws` (8) has, as far as lameduck uses it. */
export interface WebSocketServerLike {
  handleUpgrade(req: IncomingMessage, socket: Duplex, head: Buffer, callback: (client: WebSocketLike, req: IncomingMessage) => void): void
  close(callback: () => void): void
  options?: { port?: unknown }
}

function has(value: object | null | undefined, ...methods: string[]): boolean {
  return methods.every(method => typeof (value as Record<string, unknown> | null | undefined)?.[method] === 'function')
}

/**
 * Drains the clients of a `WebSocketServer` through `ws` itself: each is closed with the duck's `websocketCode` behind all
 * that was sent to it, what is still being compressed included; and the `WebSocketServer` itself is closed when the last
 * connection has ended. Call it before clients come; those that are there already get their close frame from the core.
 *
 * For `{ server }` as well as for `{ noServer: true }`; the HTTP server is one of the duck's.
 *
 * @returns What undoes it for clients that come later.
 * @throws {LameduckError} `ERR_LAMEDUCK_SERVER` for something that is no `WebSocketServer`, `ERR_LAMEDUCK_OPTION` for no duck, and for a
 * `WebSocketServer` with a port of its own: its `http.Server` is none of the duck's, and its clients would never be told.
 */
export function drainWebSockets(wss: WebSocketServerLike, duck: Duck): () => void {
  checkApp(wss, has(wss, 'handleUpgrade', 'close'), 'a WebSocketServer of ws')
  check('duck', duck, has(duck, 'track', 'onDrain'), 'a duck, the result of wrap()')
  const port = wss.options?.port ?? undefined
  check('port of the WebSocketServer', port, port === undefined, 'none: make an http.Server, wrap it, and give it as `server`')
  const { handleUpgrade } = wss
  const had = Object.hasOwn(wss, 'handleUpgrade')
  let attached = true
  const tracked: typeof handleUpgrade = function (this: WebSocketServerLike, req, socket, head, callback) {
    handleUpgrade.call(this, req, socket, head, (client, ...rest) => {
      callback(client, ...rest)
      if (!attached) return
      try {
        duck.track(req.socket, { close: (_signal, code) => client.close(code) })
      } catch {
        // On another server than the duck's, or since `unwrap()`: then it is nobody's to drain.
      }
    })
  }
  wss.handleUpgrade = tracked
  // Last of all: it takes the listener of upgrades away, and an upgrade in the drain is to get its 503.
  const forget = duck.onDrain('ws server.close()', () => new Promise<void>(resolve => wss.close(() => resolve())))
  return () => {
    attached = false
    forget()
    if (wss.handleUpgrade !== tracked) return
    if (had) wss.handleUpgrade = handleUpgrade
    else delete (wss as Partial<WebSocketServerLike>).handleUpgrade
  }
}
