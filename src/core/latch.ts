/** Opens once and stays open: what waits for it is told once, and a moment that looks like the end is not taken for it. */
export class Latch<T = void> {
  readonly opened: Promise<T>
  isOpen = false
  #resolve!: (value: T) => void

  constructor() {
    this.opened = new Promise(resolve => {
      this.#resolve = resolve
    })
  }

  /** Later calls do nothing. */
  open(value: T): void {
    this.isOpen = true
    this.#resolve(value)
  }
}
