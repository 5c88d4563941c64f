/**
 * Which strings of a heap snapshot are names that the program's text gave, and which are data.
 *
 * A string's text stays only where it serves as a name, and only if it is one of these:
 *
 * - of V8's and Node's own (internal nodes and edges): if it looks like one;
 * - of a function, a script, a variable in a scope: they come from source text; if it looks like one;
 * - of a constructor: if a function of that name is in the heap, or the text of a function mentions it, or it is a built-in's;
 * - of a property, a symbol, a private field: if compiled code mentions it (in a function's constants, an object literal, a scope),
 *   or a function has that name, and it looks like an identifier. A key that came in as data is mentioned nowhere: a dictionary's keys go.
 *
 * Everything else becomes `*` and a number: equal strings stay equal, and nothing of them is left.
 */

/** How a string is used, as bits. */
export const USE = {
  property: 1,
  internal: 2,
  code: 4,
  object: 8,
  variable: 16,
  /** Compiled code mentions it. */
  mentioned: 32,
} as const

const IDENTIFIER = /^#?[A-Za-z_$][\w$]*(?:-[A-Za-z_$][\w$]*)*$/
/** As generated ids, tokens and card numbers look: code may mention one, too. */
const GENERATED = /(?:\d\D*){5}|^.{65}/s
const INTERNAL = /^[\w $./()<>:,~&@#+-]{0,120}$/
const CONSTRUCTOR = /^[A-Za-z_$][\w$]*(?:[ ./:-]{1,3}[A-Za-z_$][\w$]*)*$/
const FUNCTION = /^(?:(?:get|set|bound|async|static) )*[#\w$.<>[\]()&+`' /-]{0,120}$/
const SCRIPT = /^(?:node:|file:\/\/|\/|[A-Za-z]:\\|\.{0,2}\/)[^?#"*<>|]{0,300}$/
const BUILT_IN = /^(?:system \/ .+|Node \/ .+|(?:[A-Za-z-]+ )*Iterator(?: Helper)?|(?:Async)?Generator|global(?: \(global\*?\))?|Math|JSON|Atomics|Reflect|(?:Intl|WebAssembly)(?:\.\w+)?)$/
const WELL_KNOWN = /^(?:Symbol\.\w+|node:\w+|nodejs(?:\.\w+)+)$/
const WEAK_PAIR = /^(\d+ \/ part of key \().*( @\d+\) -> value \().*( @\d+\) pair in WeakMap \(table @\d+\))$/s

/** A hash set of names: 8 bytes each, where a Set of strings would take ten times that. */
export class Names {
  #table = new Uint32Array(2 * 4_096)
  #size = 0

  add(name: string): void {
    const [a, b] = hash(name)
    if (4 * ++this.#size > this.#table.length) this.#grow()
    this.#put(a, b)
  }

  has(name: string): boolean {
    const [a, b] = hash(name)
    const table = this.#table
    for (let at = 2 * (a % (table.length / 2)); table[at] !== 0 || table[at + 1] !== 0; at = (at + 2) % table.length) {
      if (table[at] === a && table[at + 1] === b) return true
    }
    return false
  }

  #put(a: number, b: number): void {
    const table = this.#table
    let at = 2 * (a % (table.length / 2))
    while (table[at] !== 0 || table[at + 1] !== 0) {
      if (table[at] === a && table[at + 1] === b) return
      at = (at + 2) % table.length
    }
    table[at] = a
    table[at + 1] = b
  }

  #grow(): void {
    const old = this.#table
    this.#table = new Uint32Array(2 * old.length)
    for (let at = 0; at < old.length; at += 2) if (old[at] !== 0 || old[at + 1] !== 0) this.#put(old[at] as number, old[at + 1] as number)
  }
}

/** 64 bits: two rounds of FNV-1a with different starts. Never both zero. */
function hash(name: string): [number, number] {
  let [a, b] = [0x811c9dc5, 0x01000193]
  for (let at = 0; at < name.length; at++) {
    const unit = name.charCodeAt(at)
    a = Math.imul(a ^ unit, 0x01000193)
    b = Math.imul(b ^ unit, 0x5bd1e995) ^ (b >>> 13)
  }
  return [a >>> 0, (b >>> 0) || 1]
}

/** A property's name without what V8 puts around it: `get x`, `<symbol x>`, `#x`. */
function bare(name: string): string {
  return name.replace(/^(?:get|set) /, '').replace(/^<symbol (.*)>$/s, '$1')
}

function isPropertyName(name: string, known: Names): boolean {
  const plain = bare(name)
  if (name !== plain && (plain === '' || WELL_KNOWN.test(plain))) return true
  if (name === '<symbol>') return true
  if (!IDENTIFIER.test(plain) || GENERATED.test(plain)) return false
  return known.has(plain) || (plain.startsWith('#') && known.has(plain.slice(1)))
}

/** Whether other names of this text are to be found by {@link Names}: it is mentioned by code, or a function's. */
export function isEvidence(uses: number): boolean {
  return (uses & (USE.mentioned | USE.code)) !== 0
}

/** Whether a string may stay only by how it is used: without one of these it goes, whatever it says. */
export function mayStay(uses: number): boolean {
  return (uses & ~USE.mentioned) !== 0
}

/**
 * What becomes of a string that serves as a name.
 *
 * @returns The string itself, or what stays of it; undefined when nothing does.
 */
export function keptName(text: string, uses: number, known: Names): string | undefined {
  if (text === '' || text === '<dummy>') return text
  if (uses & USE.internal) {
    const pair = WEAK_PAIR.exec(text)
    if (pair) return `${pair[1]}*${pair[2]}*${pair[3]}`
    if (INTERNAL.test(text)) return text
  }
  if (uses & USE.code && (FUNCTION.test(text) || SCRIPT.test(text))) return text
  if (uses & USE.variable && IDENTIFIER.test(text)) return text
  if (uses & USE.object && (BUILT_IN.test(text) || (CONSTRUCTOR.test(text) && known.has(text)))) return text
  if (uses & USE.property && isPropertyName(text, known)) return text
  return undefined
}
