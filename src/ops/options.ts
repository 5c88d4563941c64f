import type { Duck, Logger } from '../core/index.ts'
import type { AuditEntry } from './http/audit.ts'
import type { Scope } from './http/route.ts'
import type { Leveled } from './state/loggers.ts'
import type { RuleInput } from './watch/rule.ts'

/** A bearer token, by its digest: the token itself is never kept. */
export interface TokenOptions {
  /** Who has it, for the audit. */
  name: string
  scopes: Scope[]
  /** The token, at least 32 random bytes as base64url, base64 or hex (43 characters or more; 64 of hex) … */
  token?: string
  /** … or its SHA-256, as hex … */
  sha256?: string
  /** … or the name of an environment variable that holds it (taken out of `process.env` when read) … */
  env?: string
  /**
   * … or a file that holds it, closed to others, read again when it changes: put the new one beside the old one, on a line of its own, to
   * rotate. An empty file revokes. One that becomes unreadable or invalid leaves the last good tokens in force; the audit says so.
   */
  file?: string
  /** Refused from then on (ISO 8601). */
  expires?: string
}

/** Where the endpoint listens. */
export type Listen =
  /** A unix socket, 0600 in a folder that is 0700 and ours. */
  | { path: string }
  | {
      /** A loopback address, unless `tls` and authorisation are there. Default 127.0.0.1. */
      host?: string
      /** Default 0: any free one, see `ops.url`. */
      port?: number
      tls?: {
        cert: string
        key: string
        /** Of client certificates (mTLS): these authorities. */
        ca?: string
      }
    }

/** Who may do what. */
export interface AuthOptions {
  tokens?: TokenOptions[]
  /** A JSON file with more of them (an array, each with `token` or `sha256`), closed to others, read again when it changes or on `ops.reload()`. */
  file?: string
  /** mTLS: the scopes of a client certificate, by its subject's common name or `fingerprint256`. Needs `listen.tls.ca`. */
  certificates?: Record<string, Scope[]>
  /** What whoever may open the unix socket can do without a token. Default read, diag, control; nothing when tokens are configured. */
  socket?: Scope[]
  /** The application's own: name and scopes for a request, or null. Runs on the main thread, and is not asked while that hangs. */
  authorize?: (request: { method: string; path: string; headers: Record<string, string>; from: string }) =>
    { name: string; scopes: Scope[] } | null | Promise<{ name: string; scopes: Scope[] } | null>
}

/** Limits of the door. All have defaults. */
export interface LimitOptions {
  /**
   * Connections at once. Default 16. When there are more, the oldest on which nobody was authorised goes; of one remote address (IPv6: each /64) at
   * most half of them may be without a request. One that has sent nothing for 2 s is closed.
   */
  connections?: number
  /** Of a request's head, bytes. Default 8,192. */
  headBytes?: number
  /** Of a request's body, bytes. Default 16,384. */
  bodyBytes?: number
  /** For a request to arrive whole. Default 5,000. */
  requestMs?: number
  /**
   * Failed authorisations: so many at once, and so many a second after that; for each remote address (IPv6: each /64), and ten times that over
   * all of them; then 429, and `auth.authorize` is not asked. A valid token or client certificate counts all the same. Callers without anything like a
   * token and those with a wrong one are counted apart. Default 10 and 1.
   */
  failures?: { burst: number; perSecond: number }
  /** Calls of one token. Default 100 and 20. */
  calls?: { burst: number; perSecond: number }
}

/** What is kept on disk. */
export interface FileOptions {
  /** The private folder. Default: `lameduck-<uid>/<pid>` in the folder for temporary files. */
  dir?: string
  /** Default 10. */
  count?: number
  /** All together. Default 4 GiB. */
  bytes?: number
  /** Default 24 hours. */
  ageMs?: number
  /** What the disk must keep free. Default 512 MiB. */
  freeBytes?: number
}

/** What costs the process something. */
export interface HeavyOptions {
  /** Between two heavy jobs. Default 60,000. */
  cooldownMs?: number
  /** In 24 hours. Default 50. */
  perDay?: number
  /** Seconds that a profile may take, a rule's as well; a whole number, 3,600 at most. Default 300. */
  profileSeconds?: number
}

