import type { Link } from '../link.ts'

/** News `heap.download`: somebody fetches a file; they have all of it, or it was deleted; they went before that. */
export interface DownloadNews {
  name: string
  what: 'begun' | 'whole' | 'broken'
}

/** On the main thread: whether a file was fetched. Hears of every file from its making on, for who is quick begins before we are told its name. */
export class Downloads {
  #files = new Map<string, { open: number; whole: boolean }>()
  #changed = (_name: string) => {}
  #off: () => void

  constructor(link: Link) {
    this.#off = link.on<DownloadNews>('heap.download', ({ name, what }) => {
      const file = this.#files.get(name) ?? { open: 0, whole: false }
      this.#files.set(name, file)
      if (what === 'begun') file.open++
      else if (what === 'broken') file.open--
      else file.whole = true
      this.#changed(name)
    })
  }

  /**
   * Settles when somebody has the file, and at the latest when nobody has begun to fetch it for `beginMs`, when `mostMs` are over, or when
   * `signal` aborts: never rejects.
   */
  whole(name: string, beginMs: number, mostMs: number, signal: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      let timer: NodeJS.Timeout | undefined
      const over = () => {
        clearTimeout(timer)
        clearTimeout(last)
        signal.removeEventListener('abort', over)
        this.#changed = () => {}
        resolve()
      }
      const last = setTimeout(over, mostMs)
      this.#changed = changed => {
        if (changed !== name) return
        const { open = 0, whole = false } = this.#files.get(name) ?? {}
        clearTimeout(timer)
        if (whole) over()
        else if (open === 0) timer = setTimeout(over, beginMs)
      }
      signal.addEventListener('abort', over, { once: true })
      if (signal.aborted) over()
      else this.#changed(name)
    })
  }

  end(): void {
    this.#off()
  }
}
