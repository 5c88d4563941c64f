import type { IncomingMessage, ServerResponse } from 'node:http'
import { setAside } from './served.ts'
import { contain } from './contain.ts'
import { sendJson } from './json.ts'
import type { Check, HealthOptions } from './options.ts'
import type { Stats } from './report.ts'
import { messageOf } from './thrown.ts'

/** What came of a check. */
export type Verdict = 'ok' | 'failed' | 'timeout'

/** What the readiness endpoint says. */
export interface Readiness {
  ready: boolean
  state: Stats['state']
  /** Empty while out of rotation: they are not run then. */
  checks: Record<string, Verdict>
}

/** Whether a URL is this path, with or without a query. Cheap: it is asked of every request. */
function isPath(url: string, path: string | false): boolean {
  if (path === false) return false
  return url.length === path.length ? url === path : url.charCodeAt(path.length) === 63 /* ? */ && url.startsWith(path)
}

/** Answers the liveness and readiness endpoints, before the application sees them. */
export class Health {
  #options: Required<HealthOptions>
  #state: () => Stats['state']
  #fault: (where: string, error: unknown) => void
  /** The run of checks under way: a burst of probes must not become a burst of queries. */
  #running: Promise<Record<string, Verdict>> | undefined
  /** What each check that fails was last heard to throw: probes come again and again. */
  #thrown = new Map<string, string>()

  constructor(options: Required<HealthOptions>, state: () => Stats['state'], fault: (where: string, error: unknown) => void) {
    this.#options = options
    this.#state = state
    this.#fault = fault
  }

  /** Of the readiness endpoint. */
  get path(): string | false {
    return this.#options.ready
  }

  get checks(): string[] {
    return Object.keys(this.#options.checks)
  }

  /** Whether a request is for a health endpoint. */
  concerns(method = '', url = ''): boolean {
    return (isPath(url, this.#options.live) || isPath(url, this.#options.ready)) && (method === 'GET' || method === 'HEAD')
  }

  /** @returns Whether the request was for a health endpoint, and so is answered. */
  answer(req: IncomingMessage, res: ServerResponse): boolean {
    if (!this.concerns(req.method, req.url)) return false
    setAside(res)
    req.resume()
    const { method, url = '' } = req
    const answer = isPath(url, this.#options.live) ? () => send(res, method, true, { state: this.#state() }) : () => this.#ready(res, method)
    contain(answer, error => {
      this.#fault('health', error)
      res.destroy()
    })
    return true
  }

  /** Runs the checks, unless out of rotation, which it is whatever they say. Those who ask at once share a run. */
  async readiness(): Promise<Readiness> {
    const checks = this.#state() === 'running' ? await (this.#running ??= this.#runChecks()) : {}
    const state = this.#state()
    return { ready: state === 'running' && Object.values(checks).every(verdict => verdict === 'ok'), state, checks }
  }

  async #ready(res: ServerResponse, method: string | undefined): Promise<void> {
    const { ready, ...details } = await this.readiness()
    send(res, method, ready, details)
  }

  async #runChecks(): Promise<Record<string, Verdict>> {
    try {
      const entries = Object.entries(this.#options.checks)
      return Object.fromEntries(await Promise.all(entries.map(async ([name, check]) => [name, await this.#run(name, check)])))
    } finally {
      this.#running = undefined
    }
  }

  async #run(name: string, check: Check): Promise<Verdict> {
    const controller = new AbortController()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<Verdict>(resolve => {
      timer = setTimeout(() => resolve('timeout'), this.#options.timeoutMs)
    })
    const run = async () => ((await check(controller.signal)) === false ? 'failed' : 'ok')
    const verdict = await Promise.race([late, run().catch((error: unknown) => {
      const what = messageOf(error)
      if (this.#thrown.get(name) !== what) this.#fault(`health check ${name}`, error)
      this.#thrown.set(name, what)
      return 'failed' as const
    })])
    if (verdict === 'ok') this.#thrown.delete(name)
    clearTimeout(timer)
    if (verdict === 'timeout') controller.abort()
    return verdict
  }
}

function send(res: ServerResponse, method: string | undefined, ok: boolean, details: object): void {
  sendJson(res, method, ok ? 200 : 503, { 'Cache-Control': 'no-store' }, { status: ok ? 'ok' : 'unavailable', ...details })
}
