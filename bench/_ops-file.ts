/** What a heap snapshot's way from V8 to a slow reader takes of the process's memory. */
import { fork } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createWriteStream, mkdtempSync, rmSync } from 'node:fs'
import http from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { nextMessage } from './_spawn.ts'

/** Bytes. `…Most`: since the last look, by the 10 ms. */
export interface Look {
  rss: number
  rssMost: number
  /** The most ever; null where the kernel does not say. */
  peak: number | null
  /** Of the endpoint's thread: its heap, as it takes it from the machine, and its external memory with all buffers. */
  own: number
  ownMost: number
  externalMost: number
}

/** What V8, or the file that stands in for it, gave. */
interface Taken { bytes: number, pauseMs: number, rssAfter: number }

interface Artifact { name: string, bytes: number, sha256: string }

interface Job { state: string, id: string, problem?: unknown, result: { artifact: Artifact, taken: Taken } }

/** A snapshot's way, and what was seen in it. */
export interface Fetched {
  artifact: Artifact
  taken: Taken
  /** Before the snapshot; from then on until the file was finished; while it was fetched. */
  idle: Look
  making: Look
  fetching: Look
  /** From the pause on until the file was finished, and for the download. */
  makingMs: number
  fetchingMs: number
}

const ASK_MS = 200

/** A process of its own that can be asked for its memory. */
export class FileSite {
  #child
  #token: string | undefined
  #folder: string
  #url = ''

  /** @param site `endpoint`: with one. `standIn`: a file that is copied in V8's place, so that none of V8's memory is in the figures. */
  constructor({ built, heapMB, endpoint, standIn }: { built: string, heapMB: number, endpoint: boolean, standIn?: string }) {
    this.#folder = mkdtempSync(join(tmpdir(), 'lameduck-file-'))
    this.#token = endpoint ? randomBytes(32).toString('base64url') : undefined
    const args = { built, heapMB, token: this.#token, files: join(this.#folder, 'files'), standIn }
    this.#child = fork(fileURLToPath(new URL('_ops-file-server.mjs', import.meta.url)), [JSON.stringify(args)], { execArgv: [] })
  }

  async start(): Promise<this> {
    this.#url = (await nextMessage<{ url: string }>(this.#child)).url
    return this
  }

  async look(): Promise<Look> {
    this.#child.send({ look: true })
    return nextMessage<Look>(this.#child)
  }

  /** The other control: nothing happens, and is asked for as it is while a snapshot is made. What the first answers load belongs to an endpoint that is at rest. */
  async rest(seconds: number): Promise<{ before: Look, after: Look }> {
    const before = await this.look()
    const until = performance.now() + seconds * 1_000
    while (performance.now() < until) {
      if (this.#token !== undefined) for (const path of ['/heap/estimate', '/jobs', '/artifacts']) await this.#json('GET', path)
      await sleep(ASK_MS)
    }
    return { before, after: await this.look() }
  }

  /** The control: V8 alone. @returns RSS right after. */
  async write(path: string): Promise<{ rss: number }> {
    this.#child.send({ path })
    return nextMessage<{ rss: number }>(this.#child)
  }

  /** @param query Of `POST /heap/snapshots`. @param to Where the download goes. @param seconds That it is to last. */
  async fetch(query: string, to: string, seconds: number): Promise<Fetched> {
    const idle = await this.look()
    const began = performance.now()
    let job = await this.#json<Job>('POST', `/heap/snapshots?${query}`)
    while (job.state === 'running') {
      await sleep(ASK_MS)
      job = await this.#json<Job>('GET', `/jobs/${job.id}`)
    }
    if (job.state !== 'done') throw new Error(JSON.stringify(job.problem))
    const { artifact, taken } = job.result
    const made = performance.now()
    const making = await this.look()
    await this.#download(artifact, to, seconds)
    const fetchingMs = performance.now() - made
    return { artifact, taken, idle, making, fetching: await this.look(), makingMs: made - began - taken.pauseMs, fetchingMs }
  }

  async close(): Promise<void> {
    this.#child.kill('SIGKILL')
    if (this.#child.exitCode === null && this.#child.signalCode === null) await once(this.#child, 'exit')
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #request(method: string, path: string): Promise<http.IncomingMessage> {
    const req = http.request(`${this.#url}${path}`, { method, agent: false, headers: { Authorization: `Bearer ${this.#token}` } })
    req.end()
    const [res] = await once(req, 'response') as [http.IncomingMessage]
    return res
  }

  async #json<T>(method: string, path: string): Promise<T> {
    const res = await this.#request(method, path)
    const chunks: Buffer[] = []
    for await (const chunk of res) chunks.push(chunk as Buffer)
    const text = Buffer.concat(chunks).toString()
    if ((res.statusCode ?? 500) >= 300) throw new Error(`${method} ${path}: ${res.statusCode} ${text}`)
    return JSON.parse(text) as T
  }

  /** A reader that is slower than any disk, and takes nothing at all for a while in the middle. @throws Unless it got the whole file. */
  async #download({ name, bytes, sha256 }: Artifact, to: string, seconds: number): Promise<void> {
    const res = await this.#request('GET', `/artifacts/${name}`)
    const file = createWriteStream(to)
    const hash = createHash('sha256')
    const began = performance.now()
    let [got, rested] = [0, false]
    for await (const chunk of res as AsyncIterable<Buffer>) {
      hash.update(chunk)
      if (!file.write(chunk)) await once(file, 'drain')
      got += chunk.length
      if (got > bytes / 2 && !rested) {
        rested = true
        await sleep(seconds * 200)
      }
      const early = began + got / bytes * seconds * 1_000 - performance.now()
      if (early > 5) await sleep(early)
    }
    file.end()
    await once(file, 'close')
    if (got !== bytes || hash.digest('hex') !== sha256) throw new Error(`the download has ${got} bytes of ${bytes}, or others`)
  }
}
