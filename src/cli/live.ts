import { harmless } from './format.ts'
import { isWindow, write, type Screen } from './io.ts'

/** What changes while a person waits: repainted on a terminal; in a pipe one line for each thing that is new. */
export interface Live {
  /** Paints the picture; in a pipe it is the `line` that is written, once. */
  paint(picture: string, line?: string): Promise<void>
  /** Leaves the last picture standing, or takes it away. */
  end(keep?: boolean): void
}

async function onTerminal(screen: Screen): Promise<Live> {
  const { createLogUpdate } = await import('log-update')
  // With the cursor left alone nothing needs to be put right again after a signal.
  const log = createLogUpdate(screen as NodeJS.WriteStream, { showCursor: true })
  return {
    paint(picture) {
      // All of it: log-update 7.2 loses lines, and some above the picture, when one is added in the middle. In one write: no flicker.
      screen.cork()
      log.clear()
      log(picture)
      screen.uncork()
      return Promise.resolve()
    },
    end(keep = false) {
      if (keep) log.done()
      else log.clear()
    },
  }
}

/** @param screen Where: stderr beside a result on stdout. */
export async function live(screen: Screen): Promise<Live> {
  if (isWindow(screen)) return onTerminal(screen)
  let last: string | undefined
  return {
    async paint(_, line) {
      if (line === undefined || line === last) return
      last = line
      await write(screen, `${harmless(line)}\n`)
    },
    end() {},
  }
}

/** Ctrl-C and its like for as long as something needs to be called off. @returns What stops listening. */
export function onInterrupt(io: { on(event: NodeJS.Signals, listener: () => void): unknown; off(event: NodeJS.Signals, listener: () => void): unknown }, listener: () => void): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
  for (const signal of signals) io.on(signal, listener)
  return () => {
    for (const signal of signals) io.off(signal, listener)
  }
}
