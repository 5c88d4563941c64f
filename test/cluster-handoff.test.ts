import assert from 'node:assert/strict'
import net from 'node:net'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { until, world, type World } from './_cluster.ts'

// More than enough: without the remedy nearly every one of them leaves a client behind.
const KILLS = 12

interface Ends {
  ok: number
  cut: number
  refused: number
  hung: number
}

/** Connects, asks, and goes; again and again. */
class Callers {
  readonly ends: Ends = { ok: 0, cut: 0, refused: 0, hung: 0 }
  #on = true
  #loops: Promise<void>[]

  constructor(it: World, count: number) {
    this.#loops = Array.from({ length: count }, async () => {
      while (this.#on) await this.#call(it)
    })
  }

  async stop(): Promise<Ends> {
    this.#on = false
    await Promise.all(this.#loops)
    return this.ends
  }

  #call(it: World): Promise<void> {
    return new Promise(resolve => {
      const socket = net.connect(it.address)
      let text = ''
      const end = (how: keyof Ends) => {
        clearTimeout(late)
        socket.removeAllListeners().on('error', () => {}).destroy()
        this.ends[how]++
        resolve()
      }
      // The machine may be busy; a client that hangs, hangs for ever.
      const late = setTimeout(end, 15_000, 'hung')
      socket.once('connect', () => socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n'))
      socket.on('data', chunk => {
        text += chunk.toString()
      })
      socket.once('end', () => end(text.includes('\r\n\r\n') ? 'ok' : 'cut'))
      socket.once('error', (error: NodeJS.ErrnoException) => end(error.code === 'ECONNREFUSED' ? 'refused' : 'cut'))
    })
  }
}

test(`${KILLS} workers that are killed under load leave no client hanging, and the service goes on`, () => world(async it => {
  const callers = new Callers(it, 20)
  await until(() => callers.ends.ok > 50, 'fifty answers')
  for (let kills = 0; kills < KILLS; kills++) {
    await until(() => it.supervisor.status().ready >= 2, 'two ready workers', 30_000)
    const ready = it.supervisor.status().workers.filter(({ state }) => state === 'ready')
    process.kill(ready[kills % ready.length]!.pid!, 'SIGKILL')
    await sleep(50)
  }
  await until(() => it.supervisor.status().ready === 3, 'three ready workers again')
  const { ok } = callers.ends
  await until(() => callers.ends.ok > ok + 20, 'more answers')
  const ends = await callers.stop()
  assert.equal(ends.hung, 0, JSON.stringify(ends))
  assert.equal(it.supervisor.status().workers.length, 3)
}, { workers: 3, readyMs: 0, crashLimit: 1_000 }))
