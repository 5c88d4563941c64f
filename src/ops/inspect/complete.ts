import type { InspectorSession } from './inspector.ts'

/** At most so many names in one answer. */
const MOST = 500
const ANSWER_MS = 500

const WORDS = ('async await break case catch class const continue debugger default delete do else export extends false finally for function ' +
  'if import in instanceof let new null return static super switch this throw true try typeof var void while with yield').split(' ')

/** What could stand in place of `prefix`, the end of the code. */
export interface Completion {
  prefix: string
  names: string[]
}

/**
 * Names for the end of a line: of variables, or of the properties of `a.b.` or `a?.b[0].`. Nothing is called, and no getter runs but
 * that of a global such as `process`, which V8 stops at the first step that might change something.
 *
 * @param held How the session calls its last value, for `_`.
 */
export async function complete(session: InspectorSession, code: string, held: string): Promise<Completion> {
  const [, chain = '', prefix = ''] = /((?:[A-Za-z_$][\w$]*(?:\[(?:\d+|'[^'\\]*'|"[^"\\]*")\])*\??\.)*)([A-Za-z_$][\w$]*)?$/.exec(code) ?? []
  const before = code.slice(0, code.length - chain.length - prefix.length)
  // After `foo().` or `"x".`: of what, we cannot tell without a call.
  if (before.endsWith('.') || (chain !== '' && /[\])"'`\w$]$/.test(before))) return { prefix, names: [] }
  const [first = 'globalThis', ...path] = stepsOf(chain)
  const names = await namesOf(session, first === '_' ? held : first, path)
  if (chain === '') names.push(...WORDS, ...(await session.post<{ names: string[] }>('Runtime.globalLexicalScopeNames', {}, { timeoutMs: ANSWER_MS })).names)
  const found = [...new Set(names)].filter(name => name.startsWith(prefix) && /^[A-Za-z_$][\w$]*$/.test(name))
  return { prefix, names: found.sort().slice(0, MOST) }
}

/** `a?.b[0]['c'].` as a, b, 0, c. */
const stepsOf = (chain: string) => [...chain.matchAll(/([A-Za-z_$][\w$]*)|\[(?:(\d+)|'([^']*)'|"([^"]*)")\]/g)]
  .map(([, word, index, single, double]) => word ?? index ?? single ?? double ?? '')

/** By descriptors: no getter and no proxy's trap runs. */
const NAMES = String.raw`((object, path) => {
  const { isProxy } = process.getBuiltinModule('node:util').types
  const names = []
  const step = (from, key) => {
    for (let at = from === undefined || from === null ? null : Object(from); at !== null && !isProxy(at); at = Object.getPrototypeOf(at)) {
      const found = Object.getOwnPropertyDescriptor(at, key)
      if (found !== undefined) return found.value
    }
  }
  let from = object
  for (let i = 0; i < path.length; i++) from = step(from, path[i])
  for (let at = from === undefined || from === null ? null : Object(from); at !== null && !isProxy(at); at = Object.getPrototypeOf(at)) {
    if (Array.isArray(at) || ArrayBuffer.isView(at)) continue
    const own = Object.getOwnPropertyNames(at)
    for (let i = 0; i < own.length && names.length < 20000; i++) names.push(own[i])
  }
  return names
})`

async function namesOf(session: InspectorSession, first: string, path: string[]): Promise<string[]> {
  const { result, exceptionDetails } = await session.post<{ result: { value?: string[] }; exceptionDetails?: object }>('Runtime.evaluate', {
    expression: `${NAMES}(${first}, ${JSON.stringify(path)})`,
    includeCommandLineAPI: true,
    returnByValue: true,
    silent: true,
    disableBreaks: true,
    throwOnSideEffect: true,
    timeout: ANSWER_MS,
  }, { timeoutMs: 2 * ANSWER_MS })
  return exceptionDetails ? [] : result.value ?? []
}
