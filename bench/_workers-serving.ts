/** How many workers serve: they listen, were not told to go, and live. By their own notes (see _proxy-journal.mjs), whoever supervises them. */
import { readFileSync } from 'node:fs'

const LOOK_MS = 10

const now = () => performance.timeOrigin + performance.now()

export class Serving {
  #file: string
  /** Those that were killed wrote no note. */
  #ends = new Map<number, number>()
  #timer: NodeJS.Timeout

  constructor(file: string) {
    this.#file = file
    this.#timer = setInterval(() => this.#look(), LOOK_MS)
  }

  /** The fewest at any moment since then, on the clock of `Date.now()`. */
  least(since: number): number {
    this.#look()
    const changes = [...this.#lives().values()].flatMap(({ from, to }) => [{ at: from, by: 1 }, ...to === undefined ? [] : [{ at: to, by: -1 }]])
    changes.sort((a, b) => a.at - b.at)
    let count = 0
    for (const { at, by } of changes) if (at <= since) count += by
    let least = count
    for (const { at, by } of changes) if (at > since) least = Math.min(least, count += by)
    return least
  }

  stop(): void {
    clearInterval(this.#timer)
  }

  #lives(): Map<number, { from: number, to?: number }> {
    const lives = new Map<number, { from: number, to?: number }>()
    for (const line of readFileSync(this.#file, 'utf8').split('\n').filter(Boolean)) {
      const [what, pid, at] = line.split(' ').map((word, index) => index === 0 ? word : Number(word)) as [string, number, number]
      const life = lives.get(pid)
      if (what === '+' && !life) lives.set(pid, { from: at })
      else if (what === '-' && life) life.to ??= at
    }
    for (const [pid, at] of this.#ends) {
      const life = lives.get(pid)
      if (life) life.to = Math.min(life.to ?? Infinity, at)
    }
    return lives
  }

  #look(): void {
    for (const pid of this.#lives().keys()) {
      if (!this.#ends.has(pid) && !alive(pid)) this.#ends.set(pid, now())
    }
  }
}

export function alive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}
