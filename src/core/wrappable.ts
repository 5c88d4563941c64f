import http from 'node:http'
import type { Http2SecureServer, Http2Server } from 'node:http2'
import https from 'node:https'
import net from 'node:net'
import { LameduckError } from './errors.ts'

/** A server that lameduck can wrap. */
export type WrappableServer = http.Server | https.Server | Http2Server | Http2SecureServer

/** Told by what only they have: node:http2 itself costs a program that does not use it up to 20 ms of its start. */
function isHttp2(server: unknown): boolean {
  return server instanceof net.Server && typeof (server as Partial<Http2Server>).updateSettings === 'function'
}

/** @throws {LameduckError} `ERR_LAMEDUCK_SERVER` */
export function checkServer(server: unknown): asserts server is WrappableServer {
  if (server instanceof http.Server || server instanceof https.Server || isHttp2(server)) return
  const what = (server as object | undefined)?.constructor?.name ?? typeof server
  throw new LameduckError('ERR_LAMEDUCK_SERVER', `cannot wrap ${what}; allowed: a server of node:http, node:https or node:http2 (for an application of a framework, see lameduck/express, /koa, /hapi, /fastify, /nestjs)`)
}

/** Destroys all HTTP/1 connections that Node knows. An HTTP/2 server has no method for that, but with `allowHTTP1` it has such connections. */
export function closeAllConnections(server: WrappableServer): void {
  http.Server.prototype.closeAllConnections.call(server as http.Server)
}
