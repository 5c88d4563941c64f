import type { IncomingMessage, ServerResponse } from 'node:http'

/** What a health check is told. */
export interface TerminusState {
  isShuttingDown: boolean
}

/** A health check: what it resolves with goes into the answer; one that throws or rejects fails. */
// oxlint-disable-next-line typescript/no-explicit-any -- the original has Promise<any>, which whoever calls one reads from, and a check need not be asynchronous
export type HealthCheck = ({ state }: { state: TerminusState }) => any

/** The health checks by path. */
export type HealthCheckMap = {
  /** What a check resolves with goes into the answer as it is, not under `info` and `details`. Default false. */
  verbatim?: boolean
  /** The answer to a check that fails shows stacks. Default false. */
  __unsafeExposeStackTraces?: boolean
  [path: string]: HealthCheck | boolean | undefined
}

/** What a health check throws to have the reasons in its answer. */
export class HealthCheckError extends Error {
  // oxlint-disable-next-line typescript/no-explicit-any -- as the original declares it: whoever reads it knows what it threw
  causes: any

  constructor(message: string, causes: unknown) {
    super(message)
    this.causes = causes
  }
}

/** What a check may throw, as far as it says how to answer. */
interface Failure {
  causes?: unknown
  statusCode?: number
  statusResponse?: object
}

interface Options {
  caseInsensitive: boolean
  headers: Record<string, string>
  healthChecks: HealthCheckMap
  onSendFailureDuringShutdown?: () => unknown
  sendFailuresDuringShutdown: boolean
  statusError: number
  statusErrorResponse: object
  statusOk: number
  statusOkResponse: object
}

type Log = (message: string, error: unknown) => void

/** Makes errors visible to JSON: the properties of an Error are not enumerable. */
function errorsWith(stacks: boolean) {
  return (_key: string, value: unknown): unknown => {
    if (!(value instanceof Error)) return value
    const names = Object.getOwnPropertyNames(value).filter(name => stacks || name !== 'stack')
    return Object.fromEntries(names.map(name => [name, value[name as keyof Error]]))
  }
}

/** Answers the health checks of one server, before the application sees them. */
export class HealthChecks {
  #options: Options
  #checks: Map<string, HealthCheck>
  #state: TerminusState
  #log: Log

  constructor(options: Options, state: TerminusState, log: Log) {
    this.#options = options
    this.#state = state
    this.#log = log
    const checks = Object.entries(options.healthChecks).filter(([, run]) => typeof run === 'function') as [string, HealthCheck][]
    this.#checks = new Map(checks.map(([path, run]) => [this.#fold(path), run]))
  }

  get empty(): boolean {
    return this.#checks.size === 0
  }

  /** @returns Whether the request was for a health check, and so is answered. */
  answer(req: unknown, res: unknown): boolean {
    const url = this.#fold((req as IncomingMessage).url ?? '')
    // A path may have been registered with a query; without one, the query is the caller's business.
    const run = this.#checks.get(url) ?? this.#checks.get(url.replace(/\?.*/s, ''))
    if (!run) return false
    ;(req as IncomingMessage).resume()
    void this.#respond(run, res as ServerResponse)
    return true
  }

  #fold(path: string): string {
    return this.#options.caseInsensitive ? path.toLowerCase() : path
  }

  async #respond(run: HealthCheck, res: ServerResponse): Promise<void> {
    const { statusOk, statusOkResponse, statusError, statusErrorResponse, healthChecks, sendFailuresDuringShutdown } = this.#options
    if (this.#state.isShuttingDown && sendFailuresDuringShutdown) {
      await this.#announceFailure()
      this.#send(res, statusError, statusErrorResponse)
      return
    }
    try {
      const info = await run({ state: this.#state })
      // A copy: what one check says is not to be in the answers of all later ones.
      const details = info ? (healthChecks.verbatim ? info : { info, details: info }) : {}
      this.#send(res, statusOk, { ...statusOkResponse, ...details })
    } catch (error) {
      this.#log('healthcheck failed', error)
      this.#fail(res, (error ?? {}) as Failure)
    }
  }

  /** Answers what a check threw as it says, or, if that cannot be sent, as any failure. */
  #fail(res: ServerResponse, { causes, statusCode, statusResponse }: Failure): void {
    const { statusError, statusErrorResponse } = this.#options
    try {
      this.#send(res, statusCode || statusError, { ...(statusResponse || statusErrorResponse), ...(causes ? { error: causes, details: causes } : {}) })
    } catch (error) {
      this.#log('healthcheck failed', error)
      this.#send(res, statusError, statusErrorResponse)
    }
  }

  async #announceFailure(): Promise<void> {
    try {
      await this.#options.onSendFailureDuringShutdown?.()
    } catch (error) {
      this.#log('onSendFailureDuringShutdown failed', error)
    }
  }

  #send(res: ServerResponse, status: number, content: object): void {
    const { __unsafeExposeStackTraces: stacks } = this.#options.healthChecks
    const body = JSON.stringify(content, errorsWith(stacks === true))
    res.setHeader('Content-Type', 'application/json')
    for (const [name, value] of Object.entries(this.#options.headers)) res.setHeader(name, value)
    res.writeHead(status, { 'Content-Length': Buffer.byteLength(body) })
    res.end(body)
  }
}
