/**
 * What a terminal's window shows when it got these bytes: as much of one (ECMA-48, xterm) as programs here ask for. It throws at
 * what it does not know, so that nothing is left out of the picture.
 */
export class Window {
  readonly columns: number
  readonly rows: number
  /** All lines, those that have scrolled away included. */
  readonly #lines: string[][] = [[]]
  #row = 0
  #column = 0
  /** Whether the cursor is shown. */
  cursor = true
  /** How often colours or the like were set. */
  styled = 0
  /** What was to be seen each time when the program said that a picture was complete. */
  readonly pictures: string[] = []

  constructor(columns: number, rows: number) {
    this.columns = columns
    this.rows = rows
  }

  /** What is to be seen, and what has scrolled away above it; without what is empty at the end. */
  get text(): string {
    return this.#lines.map(line => line.join('').trimEnd()).join('\n').trimEnd()
  }

  /** As far as no sequence is cut in two. */
  write(bytes: string): void {
    const [text = '', ...rest] = bytes.split('\x1b[')
    this.#put(text)
    for (const sequence of rest) {
      const [, parameters = '', final = '', text = ''] = /^([\d;?]*)([A-Za-z])([^]*)$/.exec(sequence) ?? []
      this.#control(parameters, final)
      this.#put(text)
    }
  }

  #put(text: string): void {
    for (const character of text) {
      if (character === '\r') this.#column = 0
      else if (character === '\n') this.#down(1)
      else if (character >= ' ' && character !== '\x7f') this.#print(character)
      else throw new Error(`not for a window: ${JSON.stringify(character)}`)
    }
  }

  #print(character: string): void {
    // The last column is left when there is something to print in the next.
    if (this.#column === this.columns) {
      this.#column = 0
      this.#down(1)
    }
    const line = this.#line()
    while (line.length < this.#column) line.push(' ')
    line[this.#column++] = character
  }

  #line(): string[] {
    while (this.#lines.length <= this.#row) this.#lines.push([])
    return this.#lines[this.#row]!
  }

  #down(count: number): void {
    this.#row += count
    this.#line()
  }

  /** Not above what is to be seen: what has scrolled away cannot be written any more. */
  #up(count: number): void {
    this.#row = Math.max(this.#row - count, this.#lines.length - this.rows, 0)
  }

  #control(parameters: string, final: string): void {
    const count = Number(parameters || 1)
    if (final === 'A') this.#up(count)
    else if (final === 'B') this.#down(Math.min(count, this.#lines.length - 1 - this.#row))
    else if (final === 'G') this.#column = count - 1
    else if (final === 'K') this.#line().splice(parameters === '2' ? 0 : this.#column)
    else if (final === 'm') this.styled++
    else if (parameters === '?25') this.cursor = final === 'h'
    else if (parameters === '?2026') {
      if (final === 'l') this.pictures.push(this.text)
    } else throw new Error(`a sequence that this window does not know: ${parameters}${final}`)
  }
}