/** How long a heap snapshot waits, and for what. Milliseconds. */
export interface HeapOptions {
  /** `when=after-gc`: for a major GC. Default 300,000; then the job fails. */
  afterGcMs?: number
  /** `recycle`: for somebody to begin to fetch the finished file; a download that has begun is waited for, too. A drain ends it. Default 60,000. */
  downloadMs?: number
  /** `isolate`: beyond `lameduckMs`, for requests in flight. Default 30,000; then the job fails, unless forced. */
  inFlightMs?: number
  /** `isolate`: unready before the pause, so that balancers notice and clients are told to close. Default 2,000; less when nobody is left. */
  lameduckMs?: number
  /** `recycle`: out of rotation, for the file to be finished, and as long again for a download. Default 600,000; then the process is back in rotation. */
  recycleMs?: number
}

/** Probes without a token. */
export interface ProbeOptions {
  /** `/livez` fails when the main thread has been blocked for longer, unless for a diagnosis. Default 10,000. */
  stuckMs?: number
  /** For readiness and its checks. Default 2,000. */
  timeoutMs?: number
  /** `/health/{group}`: checks of the server's `health` option, by their names. */
  groups?: Record<string, string[]>
}

/** Options of `ops()`. */
export interface OpsOptions {
  /** Of the server: for its state, its connections, and to take it out of rotation. Without one the rest is offered. */
  duck?: Duck
  /** Where; false: nowhere, it is mounted in an application. Default a unix socket, `lameduck-<uid>/<pid>/ops.sock` in the folder for temporary files. */
  listen?: Listen | false
  /**
   * The names in `Host` under which it answers; anything else is a 421 (DNS rebinding). Without a port: with any. Default on TCP the address itself,
   * `localhost`, `127.0.0.1` and `[::1]`; the address that a connection came in on is always allowed. Default on a unix socket: any name.
   */
  hosts?: readonly string[]
  auth?: AuthOptions
  limits?: LimitOptions
  files?: FileOptions
  heavy?: HeavyOptions
  heap?: HeapOptions
  /** The audit trail's file; false: it only goes to the `audit` event and function. Default `lameduck-<uid>/audit.log` in the folder for temporary files. */
  audit?: string | false
  /** Whether `/eval` and `/repl` exist. Default false. */
  eval?: boolean
  /** Whether there is a page at `/`. Default true. */
  page?: boolean
  /** Whether it lives in a worker thread. Default true. */
  thread?: boolean
  /** Probes without a token. */
  health?: ProbeOptions
  /** Whose levels can be changed, by name: pino, winston, anything with a `level`. */
  loggers?: Record<string, Leveled>
  /** Hears of what goes wrong with the endpoint itself. Default a process warning. */
  logger?: Pick<Logger, 'warn'>
  /** The application's own metrics, in Prometheus' text format: `() => register.metrics()` of prom-client. Missing while the main thread is blocked, and when they
   *  fail (the logger hears of that): `lameduck_app_metrics_up` is 0 then. */
  metrics?: () => string | Promise<string>
  /** Armed from the start; see docs/leak-watch.md. More with `ops.rules`. */
  rules?: readonly RuleInput[]
  /** Hears every line of the audit trail. */
  onAudit?: (entry: AuditEntry) => void
  /** Whether this is the last instance that is ready: then it is not isolated for a snapshot. Default unknown, so no reason. */
  lastReady?: () => boolean | undefined | Promise<boolean | undefined>
}

/** Options after the checks, as they go to the worker: no functions in them, and every default filled in. */
export interface Settings {
  listen: Listen | false
  hosts: readonly string[]
  auth: Omit<AuthOptions, 'authorize'> & { authorize: boolean }
  limits: Required<LimitOptions>
  files: Required<FileOptions>
  heavy: Required<HeavyOptions>
  heap: Required<HeapOptions>
  /** The audit trail's file; false: it only goes to the `audit` event and function. */
  audit: string | false
  /** Whether nobody has said where: it is in lameduck's own folder. */
  ownAudit: boolean
  health: Required<ProbeOptions>
  rules: readonly RuleInput[]
  /** The application adds metrics of its own. */
  metrics: boolean
  eval: boolean
  page: boolean
  thread: boolean
}

export const DEFAULTS = {
  limits: {
    connections: 16,
    headBytes: 8_192,
    bodyBytes: 16_384,
    requestMs: 5_000,
    failures: { burst: 10, perSecond: 1 },
    calls: { burst: 100, perSecond: 20 },
  },
  files: { count: 10, bytes: 4 * 2 ** 30, ageMs: 86_400_000, freeBytes: 512 * 2 ** 20 },
  heavy: { cooldownMs: 60_000, perDay: 50, profileSeconds: 300 },
  heap: { afterGcMs: 300_000, downloadMs: 60_000, inFlightMs: 30_000, lameduckMs: 2_000, recycleMs: 600_000 },
  health: { stuckMs: 10_000, timeoutMs: 2_000, groups: {} },
} as const
