import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'

/** What a caller may do. read: numbers and names; diag: costly looks inside; secrets: live strings of the process; control: change its course. */
export type Scope = 'read' | 'diag' | 'secrets' | 'control' | 'eval'

export const SCOPES: readonly Scope[] = ['read', 'diag', 'secrets', 'control', 'eval']

/** Who is calling, once that is known. */
export interface Principal {
  /** The name that the configuration gives: of a token, of a certificate, what `authorize` said; `socket` for a unix socket without tokens. */
  name: string
  scopes: ReadonlySet<Scope>
  /** What it may do, but not now: the audit trail cannot be written. Not in `scopes`. */
  withheld?: ReadonlySet<Scope>
  /** Where from: `address:port`, or `unix`. */
  from: string
}

/** One parameter: in the path, in the query, or a member of the JSON body; checked before the handler sees it. */
export interface Param {
  in: 'path' | 'query' | 'body'
  type: 'string' | 'number' | 'integer' | 'boolean' | 'object'
  description: string
  required?: boolean
  default?: unknown
  /** Of numbers; of strings: their length. */
  min?: number
  max?: number
  enum?: readonly string[]
  /** Of strings: what they must match, from end to end. */
  pattern?: string
  /** Never written to the audit trail. */
  secret?: boolean
}

/** What a handler gets. */
export interface Call {
  /** By name, checked, with defaults filled in. */
  params: Record<string, unknown>
  who: Principal
  /** Aborted when the client goes away or the endpoint closes. */
  signal: AbortSignal
  req: IncomingMessage
  res: ServerResponse
  /**
   * Of a call that lasts (an event stream, a WebSocket): whether the caller may still. `signal` is aborted with the problem when not, within
   * seconds also without a call of this. @throws {Problem} 401, 403; 429 and 503 when it cannot be found out now.
   */
  recheck?: () => Promise<void>
  /** Adds something to the audit's line of this call: a job's id, the digest of an expression. Never a secret. */
  note(fields: Record<string, unknown>): void
}

/** What a handler answers with. Nothing at all: it has written to `res` itself (an event stream). */
export interface Reply {
  /** Default 200. */
  status?: number
  headers?: Record<string, string>
  /** Sent as `application/json`. */
  json?: unknown
  /** Sent as it is; `type` is its `Content-Type`. */
  body?: string | Buffer | Readable
  type?: string
}

/** One thing that the endpoint offers. The OpenAPI file is made of these. */
export interface Route {
  method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** As in OpenAPI: `/artifacts/{name}`. */
  path: string
  /** Null: for everybody who can reach the listener, without a token. */
  scope: Scope | null
  summary: string
  /** What more there is to say, in Markdown. */
  description?: string
  params?: Record<string, Param>
  /** Problem codes that it may answer with, beyond those of every route, by status. */
  problems?: Record<number, string[]>
  /** Of its success: status and media types. */
  success: { status: number; types: string[]; description: string }
  /** A WebSocket upgrade in place of an answer: the handler gets the socket's head by `upgrade`. */
  upgrade?: (call: Call & { head: Buffer }) => void | Promise<void>
  /** What the audit's line before the call has beside its parameters: of those that are secret, a digest. */
  audit?: (params: Record<string, unknown>) => Record<string, unknown>
  handler(call: Call): Reply | undefined | Promise<Reply | undefined>
}
