/** More of what a worker says than anybody reads. */
const LONGEST = 300

/** What a worker said, fit for a line of a log: its application chose the words, and may be anything. */
export function tame(text: unknown): string {
  const line = String(text).replaceAll(/[\p{Cc}\u2028\u2029]/gu, char => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
  return line.length > LONGEST ? `${line.slice(0, LONGEST)}…` : line
}

/** `1 request`, `2 requests`. */
export function count(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? '' : 's'}`
}
