import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { Child } from './_child.ts'
import { Client } from './_client.ts'
import { until } from './_until.ts'
import type { Note, Order } from './fixtures/workers.ts'

/** Two workers behind one port, or behind a unix socket. */
async function cluster(run: (crew: Crew) => Promise<void>, path?: string): Promise<void> {
  const child = new Child('workers.ts', path === undefined ? [] : [path], { ipc: true })
  try {
    const crew = new Crew(child)
    for (const index of [0, 1]) await crew.heard(({ worker, port, path }) => worker === index && (port ?? path) !== undefined)
    await run(crew)
  } finally {
    // The workers leave when their primary does.
    await child.close()
  }
}

class Crew {
  readonly child: Child
  #notes: Note[] = []

  constructor(child: Child) {
    this.child = child
    child.process.on('message', note => this.#notes.push(note as Note))
  }

  get address() {
    const { port, path } = this.#notes.find(({ port, path }) => (port ?? path) !== undefined)!
    return path === undefined ? { host: '127.0.0.1', port: port! } : { path }
  }

  get closed(): boolean {
    return this.#notes.some(({ closed }) => closed)
  }

  async heard(match: (note: Note) => boolean, ms = 15_000): Promise<Note> {
    for (const limit = performance.now() + ms; performance.now() < limit; await sleep(5)) {
      const note = this.#notes.find(match)
      if (note) return note
    }
    throw new Error(`not heard within ${ms} ms; heard ${JSON.stringify(this.#notes)}\n${this.child.stderr}`)
  }

  tell(order: Order): void {
    this.child.process.send(order)
  }

  /** A connection that a certain worker has answered on, kept alive. */
  async keep(worker: string): Promise<Client> {
    for (let i = 0; i < 20; i++) {
      const client = await Client.open(this.address)
      client.request('/')
      if ((await client.answer()).text === worker) return client
      client.destroy()
    }
    throw new Error(`no connection of worker ${worker}`)
  }

  /** A new connection with one request. @returns Which worker answered. */
  async ask(): Promise<string> {
    const client = await Client.open(this.address)
    client.request('/')
    const { text } = await client.answer()
    client.destroy()
    return text
  }
}

test('a worker gives up its listener at the start of its lame duck: the other one gets every new connection', () => cluster(async crew => {
  const before = new Set(await Promise.all(Array.from({ length: 20 }, () => crew.ask())))
  assert.deepEqual([...before].sort(), ['0', '1'])
  // One connection to the first of them, kept alive: its lame duck lasts as long as that.
  const own = await crew.keep('0')

  crew.tell({ worker: 0, what: 'SIGTERM' })
  // While it gives up its listener, too: nobody is refused or reset.
  const during: Promise<string>[] = []
  for (let i = 0; i < 40; i++) {
    during.push(crew.ask())
    await sleep(2)
  }
  await Promise.all(during)
  await crew.heard(({ worker, state }) => worker === 0 && state === 'lameduck')
  const after = new Set(await Promise.all(Array.from({ length: 40 }, () => crew.ask())))
  assert.deepEqual([...after], ['1'])
  // What it holds, it serves.
  own.request('/slow')
  const answer = await own.answer()
  assert.equal(answer.text, '0')
  assert.equal(answer.header('connection'), 'close')
  const { exit } = await crew.heard(({ worker, exit: code }) => worker === 0 && code !== undefined)
  assert.equal(exit, 0)
  assert.deepEqual([...new Set(await Promise.all(Array.from({ length: 10 }, () => crew.ask())))], ['1'])
}))

test('on a unix socket a worker that is drained takes the path from nobody', { skip: process.platform === 'win32' && 'no unix sockets' }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'lameduck-cluster-'))
  const path = join(folder, 'app.sock')
  try {
    await cluster(async crew => {
      crew.tell({ worker: 0, what: 'SIGTERM' })
      const { exit } = await crew.heard(({ worker, exit: code }) => worker === 0 && code !== undefined)
      assert.equal(exit, 0)
      assert.ok(existsSync(path))
      assert.deepEqual(new Set(await Promise.all(Array.from({ length: 5 }, () => crew.ask()))), new Set(['1']))
    }, path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
})

test('a worker that comes back from its lame duck listens again', () => cluster(async crew => {
  crew.tell({ worker: 0, what: 'lameduck' })
  await crew.heard(({ worker, state }) => worker === 0 && state === 'lameduck')
  assert.deepEqual([...new Set(await Promise.all(Array.from({ length: 20 }, () => crew.ask())))], ['1'])
  crew.tell({ worker: 0, what: 'resume' })
  await crew.heard(({ worker, state }) => worker === 0 && state === 'running')
  // The primary hears of it later.
  await until(async () => (await crew.ask()) === '0', 'a connection of the worker that is back')
  assert.deepEqual([...new Set(await Promise.all(Array.from({ length: 20 }, () => crew.ask())))].sort(), ['0', '1'])
}))

test('a worker whose last connection ends as it comes back hears no `close` of its server', () => cluster(async crew => {
  const client = await crew.keep('0')
  crew.tell({ worker: 0, what: 'lameduck' })
  await crew.heard(({ worker, state }) => worker === 0 && state === 'lameduck')
  crew.tell({ worker: 0, what: 'resume, and drop' })
  await crew.heard(({ worker, state }) => worker === 0 && state === 'running')
  await client.ended()
  await until(async () => (await crew.ask()) === '0', 'a connection of the worker that is back')
  assert.equal(crew.closed, false)
}))

test('a worker that is closed by the application as it comes back has its `close`, and its callback', () => cluster(async crew => {
  crew.tell({ worker: 0, what: 'lameduck' })
  await crew.heard(({ worker, state }) => worker === 0 && state === 'lameduck')
  crew.tell({ worker: 0, what: 'resume, and close' })
  await crew.heard(({ worker, calledBack }) => worker === 0 && calledBack === true)
  assert.equal(crew.closed, true)
}))
