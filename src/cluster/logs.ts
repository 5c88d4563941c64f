import type { Readable, Writable } from 'node:stream'
import { Lines } from './lines.ts'
import type { Settings } from './options.ts'

/** Whose lines they are. */
interface Source {
  slot: number
  pid: number
  stream: 'stdout' | 'stderr'
}

const NEWLINE = Buffer.from('\n')

/**
 * Passes the lines of workers on, whole: each is written at once, and no line of another worker comes between. While the
 * destination does not take more, nothing is read, so a slow one slows the workers down and nothing is kept in memory.
 */
export class Logs {
  #style: Settings['logs']
  #outs: Record<Source['stream'], Writable>
  #sources = new Map<Readable, Writable>()
  #held = new Set<Writable>()
  #open = new Set<Promise<void>>()
  #release: (() => void)[] = []

  constructor({ logs, stdout, stderr }: Pick<Settings, 'logs' | 'stdout' | 'stderr'>) {
    this.#style = logs
    this.#outs = { stdout, stderr }
    for (const out of new Set([stdout, stderr])) {
      // Whoever read our output has gone: that must not take the service along.
      const ignore = () => {}
      out.on('error', ignore)
      this.#release.push(() => out.off('error', ignore))
    }
  }

  attach(readable: Readable, source: Source): void {
    const out = this.#outs[source.stream]
    this.#sources.set(readable, out)
    const lines = new Lines(line => this.#write(out, this.#format(line, source)))
    const done = new Promise<void>(resolve => {
      readable.on('data', (chunk: Buffer) => lines.push(chunk))
      readable.on('error', () => {})
      // `close` comes after `end`, and after an error as well.
      readable.once('close', () => {
        lines.end()
        this.#sources.delete(readable)
        resolve()
      })
    })
    this.#open.add(done)
    void done.then(() => this.#open.delete(done))
    if (this.#held.has(out)) readable.pause()
  }

  /**
   * All that workers wrote has been passed on. A process that a worker has left behind may keep its output open: that is
   * waited for no longer than this.
   */
  async flushed(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, ms)
    })
    const written = (out: Writable) => new Promise<void>(resolve => {
      if (out.destroyed || !out.writable) resolve()
      else out.write('', () => resolve())
    })
    const all = Promise.all([...this.#open]).then(() => Promise.all([...new Set(Object.values(this.#outs))].map(written)))
    await Promise.race([all, late])
    clearTimeout(timer)
    for (const readable of this.#sources.keys()) readable.destroy()
  }

  close(): void {
    for (const release of this.#release.splice(0)) release()
  }

  #format(line: Buffer, { slot, pid, stream }: Source): Buffer {
    if (this.#style === 'plain') return Buffer.concat([line, NEWLINE])
    if (this.#style === 'prefix') return Buffer.concat([Buffer.from(`[${slot}] `), line, NEWLINE])
    return Buffer.from(`${JSON.stringify({ time: new Date().toISOString(), slot, pid, stream, line: line.toString() })}\n`)
  }

  #write(out: Writable, text: Buffer): void {
    if (out.destroyed || out.write(text) || this.#held.has(out)) return
    this.#held.add(out)
    const each = (run: (readable: Readable) => void) => {
      for (const [readable, to] of this.#sources) if (to === out) run(readable)
    }
    each(readable => readable.pause())
    const go = () => {
      out.off('drain', go).off('close', go)
      this.#held.delete(out)
      each(readable => readable.resume())
    }
    out.once('drain', go).once('close', go)
  }
}
