import { Script } from 'node:vm'

/** How a piece of code is to be evaluated. */
export interface Plan {
  /** What V8 gets. */
  code: string
  /** Its value is in `v` of an object, so that V8 does not hand over a string of any length, nor main hear of a rejection that nobody handles. */
  held: boolean
  /** `replMode`: `let` and `const` may be declared again, and `await` stands at the top. */
  repl: boolean
  /** Its value comes later, by `await` at the top. */
  awaits: boolean
}

/** Compiled here, on the endpoint's thread, by the same V8: main is not asked, and nothing runs. @returns V8's message and place, or undefined. */
function fault(code: string): { message: string; line?: number; column?: number } | undefined {
  try {
    void new Script(code, { filename: 'code' })
    return undefined
  } catch (error) {
    const { message, stack = '' } = error as Error
    const place = /^code:(\d+)\n.*\n( *)\^/.exec(stack)
    return place ? { message, line: Number(place[1]), column: place[2]!.length } : { message }
  }
}

const compiles = (code: string) => fault(code) === undefined

/** The value in an object. A promise that was made by this is marked as handled: whoever asked hears of its rejection, the process does not die of it. */
const hold = (code: string, sideEffects: boolean) => sideEffects
  ? `(v => (process.getBuiltinModule('node:util').types.isPromise(v) && Promise.prototype.then.call(v, () => {}, () => {}), { v }))((${code}\n))`
  : `({ v: (${code}\n) })`

export function plan(code: string, sideEffects: boolean): Plan {
  // As a declaration it would be an expression just as well.
  const declares = /^\s*(?:async\s+)?(?:function|class)\b/.test(code)
  if (!declares && compiles(`(${code}\n)`)) return { code: hold(code, sideEffects), held: true, repl: false, awaits: false }
  if (compiles(code)) return { code, held: false, repl: /\b(?:let|const|class)\b/.test(code), awaits: false }
  if (!declares && compiles(`async () => (${code}\n)`)) return { code: hold(code, sideEffects), held: true, repl: true, awaits: true }
  return { code, held: false, repl: true, awaits: compiles(`async () => {${code}\n}`) }
}

/** Whether more lines could make it whole: it is not wrong, it only ends too soon. */
export function isRecoverable(code: string): boolean {
  const found = fault(code)
  if (!found) return false
  const { message, line, column } = found
  if (tooShort(message)) return true
  // With `await` at the top it has to be looked at inside of an async function, whose own end is left out.
  if (/\bawait\b/.test(code) && !compiles(`async () => {${code}\n}`)) {
    const inside = fault(`async () => {${code}`)
    if (inside && tooShort(inside.message)) return true
  }
  const rest = line === undefined ? '' : code.split('\n').slice(line - 1).join('\n').slice(column)
  if (message.startsWith('Missing } in template')) return !rest.includes('}')
  // The place is that of the last token before.
  if (/^missing \)/i.test(message)) return /^(?:[\w$.]+|(['"`])(?:(?!\1).)*\1|\S)\s*$/s.test(rest)
  return message === 'Invalid or unexpected token' && (rest.startsWith('/*') || /^['"].*\\$/.test(rest))
}

const tooShort = (message: string) => /^Unexpected end of input|^Missing catch or finally/.test(message)
