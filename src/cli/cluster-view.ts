import type { Desk } from './desk.ts'
import { bytes, duration, oneLine } from './format.ts'
import type { Live } from './live.ts'
import type { Status, Step } from './supervisor.ts'

const COLUMNS = ['slot', 'pid', 'generation', 'state', 'uptime', 'connections', 'in-flight', 'RSS', 'restarts'].map(title => ({ title, right: title !== 'state' }))

/** `lameduck status`: one line for the supervisor, one for each worker. */
export function statusText(desk: Desk, { pid, script, generation, state, wanted, ready, uptimeMs, workers }: Status): string {
  const number = (value: number | null) => value === null ? '-' : String(value)
  const rows = workers.map(worker => [
    String(worker.slot), number(worker.pid), String(worker.generation), worker.state, worker.pid === null ? '-' : duration(worker.uptimeMs),
    number(worker.connections), number(worker.inFlight), worker.rss === null ? '-' : bytes(worker.rss), String(worker.restarts),
  ])
  const errors = workers.filter(({ error }) => error !== undefined).map(({ slot, pid, error }) => `slot ${slot}${pid === null ? '' : ` (pid ${pid})`}: ${oneLine(error as string)}`)
  const head = `${desk.title(oneLine(script))} (pid ${pid}): ${oneLine(state)}, generation ${generation}, ${ready} of ${wanted} ready, up ${duration(uptimeMs)}`
  return [head, desk.table(COLUMNS, rows), ...errors].join('\n')
}

/** One line for a step. */
function stepLine({ slot, pid, generation, what, why, afterMs }: Step): string {
  return oneLine(`worker ${slot}${pid === undefined ? '' : ` (pid ${pid})`} of generation ${generation}: ${what}${
    afterMs === undefined ? '' : ` in ${duration(afterMs)}`}${why === undefined ? '' : `: ${why}`}`)
}

/** The steps of a command as they come in: on a terminal one line for each worker, with what it did last; in a pipe one for each step. */
export class Steps {
  #view: Live
  #title: string
  #waiting: string | undefined
  #workers = new Map<string, Step>()
  /** What others do while we wait for them. */
  #others = new Map<string, Step>()
  #began = Date.now()
  #timer: NodeJS.Timeout
  #done: Promise<void> = Promise.resolve()

  constructor(view: Live, title: string) {
    this.#view = view
    this.#title = title
    this.#timer = setInterval(() => this.#paint(), 500)
    this.#paint(title)
  }

  step(step: Step): void {
    const key = `${step.slot}/${step.generation}/${step.pid ?? '-'}`
    const ours = this.#waiting === undefined || this.#workers.has(key)
    void (ours ? this.#workers : this.#others).set(key, step)
    this.#paint(stepLine(step))
  }

  /** Undefined: it goes on, and what others did meanwhile is over. */
  waiting(why: string | undefined): void {
    this.#waiting = why === undefined ? undefined : `waiting: ${oneLine(why)}`
    if (why === undefined) this.#others.clear()
    this.#paint(this.#waiting ?? this.#title)
  }

  /** Leaves what has happened standing. */
  async end(): Promise<void> {
    clearInterval(this.#timer)
    await this.#done
    this.#view.end(true)
  }

  #paint(line?: string): void {
    const steps = [...this.#workers.values(), ...this.#others.values()].toSorted((a, b) => a.slot - b.slot || a.generation - b.generation).map(step => `  ${stepLine(step)}`)
    const picture = [`${this.#waiting ?? this.#title} (${duration(Date.now() - this.#began)})`, ...steps].join('\n')
    // One after the other; a screen that has gone is found out by the result.
    this.#done = this.#done.then(() => this.#view.paint(picture, line)).catch(() => {})
  }
}
