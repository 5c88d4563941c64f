import { constants } from 'node:os'
import { DOUBLED_MS } from '../core/lifecycle.ts'

/** What signals ask for. */
export interface Orders {
  stop(signal: 'SIGTERM' | 'SIGINT'): void
  /** A second one: nobody wants to wait. @param code Of the exit, as a shell says it. */
  force(signal: 'SIGTERM' | 'SIGINT', code: number): void
  reload(): void
}

/** Listens to SIGTERM, SIGINT and SIGHUP; SIGUSR2 and the others are left alone. @returns What stops it. */
export function listenToSignals(orders: Orders): () => void {
  let first: { signal: string; at: number } | undefined
  const end = (signal: 'SIGTERM' | 'SIGINT') => {
    const now = performance.now()
    if (!first) orders.stop(signal)
    else if (signal !== first.signal || now - first.at >= DOUBLED_MS) orders.force(signal, 128 + constants.signals[signal])
    first ??= { signal, at: now }
  }
  const listeners: [NodeJS.Signals, () => void][] = [
    ['SIGTERM', () => end('SIGTERM')],
    ['SIGINT', () => end('SIGINT')],
    ['SIGHUP', () => orders.reload()],
  ]
  for (const [signal, listener] of listeners) process.on(signal, listener)
  return () => {
    for (const [signal, listener] of listeners) process.off(signal, listener)
  }
}
