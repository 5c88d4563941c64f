import { setTimeout as sleep } from 'node:timers/promises'
import type { Connect } from './inspector.ts'
import { takeStack } from './stack.ts'

/** For a look, and for V8's debugger to come up: it tells every script first. */
const LOOK_MS = 100
const DEBUGGER_MS = 5_000

interface Paused {
  callFrames: { location: { scriptId: string } }[]
}

/**
 * Ends an evaluation that never returns after its first `await`: V8's own time limit covers only what comes before that, and main would
 * be lost. The rest of what runs at that moment, other promises' reactions included, is lost with it (V8 empties the queue when it
 * terminates), which is why it is done in this case only, and only while main stands still inside of our own source: nothing else is ever ended.
 *
 * @param name The source's.
 * @returns Whether there was something to end.
 */
export async function rescue(connect: Connect, name: string): Promise<boolean> {
  const { frames } = await takeStack(connect, { frames: 200, waitMs: LOOK_MS })
  if (!frames.some(({ file }) => file === name)) return false
  const session = connect()
  try {
    const ours = new Set<string>()
    session.on<{ scriptId: string; url: string }>('Debugger.scriptParsed', ({ scriptId, url }) => {
      if (url === name) ours.add(scriptId)
    })
    const paused = new Promise<Paused>(resolve => {
      session.on<Paused>('Debugger.paused', resolve)
    })
    await session.post('Debugger.enable', {}, { timeoutMs: DEBUGGER_MS })
    await session.post('Debugger.pause', {}, { timeoutMs: DEBUGGER_MS })
    const at = await Promise.race([paused, sleep(LOOK_MS)])
    if (!at) return false
    const found = at.callFrames.some(({ location }) => ours.has(location.scriptId))
    // Answered once it has taken effect, which is after the resume.
    if (found) session.post('Runtime.terminateExecution', {}, { timeoutMs: DEBUGGER_MS }).catch(() => {})
    await session.post('Debugger.resume', {}, { timeoutMs: DEBUGGER_MS })
    return found
  } finally {
    // A pause that is still to come is taken back with it.
    await session.post('Debugger.disable', {}, { timeoutMs: DEBUGGER_MS }).catch(() => {})
    session.disconnect()
  }
}
